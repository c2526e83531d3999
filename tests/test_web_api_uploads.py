"""`/api/v1/uploads`: a file in parts, what is refused before and after it was sent, and what remains of it."""

from __future__ import annotations

import fcntl
import hashlib
import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from werkzeug.test import Client, TestResponse

from elasticpypi.auth import Authenticator
from elasticpypi.index import Added, Outcome
from elasticpypi.web.app import create_app
from tests.dists import make_sdist, make_wheel
from tests.site import USERS, Site, open_site
from tests.test_web_api import check_described

ACME = "acme-1.0-py3-none-any.whl"
_NOTHING: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True)
class Sender:
    """Somebody who uploads one file to a site in parts."""

    site: Site
    file: Path
    user: str = "writer"

    @property
    def data(self) -> bytes:
        return self.file.read_bytes()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def url(self) -> str:
        return f"/api/v1/uploads/{self.sha256}.{len(self.data)}.{self.file.name}"

    def begin(self, fields: Mapping[str, object] = _NOTHING) -> TestResponse:
        document = {"filename": self.file.name, "size": len(self.data), "sha256": self.sha256, **fields}
        return self.ask("POST", "/api/v1/uploads", json=document)

    def append(self, start: int, stop: int | None = None, *, url: str | None = None) -> TestResponse:
        return self.send(self.data[start:stop], start, url=url)

    def send(self, data: bytes, offset: object, *, url: str | None = None) -> TestResponse:
        return self.ask("PATCH", url or self.url, data=data, headers={"Upload-Offset": str(offset)})

    def send_stream(self, stream: io.RawIOBase, offset: int, size: int) -> TestResponse:
        body = {"wsgi.input": stream, "CONTENT_LENGTH": str(size)}
        return self.ask("PATCH", self.url, headers={"Upload-Offset": str(offset)}, environ_overrides=body)

    def tell(self) -> TestResponse:
        return self.ask("GET", self.url)

    def finish(self) -> TestResponse:
        return self.ask("POST", f"{self.url}/finish")

    def ask(self, method: str, url: str, **options: Any) -> TestResponse:
        response = self.site.client.open(url, method=method, auth=(self.user, "secret"), **options)
        check_described(method, url, response)
        return response


@pytest.fixture
def sender(site: Site, tmp_path: Path) -> Sender:
    return Sender(site, make_wheel(tmp_path, "acme", "1.0"))


def stored(site: Site) -> list[str]:
    """Return what lies in the storage, what is on its way in as its size."""
    root = site.data / "files"
    found = [path for path in root.rglob("*") if path.is_file() and "first-seen" not in path.parts]
    return sorted(
        str(path.stat().st_size) if "uploads" in path.parts else path.relative_to(root).as_posix()
        for path in found
        if path.name != "lock"
    )


def test_a_file_arrives_in_parts(sender: Sender) -> None:
    size = len(sender.data)
    facts = {"filename": ACME, "project": "acme", "size": size}
    begun = sender.begin()
    assert begun.status_code == 201
    assert begun.json == {
        **facts,
        "id": f"{sender.sha256}.{size}.{ACME}",
        "received": 0,
        "status-url": f"uploads/{sender.sha256}.{size}.{ACME}",
        "parts-url": f"uploads/{sender.sha256}.{size}.{ACME}",
        "finish-url": f"uploads/{sender.sha256}.{size}.{ACME}/finish",
        "part-bytes": 33_554_432,
    }
    for start, stop in ((0, 10), (10, 11), (11, size)):
        part = sender.append(start, stop)
        assert (part.status_code, part.json) == (200, {**facts, "received": stop})
        told = sender.tell()
        assert (told.status_code, told.json) == (200, {**facts, "received": stop})
        assert sender.site.get("/simple/acme/").status_code == 404
    done = sender.finish()
    assert (done.status_code, done.json) == (201, {**facts, "status": "created", "version": "1.0"})
    assert [file["hashes"] for file in sender.site.json("/simple/acme/")["files"]] == [{"sha256": sender.sha256}]
    assert stored(sender.site) == [f"acme/{ACME}"]
    assert {answer.headers["Cache-Control"] for answer in (begun, part, told, done)} == {"no-store"}


