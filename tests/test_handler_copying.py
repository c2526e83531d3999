"""Files of upstreams that the queue has somebody copy into the storage."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from elasticpypi.config import UpstreamMode
from elasticpypi.errors import CatalogError, StorageError
from elasticpypi.handler.batch import Batches
from elasticpypi.handler.logs import Lines
from elasticpypi.index import LARGEST_COPY, Index
from elasticpypi.names import NormalizedName
from elasticpypi.upstream.fetching import Limits
from tests.aws_events import BUCKET, Invocation, failed_messages, sqs_event, sqs_message
from tests.dists import make_wheel
from tests.site import Outside, Site
from tests.upstreams import FakeUpstream, running_upstream

pytestmark = pytest.mark.both_worlds
SPAM = NormalizedName("spam")
WHEEL = "spam-1.0-py3-none-any.whl"


@dataclass(frozen=True, slots=True)
class Scene:
    """An index with an upstream, and a queue before it."""

    site: Site
    upstream: FakeUpstream
    directory: Path

    @property
    def index(self) -> Index:
        return self.site.index

    def add(self, version: str = "1.0", **says: Any) -> dict[str, Any]:
        """Let upstream have a wheel, and return what is asked for it."""
        entry = self.upstream.add(make_wheel(self.directory, "spam", version), says=says)
        asked = {"project": "spam", "filename": entry["filename"], "upstream": "fake"}
        return asked | {"sha256": entry["hashes"]["sha256"], "size": entry.get("size")}

    def hear(self, *asked: Mapping[str, Any], milliseconds: int = 60_000, index: Index | None = None) -> set[str]:
        """Hand over a batch, whose messages are called by their files; return those that come again."""
        batches = Batches(index or self.index, Lines(service="acme", stage="dev"), bucket=BUCKET, pauses=(0.001,))
        messages = [sqs_message({"keep": each}, identifier=each["filename"]) for each in asked]
        return failed_messages(batches.handle(sqs_event(*messages), Invocation(milliseconds)))

    @property
    def core_metadata_sha256(self) -> str:
        return hashlib.sha256(self.upstream.documents[f"/files/{WHEEL}.metadata"].body).hexdigest()

    def kept(self) -> set[str]:
        keys = {key for key in self.site.place.list_keys() if key.startswith(".elasticpypi/upstream/")}
        return {key.rpartition("/")[2] for key in keys}


@pytest.fixture
def scene(site: Site, tmp_path: Path) -> Iterator[Scene]:
    with running_upstream() as upstream:
        limits = Limits(page_seconds=5, idle_seconds=5)
        opened = site.reopen(outside=Outside((upstream.configured(keep=True),), limits=limits))
        yield Scene(opened, upstream, tmp_path / "upstream")
        opened.index.close()


def told(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, str | None]]:
    """Return the lines that were written since this was last asked: file, outcome, reason."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all((line["project"], line["upstream"]) == ("spam", "fake") for line in lines if line["kind"] == "kept")
    return [(line["filename"], line["outcome"], line.get("reason")) for line in lines if line["kind"] == "kept"]


def test_a_file_is_copied_with_what_lies_beside_it(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    asked = scene.add()
    assert scene.hear(asked) == set()
    assert scene.kept() == {WHEEL, f"{scene.core_metadata_sha256}.metadata", "kept.json"}
    assert told(capsys) == [(WHEEL, "kept", None)]
    scene.upstream.take()
    assert scene.hear(asked, asked) == set()
    assert [each.path for each in scene.upstream.take() if each.path.startswith("/files/")] == []
    assert told(capsys) == [(WHEEL, "kept", None)]


def test_a_name_that_is_ours_by_now_is_dropped(
    scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = scene.add()
    scene.site.drop(make_wheel(tmp_path, "spam", "9.0"), "spam/spam-9.0-py3-none-any.whl")
    assert scene.hear(asked) == set()
    assert (scene.kept(), scene.upstream.take()) == (set(), [])
    assert told(capsys) == [(WHEEL, "dropped", "the name is ours")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"filename": "spam-9.0.tar.gz"}, "the project 'spam' has no file 'spam-9.0.tar.gz'"),
        ({"sha256": "ab" * 32}, "upstream now lists other bytes under this name"),
    ],
)
def test_what_clients_do_not_see_any_more_is_dropped(
    scene: Scene, capsys: pytest.CaptureFixture[str], changes: Mapping[str, Any], reason: str
) -> None:
    asked = scene.add() | dict(changes)
    assert scene.hear(asked) == set()
    assert scene.kept() == set()
    assert told(capsys) == [(asked["filename"], "dropped", reason)]


