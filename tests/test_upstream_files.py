"""Files of upstreams that come through us: streamed, copied, kept, and never the whole of a wrong one."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from elasticpypi.config import Upstream
from elasticpypi.errors import (
    ElasticpypiError,
    ForbiddenError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UpstreamError,
)
from elasticpypi.model import Status
from elasticpypi.names import NormalizedName
from elasticpypi.storage import LocalFile, SignedURL, Storage
from elasticpypi.upstream.fetching import Fetcher, Limits
from elasticpypi.upstream.files import UpstreamFiles
from elasticpypi.upstream.flights import Flights
from elasticpypi.upstream.kept import KeptFiles
from elasticpypi.upstream.model import HeldBack, KeptFile, Listing, UpstreamFile, UpstreamPage
from elasticpypi.upstream.transfers import FoundUpstreamFile
from tests.dists import make_sdist, make_wheel
from tests.storages import ADAPTERS, objects_in, open_storage
from tests.upstreams import WRONG_BYTES, FakeUpstream, running_upstream, send

SPAM = NormalizedName("spam")
WHEEL = "spam-1.0-py3-none-any.whl"
NOISE = {"noise.bin": hashlib.shake_256(b"noise").digest(400_000)}  # several pieces, and no zip makes it smaller
PROVENANCE = b'{"version": 1, "attestation_bundles": []}'
NO_FILES: Mapping[str, KeptFile] = {}


@dataclass(frozen=True, slots=True)
class Shop:
    """An upstream, and a storage of ours."""

    upstream: FakeUpstream
    storage: Storage
    directory: Path
    flights: Flights = field(default_factory=lambda: Flights(4))

    @property
    def kept(self) -> KeptFiles:
        return KeptFiles(self.storage)

    @property
    def files(self) -> UpstreamFiles:
        """What a new process has."""
        return self.files_over(self.storage)

    def files_over(self, storage: object) -> UpstreamFiles:
        fetchers: dict[str, Fetcher] = {}

        def fetcher(upstream: Upstream) -> Fetcher:
            limits = Limits(page_seconds=5, idle_seconds=5)
            return fetchers.setdefault(upstream.name, Fetcher(upstream, limits=limits))

        opened = cast("Storage", storage)
        return UpstreamFiles(opened, KeptFiles(opened), fetcher, flights=self.flights)

    def add(self, *, small: bool = False, keep: bool = True, is_kept: bool = False, **more: Any) -> FoundUpstreamFile:
        """Let upstream have a wheel, and return it as it is found; `says` is what its page says otherwise."""
        wheel = make_wheel(self.directory, "spam", "1.0", extra_files={} if small else NOISE)
        entry = self.upstream.add(wheel, **more)
        file = UpstreamFile(
            entry["filename"],
            f"{self.upstream.base}/files/{wheel.name}",
            "1.0",
            entry["hashes"],
            size=entry.get("size"),
            core_metadata=entry.get("core-metadata", False),
            provenance=entry.get("provenance"),
        )
        return FoundUpstreamFile(self.upstream.configured(keep=keep), SPAM, file, is_kept)

    @property
    def data(self) -> bytes:
        """The bytes of the wheel."""
        return (self.directory / WHEEL).read_bytes()

    @property
    def core_metadata(self) -> bytes:
        """What the wheel itself has."""
        with zipfile.ZipFile(self.directory / WHEEL) as archive:
            return archive.read("spam-1.0.dist-info/METADATA")

    @property
    def core_metadata_name(self) -> str:
        return f"{hashlib.sha256(self.core_metadata).hexdigest()}.metadata"

    def add_sdist(self, core_metadata: bytes | None = None, **more: Any) -> FoundUpstreamFile:
        """Let upstream have an sdist, likewise."""
        sdist = make_sdist(self.directory, "spam", "1.0")
        entry = self.upstream.add(sdist, core_metadata=core_metadata, **more)
        file = UpstreamFile(
            sdist.name,
            f"{self.upstream.base}/files/{sdist.name}",
            "1.0",
            entry["hashes"],
            core_metadata=entry.get("core-metadata", False),
        )
        return FoundUpstreamFile(self.upstream.configured(keep=True), SPAM, file, is_kept=False)

    def keep(self, found: FoundUpstreamFile) -> FoundUpstreamFile:
        """Bring a file, and return it as it is found from then on."""
        self.files.bring(found)
        return replace(found, file=self.kept.read(SPAM).files[found.file.filename].file, is_kept=True)

    def read(self, found: FoundUpstreamFile, files: UpstreamFiles | None = None) -> bytes | None:
        """Return what lies here; None where nothing does."""
        match (files or self.files).download(found):
            case None:
                return None
            case LocalFile(stream):
                with stream:
                    return stream.read()
            case SignedURL():
                with self.storage.open(self.storage.stat(found.key)) as stream:
                    return stream.read()

    def lies(self) -> list[str]:
        """Return the ends of the keys of all that lies here."""
        keys = objects_in(self.storage)
        assert all(key.startswith(".elasticpypi/upstream/spam/") for key in keys), keys
        return sorted(key.rpartition("/")[2] for key in keys)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(params=ADAPTERS)
def shop(request: pytest.FixtureRequest, upstream: FakeUpstream, tmp_path: Path) -> Shop:
    return Shop(upstream, open_storage(request), tmp_path / "upstream")


# Finding ----------------------------------------------------------------------------------------------------------


def make_file(filename: str = WHEEL, **more: Any) -> UpstreamFile:
    return UpstreamFile(filename, f"https://example.org/{filename}", "1.0", {"sha256": "a" * 64}, **more)


def make_listing(
    *shown: UpstreamFile, held_back: tuple[HeldBack, ...] = (), kept: Mapping[str, KeptFile] = NO_FILES, **more: Any
) -> Listing:
    upstream = FakeUpstream().configured(keep=True)
    page = UpstreamPage((*shown, *(held.file for held in held_back)), **more)
    return Listing(upstream, SPAM, page, shown, held_back, kept, checked=0.0)


@pytest.fixture
def files(tmp_path: Path, upstream: FakeUpstream) -> UpstreamFiles:
    from elasticpypi.storage.filesystem import FilesystemStorage

    storage = FilesystemStorage(tmp_path)
    storage.initialise()
    return Shop(upstream, storage, tmp_path).files


@pytest.mark.parametrize(
    ("kept", "is_kept"),
    [
        ({}, False),
        ({WHEEL: KeptFile("fake", make_file())}, True),
        ({WHEEL: KeptFile("fake", replace(make_file(), hashes={"sha256": "b" * 64}))}, False),
    ],
)
def test_a_file_that_is_shown_is_found(files: UpstreamFiles, kept: Mapping[str, KeptFile], *, is_kept: bool) -> None:
    listing = make_listing(make_file("spam-0.1.tar.gz"), make_file(), kept=kept)
    assert files.find(listing, WHEEL) == FoundUpstreamFile(listing.upstream, SPAM, make_file(), is_kept)


UNTIL = datetime(2026, 12, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("listing", "error", "text"),
    [
        (make_listing(make_file("spam-2.0.tar.gz")), NotFoundError, f"the project 'spam' has no file '{WHEEL}'"),
        (
            make_listing(held_back=(HeldBack(make_file(), "is younger than 7 days", UNTIL),)),
            ForbiddenError,
            f"{WHEEL} is younger than 7 days; it can be had from 2026-12-06 07:08 UTC on",
        ),
        (
            make_listing(held_back=(HeldBack(make_file(), "has no sha256 on its page"),)),
            ForbiddenError,
            f"{WHEEL} has no sha256 on its page",
        ),
        (
            make_listing(make_file(), status=Status.QUARANTINED),
            ForbiddenError,
            "the upstream 'fake' has quarantined the project 'spam': its files cannot be downloaded for now",
        ),
        (
            replace(make_listing(make_file()), upstream=FakeUpstream().configured()),
            NotFoundError,
            f"the files of the upstream 'fake' do not come through this index: {WHEEL} is where the page of 'spam' "
            "says",
        ),
        (
            make_listing(replace(make_file(), hashes={"sha256": "../../etc"})),
            NotFoundError,
            f"the files of the upstream 'fake' do not come through this index: {WHEEL} is where the page of 'spam' "
            "says",
        ),
    ],
)
def test_no_other_file_is_found(
    files: UpstreamFiles, listing: Listing, error: type[ElasticpypiError], text: str
) -> None:
    with pytest.raises(error) as caught:
        files.find(listing, WHEEL)
    assert str(caught.value) == text


def test_a_file_that_is_shown_because_it_was_kept_is_found(files: UpstreamFiles) -> None:
    held = HeldBack(replace(make_file(), hashes={"sha256": "b" * 64}), "has other bytes than were kept")
    kept = {WHEEL: KeptFile("fake", make_file())}
    assert files.find(make_listing(make_file(), held_back=(held,), kept=kept), WHEEL).is_kept


# Streaming --------------------------------------------------------------------------------------------------------


def test_a_file_passes_as_it_is_and_stays(shop: Shop) -> None:
    found, files = shop.add(provenance=PROVENANCE), shop.files
    assert shop.read(found, files) is None
    stream = files.stream(found)
    assert stream.size == len(shop.data)
    pieces = list(stream)
    stream.close()
    assert (len(pieces) > 3, b"".join(pieces)) == (True, shop.data)
    assert shop.lies() == sorted([shop.core_metadata_name, WHEEL, f"{WHEEL}.provenance", "kept.json"])
    assert shop.kept.read(SPAM).files == {WHEEL: KeptFile("fake", found.file)}
    with shop.upstream.behaving("down"):
        assert shop.read(found) == shop.data


def test_a_file_that_is_not_kept_leaves_nothing(shop: Shop) -> None:
    shop.upstream.credentials = ("us", "secret")
    found = shop.add(keep=False)
    with passing(shop.files, found) as pieces:
        assert b"".join(pieces) == shop.data
    assert shop.lies() == []


@contextmanager
def passing(files: UpstreamFiles, found: FoundUpstreamFile) -> Iterator[Iterator[bytes]]:
    stream = files.stream(found)
    try:
        yield iter(stream)
    finally:
        stream.close()


def take(pieces: Iterator[bytes]) -> tuple[bytes, UpstreamError | None]:
    """Return what a client gets, and what went wrong then."""
    got = b""
    try:
        for piece in pieces:
            got += piece
    except UpstreamError as error:
        return got, error
    return got, None


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("says", [{}, {"size": None}])
@pytest.mark.parametrize("wrong", [*WRONG_BYTES, "a stop half-way"])
def test_nobody_gets_the_whole_of_a_wrong_file(
    shop: Shop, wrong: str, says: Mapping[str, Any], *, keep: bool, caplog: pytest.LogCaptureFixture
) -> None:
    shop.upstream.credentials = None if keep else ("us", "secret")
    found = shop.add(keep=keep, says=says)
    with shop.upstream.behaving(wrong, at="/files/"):
        try:
            with passing(shop.files, found) as pieces:
                got, error = take(pieces)
        except UpstreamError as caught:  # before anything is sent
            got, error = b"", caught
    assert error is not None
    assert error.upstream == "fake"
    wrong_file = shop.data if wrong == "a stop half-way" else sent_instead(shop, wrong)
    assert (len(got) < len(wrong_file) or wrong == "nothing", wrong_file.startswith(got)) == (True, True)
    assert shop.lies() == []
    if "other" in wrong or (says and wrong in ("shorter", "longer")):
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        (line,) = [text for text in told if "other bytes" in text]
        digest = hashlib.sha256(wrong_file).hexdigest()
        assert all(part in line for part in ("'fake'", WHEEL, digest, found.sha256))


def sent_instead(shop: Shop, wrong: str) -> bytes:
    change: Callable[[bytes], bytes] = {
        "shorter": lambda data: data[:-1],
        "longer": lambda data: data + b"\0",
        "other bytes": lambda data: bytes(255 - byte for byte in data),
        "one other byte": lambda data: data[:-1] + bytes([255 - data[-1]]),
        "nothing": lambda _: b"",
    }[wrong]
    return change(shop.data)


def test_what_is_small_and_wrong_is_an_error_before_an_answer_has_begun(shop: Shop) -> None:
    found = shop.add(small=True)
    with shop.upstream.behaving("one other byte", at="/files/"), pytest.raises(UpstreamError, match="other bytes than"):
        shop.files.stream(found)
    assert shop.lies() == []


def test_what_never_ends_ends_where_the_page_says(shop: Shop) -> None:
    found = shop.add()
    with shop.upstream.behaving("endless", at="/files/"):
        with passing(shop.files, found) as pieces:
            got, error = take(pieces)
        assert error is not None
        assert len(got) <= len(shop.data)
    assert shop.lies() == []


@pytest.mark.parametrize("behaviour", ["down", "500", "404", "401", "a redirect to the metadata service"])
def test_what_cannot_be_had_is_an_error_before_an_answer_has_begun(shop: Shop, behaviour: str) -> None:
    found = shop.add()
    with shop.upstream.behaving(behaviour, at="/files/"), pytest.raises(UpstreamError):
        shop.files.stream(found)
    assert shop.lies() == []


def test_a_size_that_the_page_contradicts_is_an_error_before_an_answer_has_begun(shop: Shop) -> None:
    found = shop.add(says={"size": 7})
    with pytest.raises(UpstreamError, match=f"is about to send {len(shop.data)} bytes .* its page says 7"):
        shop.files.stream(found)


def test_a_size_that_the_page_contradicts_is_a_wrong_file(shop: Shop) -> None:
    found = shop.add(says={"size": len(make_wheel(shop.directory, "spam", "1.0", extra_files=NOISE).read_bytes()) + 1})

    def send_until_the_connection_ends(_: FakeUpstream, request: Any) -> None:
        request.send_response_only(200)
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(shop.data)
        request.close_connection = True

    with shop.upstream.behaving(send_until_the_connection_ends, at="/files/"):
        with passing(shop.files, found) as pieces:
            got, error = take(pieces)
        assert error is not None
        assert len(got) < len(shop.data)
    assert shop.lies() == []


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_client_that_goes_away_leaves_nothing(shop: Shop, pieces: int) -> None:
    found = shop.add()
    with passing(shop.files, found) as stream:
        for _ in range(pieces):
            next(stream)
    assert shop.lies() == []


def test_a_client_need_not_ask_for_the_end(shop: Shop) -> None:
    found = shop.add()
    with passing(shop.files, found) as stream:
        got = 0
        while got < len(shop.data):
            got += len(next(stream))
    assert WHEEL in shop.kept.read(SPAM).files
    assert shop.read(found) == shop.data


def test_two_clients_at_once_get_a_file_of_which_one_copy_is_kept(shop: Shop) -> None:
    found, files = shop.add(), shop.files
    with passing(files, found) as first, passing(files, found) as second:
        got = [next(first), next(second)]
        assert [got[0] + b"".join(first), got[1] + b"".join(second)] == [shop.data, shop.data]
    assert shop.lies() == sorted([shop.core_metadata_name, WHEEL, "kept.json"])


class Failing:
    """A storage that takes so many bytes of what comes in, and fails then."""

    def __init__(self, storage: Storage, error: Exception, *, after: int | None) -> None:
        """`after` None: it does not even begin."""
        self.has_room = False  # whether what had come in was dropped
        self._storage = storage
        self._error = error
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    @contextmanager
    def receive(self) -> Iterator[Any]:
        if self._after is None:
            raise self._error
        with self._storage.receive() as incoming:
            yield _FailingIncoming(incoming, self._error, self._after)
        self.has_room = True


class _FailingIncoming:
    def __init__(self, incoming: Any, error: Exception, left: int) -> None:
        self._incoming = incoming
        self._error = error
        self._left = left

    def write(self, data: bytes) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise self._error
        written: int = self._incoming.write(data)
        return written

    def publish(self, key: str) -> Any:
        raise self._error


FULL = StorageFullError("the storage is full: make room")


@pytest.mark.parametrize("error", [FULL, StorageError("the network is down")])
@pytest.mark.parametrize("after", [None, 0, 100_000, 10**9])
def test_a_storage_without_room_keeps_nobody_from_a_file(
    shop: Shop, error: Exception, after: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    found = shop.add()
    with passing(shop.files_over(Failing(shop.storage, error, after=after)), found) as pieces:
        assert b"".join(pieces) == shop.data
    assert shop.lies() == []
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"{WHEEL} is not kept this time: {error}"]


def test_what_has_come_in_makes_room_as_soon_as_it_is_of_no_use(shop: Shop) -> None:
    found, full = shop.add(), Failing(shop.storage, FULL, after=100_000)
    with passing(shop.files_over(full), found) as pieces:
        for _ in range(4):
            next(pieces)
        assert full.has_room


def test_without_room_a_wrong_file_is_a_wrong_file(shop: Shop) -> None:
    found = shop.add()
    with shop.upstream.behaving("one other byte", at="/files/"):
        with passing(shop.files_over(Failing(shop.storage, FULL, after=0)), found) as pieces:
            got, error = take(pieces)
        assert error is not None
        assert len(got) < len(shop.data)


# Bringing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_brought_once_with_all_that_belongs_beside_it(shop: Shop) -> None:
    found = shop.add(provenance=PROVENANCE)
    told: list[int] = []
    shop.files.bring(found, deadline=time.monotonic() + 60, progress=told.append)
    assert sum(told) == len(shop.data)
    assert shop.lies() == sorted([shop.core_metadata_name, WHEEL, f"{WHEEL}.provenance", "kept.json"])
    assert shop.kept.read(SPAM).files == {WHEEL: KeptFile("fake", found.file)}
    shop.upstream.take()
    shop.files.bring(found)
    shop.files.bring(replace(found, is_kept=True))
    assert shop.upstream.take() == []
    with shop.upstream.behaving("down"):
        kept = replace(found, is_kept=True)
        assert shop.read(kept) == shop.data
        assert shop.files.provenance(kept) == PROVENANCE
        assert shop.files.core_metadata(kept) == shop.core_metadata


def test_what_only_we_can_get_is_brought_and_not_kept(shop: Shop) -> None:
    shop.upstream.credentials = ("us", "secret")
    found = shop.add(keep=False)
    shop.files.bring(found)
    assert shop.lies() == [WHEEL]
    assert shop.kept.read(SPAM).files == {}
    with shop.upstream.behaving("down"):
        assert shop.read(found) == shop.data


@pytest.mark.parametrize("wrong", [*WRONG_BYTES, "a stop half-way", "500", "404"])
def test_what_is_wrong_is_not_brought(shop: Shop, wrong: str) -> None:
    found = shop.add()
    with shop.upstream.behaving(wrong, at=f"/files/{WHEEL}"), pytest.raises(UpstreamError):
        shop.files.bring(found)
    assert shop.lies() == []


def test_what_does_not_come_in_time_is_not_brought(shop: Shop) -> None:
    found = shop.add()
    with pytest.raises(UpstreamError, match="in time"):
        shop.files.bring(found, deadline=time.monotonic())
    assert shop.lies() == []


def test_what_never_comes_is_not_waited_for_until_after_the_deadline(shop: Shop) -> None:
    found, over = shop.add(), threading.Event()

    def stall(_: FakeUpstream, request: Any) -> None:
        request.send_response_only(200)
        request.send_header("Content-Length", str(len(shop.data)))
        request.end_headers()
        request.wfile.write(shop.data[:1000])
        request.wfile.flush()
        over.wait(60)
        request.close_connection = True

    with shop.upstream.behaving(stall, at=f"/files/{WHEEL}"):
        deadline = time.monotonic() + 0.5
        try:
            with pytest.raises(UpstreamError, match="has not sent all of it in time"):
                shop.files.bring(found, deadline=deadline)
        finally:
            over.set()
    assert shop.lies() == []


def test_no_document_is_begun_that_has_no_time(shop: Shop) -> None:
    found = shop.add(provenance=PROVENANCE)
    shop.files.bring(replace(found, upstream=replace(found.upstream, keep=False)))
    shop.upstream.take()
    shop.files.bring(found, deadline=time.monotonic() + 0.9)
    assert shop.upstream.take() == []
    assert shop.kept.read(SPAM).files[WHEEL].file.provenance is None


@pytest.mark.parametrize("failure", [FULL, StorageError("the network is down")])
def test_what_the_storage_does_not_take_is_not_brought(shop: Shop, failure: Exception) -> None:
    found = shop.add()
    with pytest.raises(StorageError, match=str(failure)):
        shop.files_over(Failing(shop.storage, failure, after=1000)).bring(found)
    assert shop.lies() == []


class Forgetful:
    """A storage that fails as soon as something is to be remembered."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def write_document(self, key: str, *_: Any, **__: Any) -> Any:
        raise StorageError(f"{key} cannot be written")