def test_the_urls_hold_for_names_that_urls_quote(site: Site, tmp_path: Path) -> None:
    sender = Sender(site, make_wheel(tmp_path, "acme", "1!1.0+local.1"))
    begun = sender.begin().json
    assert begun is not None
    urls = [urljoin("/api/v1/uploads", begun[key]) for key in ("parts-url", "finish-url")]
    assert sender.append(0, url=urls[0]).status_code == 200
    assert sender.ask("POST", urls[1]).status_code == 201
    assert stored(site) == [f"acme/{sender.file.name}"]


def test_who_begins_again_goes_on(sender: Sender) -> None:
    first = sender.begin().json
    sender.append(0, 10)
    again = sender.begin()
    assert first is not None
    assert (again.status_code, again.json) == (200, {**first, "received": 10})
    assert [sender.append(10).status_code, sender.finish().status_code] == [200, 201]


def test_any_process_takes_the_next_part(sender: Sender) -> None:
    other_site = open_site(sender.site.data)
    other = Sender(other_site, sender.file)
    assert [sender.begin().status_code, sender.append(0, 10).status_code] == [201, 200]
    assert [other.append(10).status_code, other.finish().status_code] == [200, 201]
    assert sender.begin().json == {
        "filename": ACME,
        "project": "acme",
        "version": "1.0",
        "size": len(sender.data),
        "status": "unchanged",
    }
    other_site.index.close()


@pytest.mark.parametrize("offset", [0, 9, 11, 10**15 - 1])
def test_a_part_that_does_not_begin_at_the_end_is_refused_and_told_where_it_is(sender: Sender, offset: int) -> None:
    size = len(sender.data)
    sender.begin()
    sender.append(0, 10)
    answer = sender.send(b"bytes", offset)
    assert (answer.status_code, answer.json) == (
        409,
        {
            "status": 409,
            "error": "wrong-offset",
            "message": f"10 of {size} bytes are here: go on with the next one",
            "received": 10,
        },
    )
    assert stored(sender.site) == ["10"]


@pytest.mark.parametrize("offset", ["", "-1", "1.0", "x", "٣", "9" * 16])
def test_an_offset_that_is_none_is_refused(sender: Sender, offset: str) -> None:
    sender.begin()
    headers = {"Upload-Offset": offset.encode().decode("latin-1")} if offset else {}
    answer = sender.ask("PATCH", sender.url, data=b"bytes", headers=headers)
    assert (answer.status_code, "Upload-Offset is missing or not a number" in answer.text) == (400, True)


def test_no_more_is_kept_than_was_announced(sender: Sender) -> None:
    sender.begin()
    answer = sender.send(sender.data + b"and more", 0)
    assert (answer.status_code, "more bytes than" in answer.text) == (400, True), answer.text
    assert stored(sender.site) == [str(len(sender.data))]
    assert sender.send(b"!", len(sender.data)).status_code == 400
    assert sender.send(b"", len(sender.data)).status_code == 200
    assert sender.finish().status_code == 201


def test_what_is_not_complete_cannot_be_finished(sender: Sender) -> None:
    sender.begin()
    sender.append(0, 10)
    answer = sender.finish()
    assert answer.json is not None
    assert (answer.status_code, answer.json["error"], answer.json["received"]) == (409, "wrong-offset", 10)
    assert [sender.append(10).status_code, sender.finish().status_code] == [200, 201]


def test_damaged_bytes_are_dropped_and_burn_no_name(sender: Sender) -> None:
    sender.begin()
    sender.send(b"x" * len(sender.data), 0)
    answer = sender.finish()
    assert (answer.status_code, "they were damaged on the way" in answer.text) == (400, True)
    assert (sender.tell().status_code, stored(sender.site)) == (404, [])
    assert [sender.begin().status_code, sender.append(0).status_code, sender.finish().status_code] == [201, 200, 201]