@pytest.mark.parametrize(
    ("configured", "reason"),
    [
        ({"min_age_days": 36_500}, "is younger than 36500 days"),
        ({"deny": ("spam",)}, "there is no project 'spam'"),
        ({"keep": False}, "do not come through this index"),
        ({"mode": UpstreamMode.REDIRECT, "keep": False}, "clients now get the project from 'fake'"),
    ],
)
def test_what_is_configured_otherwise_by_now_is_dropped(
    scene: Scene, capsys: pytest.CaptureFixture[str], configured: Mapping[str, Any], reason: str
) -> None:
    asked = scene.add()
    outside = Outside((scene.upstream.configured(**({"keep": True} | dict(configured))),))
    opened = scene.site.reopen(outside=outside)
    assert scene.hear(asked, index=opened.index) == set()
    opened.index.close()
    assert scene.kept() == set()
    ((_, outcome, why),) = told(capsys)
    assert outcome == "dropped"
    assert reason in (why or "")


def test_another_upstream_that_answers_by_now_is_left_alone(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    asked = scene.add()
    opened = scene.site.reopen(outside=Outside((scene.upstream.configured(name="other", keep=True),)))
    assert scene.hear(asked, index=opened.index) == set()
    opened.index.close()
    assert (scene.kept(), told(capsys)) == (set(), [(WHEEL, "dropped", "clients now get the project from 'other'")])


@pytest.mark.parametrize("behaviour", ["down", "500", "one other byte", "a stop half-way"])
def test_what_upstream_does_not_send_is_dropped_after_one_try(
    scene: Scene, capsys: pytest.CaptureFixture[str], behaviour: str
) -> None:
    asked = scene.add()
    scene.index.upstreams.find(scene.index.locate(SPAM))  # type: ignore[arg-type]  # nobody has it but upstream
    with scene.upstream.behaving(behaviour, at="/files/"):
        assert scene.hear(asked) == set()
    assert [outcome for _, outcome, _ in told(capsys)] == ["dropped"]
    assert scene.kept() == set()
    if behaviour != "down":  # whoever was not reached is left alone for a while
        assert scene.hear(asked) == set()
        assert told(capsys) == [(WHEEL, "kept", None)]


def test_what_cannot_be_asked_for_now_is_dropped(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    asked = scene.add()
    with scene.upstream.behaving("500"):
        assert scene.hear(asked) == set()
    assert [outcome for _, outcome, _ in told(capsys)] == ["dropped"]


@pytest.mark.parametrize("error", [StorageError("the storage is away"), CatalogError("the catalog is away")])
def test_what_we_cannot_write_now_comes_again(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = scene.add()

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(scene.index.upstreams.files, "bring", fail)
        assert scene.hear(asked) == {WHEEL}
    assert told(capsys) == [(WHEEL, "failed", str(error))] * 2
    assert scene.hear(asked) == set()
    assert told(capsys) == [(WHEEL, "kept", None)]


@pytest.mark.parametrize("size", [0, 10**6, 10**12])
def test_a_file_has_as_much_time_as_its_size_needs(scene: Scene, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    given: list[float] = []
    monkeypatch.setattr(scene.index.upstreams.files, "bring", lambda _, *, deadline: given.append(deadline))
    asked = scene.add(size=None) | {"size": size}
    before = time.monotonic()
    assert scene.hear(asked, milliseconds=900_000) == set()
    assert [0 < each - before - size / 10**6 <= 61 for each in given] == ([True] if size < 10**9 else [])


@pytest.mark.parametrize("told_by", ["the message", "the page"])
def test_what_is_too_large_is_dropped_and_never_asked_for(
    scene: Scene, capsys: pytest.CaptureFixture[str], told_by: str
) -> None:
    size = LARGEST_COPY + 1
    asked = scene.add(size=size) if told_by == "the page" else scene.add() | {"size": size}
    assert scene.hear(asked | ({"size": None} if told_by == "the page" else {})) == set()
    assert scene.upstream.paths("/files/") == []
    reason = f"it is too large to be copied: {size} bytes, and 3500000000 at the most"
    assert told(capsys) == [(WHEEL, "dropped", reason)]


def test_a_mistake_of_ours_is_told_of_and_comes_again_at_once(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, other = scene.add(), scene.add("2.0")

    def locate(_: object) -> Any:
        monkeypatch.undo()
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(scene.index, "locate", locate)
    assert scene.hear(asked, other) == {min((asked, other), key=lambda each: each["size"])["filename"]}
    assert sorted(outcome for _, outcome, _ in told(capsys)) == ["failed", "kept"]


def test_the_smallest_is_copied_first_and_what_has_no_time_comes_again(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"1.0": 3 * 10**9, "2.0": 10**8, "3.0": 10**6}
    asked = [scene.add(version) | {"size": size} for version, size in sizes.items()]
    assert scene.hear(*asked, milliseconds=100_000) == {WHEEL}
    assert [filename for filename, _, _ in told(capsys)] == [asked[2]["filename"], asked[1]["filename"]]
    assert scene.hear(asked[0], milliseconds=100_000) == set()  # the first is tried, however large
    assert scene.hear(scene.add("4.0"), milliseconds=0) == {"spam-4.0-py3-none-any.whl"}