@pytest.mark.parametrize("again", ["bring", "download"])
def test_bytes_that_nobody_has_come_to_remember_are_remembered_later(shop: Shop, again: str) -> None:
    found = shop.add()
    with pytest.raises(StorageError, match="cannot be written"):
        shop.files_over(Forgetful(shop.storage)).bring(found)
    assert shop.lies() == [WHEEL]
    if again == "bring":
        shop.files.bring(found)
    assert shop.read(found) == shop.data
    assert shop.upstream.paths(f"/files/{WHEEL}").count(f"/files/{WHEEL}") == 1
    assert WHEEL in shop.kept.read(SPAM).files


def test_bytes_that_cannot_be_remembered_are_given_out_all_the_same(shop: Shop) -> None:
    found, files = shop.add(), shop.files_over(Forgetful(shop.storage))
    with passing(files, found) as pieces:
        assert b"".join(pieces) == shop.data
    assert shop.read(found, files) == shop.data
    assert shop.lies() == [WHEEL]


def test_bytes_that_somebody_has_removed_are_brought_again(shop: Shop) -> None:
    found = shop.add()
    shop.files.bring(found)
    kept = replace(found, is_kept=True)
    shop.storage.remove(found.key, fingerprint=shop.storage.stat(found.key).fingerprint)
    assert shop.read(kept) is None
    shop.files.bring(kept)
    assert shop.read(kept) == shop.data