@pytest.mark.parametrize(
    ("make", "filename", "words"),
    [
        (lambda path: path.write_bytes(b"no archive"), ACME, "not a zip"),
        (lambda path: path.write_bytes(make_wheel(None, "bolt", "1.0").read_bytes()), ACME, "not that of the project"),
        (lambda path: path.write_bytes(make_sdist(None, "acme", "2.0").read_bytes()), "acme-1.0.tar.gz", "the version"),
        (lambda path: path.write_bytes(b""), "acme-1.0.tar.gz", "acme-1.0.tar.gz: it "),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_dropped(
    site: Site, tmp_path: Path, make: Callable[[Path], object], filename: str, words: str
) -> None:
    make(tmp_path / filename)
    sender = Sender(site, tmp_path / filename)
    assert [sender.begin().status_code, sender.append(0).status_code] == [201, 200]
    answer = sender.finish()
    assert (answer.status_code, words in answer.text) == (400, True), answer.text
    assert (sender.tell().status_code, stored(site)) == (404, [])


def test_finishing_again_changes_nothing(sender: Sender) -> None:
    sender.begin()
    sender.append(0)
    first = sender.finish().json
    before = sender.site.get("/simple/acme/").headers["ETag"]
    again = sender.finish()
    assert first is not None
    assert (again.status_code, again.json) == (200, {**first, "status": "unchanged"})
    assert sender.site.get("/simple/acme/").headers["ETag"] == before


def test_there_is_nothing_to_go_on_with_before_it_has_begun(sender: Sender) -> None:
    answers = [sender.tell(), sender.append(0), sender.finish(), sender.ask("GET", "/api/v1/uploads/none")]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert stored(sender.site) == []


@pytest.mark.parametrize("key", [f"acme/{ACME}", ACME])
def test_what_is_there_need_not_be_sent(sender: Sender, key: str) -> None:
    sender.site.drop(sender.file, key)
    answer = sender.begin()
    assert answer.json is not None
    assert (answer.status_code, answer.json["status"]) == (200, "unchanged")
    assert stored(sender.site) == [key]


def test_what_came_in_the_meantime_is_not_stored_twice(sender: Sender) -> None:
    sender.begin()
    sender.append(0)
    sender.site.upload(sender.file)
    answer = sender.finish()
    assert answer.json is not None
    assert (answer.status_code, answer.json["status"]) == (200, "unchanged")
    assert stored(sender.site) == [f"acme/{ACME}"]


def test_a_name_that_is_taken_is_refused_before_a_byte_is_sent(sender: Sender, tmp_path: Path) -> None:
    sender.site.upload(make_wheel(tmp_path / "old", "acme", "1.0", description="old"))
    answer = sender.begin()
    assert (answer.status_code, "already exist" in answer.text) == (409, True)
    assert stored(sender.site) == [f"acme/{ACME}"]


def test_a_name_that_was_taken_in_the_meantime_is_refused_in_the_end(sender: Sender, tmp_path: Path) -> None:
    old = make_wheel(tmp_path / "old", "acme", "1.0", description="old")
    sender.begin()
    sender.append(0)
    sender.site.upload(old)
    assert sender.finish().status_code == 409
    assert sender.site.get(f"/packages/acme/{ACME}").data == old.read_bytes()
    assert stored(sender.site) == [f"acme/{ACME}"]


def test_overwrite_replaces(tmp_path: Path) -> None:
    site = open_site(tmp_path / "data", overwrite=True)
    site.upload(make_wheel(tmp_path / "old", "acme", "1.0", description="old"))
    sender = Sender(site, make_wheel(tmp_path / "new", "acme", "1.0", description="new"))
    assert [sender.begin().status_code, sender.append(0).status_code] == [201, 200]
    answer = sender.finish()
    assert answer.json is not None
    assert (answer.status_code, answer.json["status"]) == (200, "replaced")
    assert site.get(f"/packages/acme/{ACME}").data == sender.data
    site.index.close()


DECISIONS = [
    (f'{{"deleted": {{"{ACME}": "{"0" * 64}"}}}}', 409, "already exist"),
    ('{"status": "archived"}', 403, "is archived: it takes no new files"),
    ('{"status": "quarantined"}', 403, "is quarantined: it takes no new files"),
]


@pytest.mark.parametrize(("decision", "status", "words"), DECISIONS)
def test_decisions_are_heeded_before_and_after_sending(sender: Sender, decision: str, status: int, words: str) -> None:
    sender.begin()
    sender.append(0)
    sender.site.decide("acme", decision)
    for answer in (sender.begin(), sender.finish()):
        assert (answer.status_code, words in answer.text) == (status, True)
    assert stored(sender.site) == ["acme/project.json"]


@pytest.mark.parametrize(
    ("user", "project", "status"),
    [
        ("stranger", "acme", 401),
        ("reader", "acme", 403),
        ("guest", "acme", 403),
        ("team", "bolt", 403),
        ("team", "acme-tools", 201),
        ("admin", "bolt", 201),
    ],
)
def test_uploading_needs_permission_for_the_project(
    site: Site, tmp_path: Path, user: str, project: str, status: int
) -> None:
    sender = Sender(site, make_wheel(tmp_path, project, "1.0"), user)
    assert sender.begin().status_code == status
    expected = [200, 200, 201] if status == 201 else [status] * 3
    assert [sender.append(0).status_code, sender.tell().status_code, sender.finish().status_code] == expected


def test_the_upload_of_somebody_else_is_not_there(sender: Sender) -> None:
    sender.begin()
    sender.append(0, 10)
    other = Sender(sender.site, sender.file, "admin")
    assert [a.status_code for a in (other.tell(), other.append(10), other.finish())] == [404, 404, 404]
    assert [other.begin().status_code, other.append(0, 5).status_code] == [201, 200]
    assert stored(sender.site) == ["10", "5"]
    assert [sender.append(10).status_code, sender.finish().status_code] == [200, 201]
    answer = other.finish()
    assert answer.json is not None
    assert (answer.status_code, answer.json["received"]) == (409, 5)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"filename": None}, 400, "'filename' is missing or not a string"),
        ({"filename": "../acme-1.0.tar.gz"}, 400, "is not the filename of a wheel"),
        ({"filename": "acme.exe"}, 400, "is not the filename of a wheel"),
        ({"size": None}, 400, "'size' is missing or not a number"),
        ({"size": -1}, 400, "'size' is missing or not a number"),
        ({"size": True}, 400, "'size' is missing or not a number"),
        ({"size": 10**15}, 400, "'size' is missing or not a number"),
        ({"sha256": "0" * 63}, 400, "'sha256' is missing or not 64"),
        ({"sha256": "A" * 64}, 400, "'sha256' is missing or not 64"),
        ({"sha256": 1}, 400, "'sha256' is missing or not 64"),
        ({"size": 10**15 - 1}, 507, "the storage of the index is full"),
    ],
)
def test_what_cannot_become_a_file_does_not_begin(
    sender: Sender, fields: dict[str, object], status: int, words: str
) -> None:
    answer = sender.begin(fields)
    assert (answer.status_code, words in answer.text) == (status, True), answer.text
    assert stored(sender.site) == (["0"] if status == 507 else [])


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'"x"', b"\xff", b'{"filename": "acme-1.0.tar.gz"'])
def test_a_body_that_is_no_object_does_not_begin(sender: Sender, body: bytes) -> None:
    answer = sender.ask("POST", "/api/v1/uploads", data=body, content_type="application/json")
    assert (answer.status_code, "a JSON object" in answer.text) == (400, True)