def test_other_bytes_under_a_name_that_is_kept_are_given_out_and_the_first_stay(shop: Shop) -> None:
    first = KeptFile("other", make_file())
    shop.kept.add(SPAM, first)
    found, files = shop.add(), shop.files
    for _ in range(2):
        with passing(files, found) as pieces:
            assert b"".join(pieces) == shop.data
    assert shop.kept.read(SPAM).files == {WHEEL: first}
    assert shop.read(found) == shop.data


@pytest.mark.parametrize("says", [{"provenance": "http://192.0.2.1/spam"}, {}])
def test_a_file_is_kept_without_a_provenance_that_cannot_be_had(shop: Shop, says: Mapping[str, Any]) -> None:
    found = shop.add(provenance=PROVENANCE, says=says)
    with shop.upstream.behaving("404", at=f"/files/{WHEEL}.provenance"):
        shop.files.bring(found)
    assert shop.kept.read(SPAM).files == {WHEEL: KeptFile("fake", replace(found.file, provenance=None))}


OTHER = b"Metadata-Version: 2.1\nName: spam\nVersion: 1.0\nRequires-Dist: evil\n"


@pytest.mark.parametrize("says", [{}, {"core-metadata": True}, {"core-metadata": None}], ids=str)
def test_core_metadata_of_a_wheel_that_is_kept_is_its_own(shop: Shop, says: Mapping[str, Any]) -> None:
    found = shop.add(core_metadata=OTHER, says=says)
    if found.file.core_metadata:
        assert shop.files.core_metadata(found) == OTHER  # upstream's word, as long as there is nothing else
    kept = shop.keep(found)
    assert kept.file.core_metadata == {"sha256": hashlib.sha256(shop.core_metadata).hexdigest()}
    with shop.upstream.behaving("down"):
        assert shop.files.core_metadata(kept) == shop.core_metadata