class BrokenStream(io.RawIOBase):
    """A body that ends too early, as a broken connection does."""

    def __init__(self, data: bytes) -> None:
        self._left = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._left.readinto(buffer)


def test_what_arrived_before_a_connection_broke_is_kept(sender: Sender) -> None:
    size = len(sender.data)
    sender.begin()
    sender.append(0, 10)
    sender.send_stream(BrokenStream(sender.data[10:100]), 10, size - 10)
    told = sender.tell()
    assert told.json is not None
    assert told.json["received"] == 100
    assert [sender.append(100).status_code, sender.finish().status_code] == [200, 201]


class StalledStream(BrokenStream):
    """A body whose sender falls silent, while something else happens, and then wakes up again."""

    def __init__(self, before: bytes, meanwhile: Callable[[], object], after: bytes) -> None:
        super().__init__(before)
        self._meanwhile: Callable[[], object] | None = meanwhile
        self._after = after

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        if count or self._meanwhile is None:
            return count
        meanwhile, self._meanwhile = self._meanwhile, None
        meanwhile()
        self._left = io.BytesIO(self._after)
        return super().readinto(buffer)


def test_a_connection_that_hangs_keeps_nobody_from_going_on(sender: Sender) -> None:
    size = len(sender.data)
    other: list[int] = []

    def go_on() -> None:
        other.append(sender.append(10, 20).status_code)

    sender.begin()
    hanging = sender.send_stream(StalledStream(sender.data[:10], go_on, sender.data[10:]), 0, size)
    assert hanging.json is not None
    assert (hanging.status_code, hanging.json["received"], other) == (409, 20, [200])
    assert [sender.append(20).status_code, sender.finish().status_code] == [200, 201]