@pytest.mark.parametrize("behaviour", ["404", "500", "one other byte"])
def test_a_wheel_is_kept_though_upstream_has_nothing_beside_it(shop: Shop, behaviour: str) -> None:
    found = shop.add()
    with shop.upstream.behaving(behaviour, at=f"/files/{WHEEL}.metadata"):
        kept = shop.keep(found)
    assert shop.files.core_metadata(kept) == shop.core_metadata


def test_a_wheel_that_cannot_be_read_is_kept_without_core_metadata(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    broken = shop.directory / WHEEL
    broken.parent.mkdir(parents=True, exist_ok=True)
    broken.write_bytes(b"no zip")
    sha256 = hashlib.sha256(b"no zip").hexdigest()
    shop.upstream.add(broken, core_metadata=OTHER)
    file = UpstreamFile(WHEEL, f"{shop.upstream.base}/files/{WHEEL}", "1.0", {"sha256": sha256}, core_metadata=True)
    kept = shop.keep(FoundUpstreamFile(shop.upstream.configured(keep=True), SPAM, file, is_kept=False))
    assert kept.file.core_metadata is False
    assert f"{WHEEL} is kept without its core metadata: " in caplog.text
    with pytest.raises(NotFoundError, match="there is no core metadata"):
        shop.files.core_metadata(kept)


def test_core_metadata_of_an_sdist_is_kept_where_upstream_has_announced_its_digest(shop: Shop) -> None:
    found = shop.add_sdist(OTHER)
    kept = shop.keep(found)
    assert kept.file.core_metadata == found.file.core_metadata == {"sha256": hashlib.sha256(OTHER).hexdigest()}
    with shop.upstream.behaving("down"):
        assert shop.files.core_metadata(kept) == OTHER


@pytest.mark.parametrize(
    ("says", "behaviour"), [({"core-metadata": True}, "well"), ({}, "404"), ({}, "500"), ({}, "one other byte")]
)
def test_core_metadata_of_an_sdist_that_is_not_proven_is_not_kept(
    shop: Shop, says: Mapping[str, Any], behaviour: str
) -> None:
    found = shop.add_sdist(OTHER, says=says)
    if behaviour == "well":
        kept = shop.keep(found)
    else:
        with shop.upstream.behaving(behaviour, at=f"/files/{found.file.filename}.metadata"):
            kept = shop.keep(found)
    assert kept.file.core_metadata is False
    assert shop.lies() == ["kept.json", found.file.filename]


# Core metadata ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [True, False])
def test_core_metadata_is_asked_for_once(shop: Shop, *, keep: bool) -> None:
    shop.upstream.credentials = None if keep else ("us", "secret")
    found = shop.add(keep=keep, core_metadata=b"Name: spam\n\xff")
    assert shop.files.core_metadata(found) == b"Name: spam\n\xff"
    assert shop.lies() == [f"{found.file.core_metadata['sha256']}.metadata"]  # type: ignore[index]
    with shop.upstream.behaving("down"):
        assert shop.files.core_metadata(found) == b"Name: spam\n\xff"


@pytest.mark.parametrize("wrong", ["shorter", "one other byte", "nothing", "404", "500", "down"])
def test_core_metadata_that_is_not_as_announced_is_an_error(shop: Shop, wrong: str) -> None:
    found = shop.add()
    with shop.upstream.behaving(wrong, at="/files/"), pytest.raises(UpstreamError):
        shop.files.core_metadata(found)
    assert shop.lies() == []


def test_core_metadata_without_a_digest_passes_and_does_not_stay(shop: Shop) -> None:
    found = shop.add(says={"core-metadata": True}, core_metadata=b"Name: spam\n")
    assert shop.files.core_metadata(found) == b"Name: spam\n"
    assert shop.lies() == []


def test_core_metadata_follows_what_is_announced_now(shop: Shop) -> None:
    shop.files.core_metadata(shop.add(core_metadata=b"Name: spam\n"))
    found = shop.add(core_metadata=b"Name: spam\nVersion: 1.0\n")
    assert shop.files.core_metadata(found) == b"Name: spam\nVersion: 1.0\n"


def test_there_is_no_core_metadata_that_is_not_announced(shop: Shop) -> None:
    found = shop.add(says={"core-metadata": None})
    shop.upstream.take()
    with pytest.raises(NotFoundError, match=f"there is no core metadata for '{WHEEL}'"):
        shop.files.core_metadata(found)
    assert shop.upstream.take() == []


def test_core_metadata_is_bounded(shop: Shop) -> None:
    found = shop.add(core_metadata=b"x" * (5 * 2**20 + 1))
    with pytest.raises(UpstreamError, match="sends more than"):
        shop.files.core_metadata(found)


def test_core_metadata_lies_beside_the_file_and_not_behind_its_query(shop: Shop) -> None:
    found = shop.add(core_metadata=b"Name: spam\n")
    found = replace(found, file=replace(found.file, url=f"{found.file.url}?token=abc"))
    shop.upstream.take()
    with shop.upstream.behaving(send(200, b"Name: spam\n"), at="/files/"):
        shop.files.core_metadata(found)
    assert [asked.path for asked in shop.upstream.take()] == [f"/files/{WHEEL}.metadata?token=abc"]


def test_core_metadata_needs_no_room(shop: Shop) -> None:
    found = shop.add(core_metadata=b"Name: spam\n")
    assert shop.files_over(Forgetful(shop.storage)).core_metadata(found) == b"Name: spam\n"


def test_a_process_remembers_core_metadata_as_it_was_announced(shop: Shop) -> None:
    found, files = shop.add(core_metadata=b"Name: spam\n"), shop.files_over(Forgetful(shop.storage))
    files.core_metadata(found)
    changed = shop.add(core_metadata=b"Name: spam\nVersion: 1.0\n")
    assert files.core_metadata(changed) == b"Name: spam\nVersion: 1.0\n"
    with shop.upstream.behaving("down"):
        assert files.core_metadata(found) == b"Name: spam\n"


# Provenance -------------------------------------------------------------------------------------------------------


def test_provenance_passes(shop: Shop) -> None:
    found = shop.add(provenance=PROVENANCE)
    assert shop.files.provenance(found) == PROVENANCE
    assert shop.lies() == []


@pytest.mark.parametrize("body", [b"", b"no JSON", b"<html></html>", b'{"x": "' + b"x" * 10 * 2**20 + b'"}'])
def test_what_is_no_provenance_is_an_error(shop: Shop, body: bytes) -> None:
    with pytest.raises(UpstreamError):
        shop.files.provenance(shop.add(provenance=body))


def test_there_is_no_provenance_that_is_not_announced_or_not_there(shop: Shop) -> None:
    for found in (shop.add(), shop.add(provenance=PROVENANCE)):
        with shop.upstream.behaving("404", at="/files/"), pytest.raises(NotFoundError, match="there is no provenance"):
            shop.files.provenance(found)


# Places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["stream", "bring", "core_metadata", "provenance"])
def test_who_finds_no_place_is_told_at_once(shop: Shop, ask: str) -> None:
    shop, found = replace(shop, flights=Flights(1)), shop.add(provenance=PROVENANCE)
    shop.upstream.take()
    with shop.flights.place("fake") as has_place:
        assert has_place
        with pytest.raises(UpstreamError, match="is asked by too many"):
            getattr(shop.files, ask)(found)
    assert shop.upstream.take() == []
    shop.files.bring(found)  # nobody has kept a place
    with passing(shop.files, found) as pieces, shop.flights.place("fake") as has_place:
        assert has_place  # a file that comes has other bounds
        assert b"".join(pieces) == shop.data