def test_a_connection_that_wakes_up_after_the_end_adds_nothing(sender: Sender) -> None:
    def finish() -> None:
        sender.append(10)
        sender.finish()

    sender.begin()
    late = sender.send_stream(StalledStream(sender.data[:10], finish, sender.data[10:]), 0, len(sender.data))
    assert late.status_code == 404
    assert sender.site.get(f"/packages/acme/{ACME}").data == sender.data
    assert stored(sender.site) == [f"acme/{ACME}"]


def test_while_somebody_is_at_it_the_others_are_told_to_try_again(sender: Sender) -> None:
    sender.begin()
    sender.append(0, 10)
    (path,) = (sender.site.data / "files" / ".elasticpypi" / "uploads").iterdir()
    with path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for answer in (sender.append(10), sender.finish()):
            assert (answer.status_code, "try again in a moment" in answer.text) == (503, True)
            assert "Retry-After" in answer.headers
        assert sender.tell().status_code == 200
    assert [sender.append(10).status_code, sender.finish().status_code] == [200, 201]


def test_an_index_that_is_still_being_built_takes_nothing(sender: Sender) -> None:
    sender.begin()
    sender.append(0)
    (sender.site.data / "catalog.sqlite").unlink()
    assert [sender.begin().status_code, sender.finish().status_code] == [503, 503]
    sender.site.index.sync()
    assert sender.finish().status_code == 201


def test_what_takes_longer_than_a_request_may_be_handed_over(site: Site, tmp_path: Path) -> None:
    handed_over: list[Mapping[str, Any]] = []
    app = create_app(site.index, Authenticator(USERS), finish_later=handed_over.append)
    late = replace(site, client=Client(app))
    sdist = make_sdist(tmp_path, "large", "1.0", extra_files={"large.bin": random.Random(1).randbytes(33 * 2**20)})
    sender = Sender(late, sdist)
    assert [sender.begin().status_code, sender.append(0).status_code] == [201, 200]
    assert [sender.finish().status_code, sender.finish().status_code, sender.tell().status_code] == [202, 202, 202]
    (message,) = handed_over
    assert site.index.finish_upload(message) == Outcome(Added.CREATED)
    assert [sender.tell().status_code, sender.finish().status_code] == [201, 200]
    assert [file["filename"] for file in site.json("/simple/large/")["files"]] == [sdist.name]
