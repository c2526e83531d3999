"""Files dropped into the directory by hand: a running server lists them once they have settled, and never before."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.dists import make_core_metadata, make_sdist, make_wheel
from tests.running import RunningServer, run_command, serving, wait_for

# Settled means untouched for one second, and then it may take two; the rest is for a machine that is busy.
DEADLINE_SECONDS = 1.0 + 2.0 + 7.0


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(*paths: Path) -> dict[str, str]:
    """Return what a page must list."""
    return {path.name: sha256(path) for path in paths}


def wait_for_listing(server: RunningServer, project: str, expected: dict[str, str] | None) -> None:
    wait_for(lambda: server.listing(project), lambda found: found == expected, seconds=DEADLINE_SECONDS)


# How files come --------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory on the same file system, where files can be moved from."""
    directory = tmp_path / "outside"
    directory.mkdir()
    return directory


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def moved(source: Path, target: Path) -> None:
    """As `mv` does: a directory that is not there comes at once, with all that is in it."""
    if target.exists():
        for path in source.iterdir():
            moved(path, target / path.name)
    else:
        source.rename(target)


def copied_aside_then_renamed(source: Path, target: Path) -> None:
    """As rsync does: each file is written under a hidden name in its place."""
    for path in source.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = place.with_name(f".{place.name}.a8Xk2Q")
            shutil.copy2(path, draft)
            draft.rename(place)


def linked(source: Path, target: Path) -> None:
    """With hard links: no file is ever written to."""
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=os.link)


@pytest.mark.parametrize("place", [".", "acme", "Acme", "a/b c/d-é/e"])
@pytest.mark.parametrize("come", [copied, moved, copied_aside_then_renamed, linked])
def test_what_is_dropped_is_listed(
    server: RunningServer, outside: Path, come: Callable[[Path, Path], None], place: str
) -> None:
    below = outside / place
    below.mkdir(parents=True, exist_ok=True)
    files = [make_wheel(below), make_sdist(below), make_wheel(below, version="2.0+local.1")]
    make_sdist(below, suffix=".zip").with_suffix(".txt").write_text("no distribution file")
    files.append(below / "acme-1.0.zip")
    expected = digests(*files)
    come(outside, server.files)
    wait_for_listing(server, "acme", expected)
    for filename, digest in expected.items():
        answer = server.fetch(f"/packages/acme/{filename.replace('+', '%2B')}")
        assert hashlib.sha256(answer.content).hexdigest() == digest


LIMITED = "unshare --user --map-root-user sh -c 'echo {watches} > /proc/sys/user/max_inotify_watches && exec \"$@\"' sh"


@pytest.mark.parametrize("watches", [1, 4])
def test_where_the_system_gives_no_more_watches_files_are_listed_all_the_same(tmp_path: Path, watches: int) -> None:
    command = shlex.split(LIMITED.format(watches=watches))
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        assert os.environ.get("CI") != "true"
        pytest.skip("this system has no user namespaces, in which watches can be limited")
    with serving(tmp_path / "data", home=tmp_path / "home", before=command) as server:
        wait_for(lambda: "cannot be watched" in server.output())
        make_wheel(server.files, "acme", "1.0")
        wait_for(lambda: server.listing("acme"))


def test_many_files_at_once_are_all_listed(server: RunningServer, outside: Path) -> None:
    projects = {f"acme-{number}": make_wheel(outside, f"acme-{number}") for number in range(300)}
    expected = {project: digests(path) for project, path in projects.items()}
    shutil.copytree(outside, server.files / "deep" / "deeper")
    wait_for(lambda: len(server.projects()), lambda found: found == 300)
    assert {project: server.listing(project) for project in projects} == expected


def test_files_there_at_start_are_found(tmp_path: Path) -> None:
    files = tmp_path / "data" / "files"
    places = [files, files / "other", files / "acme", files / "a" / "b"]
    for place in places:
        place.mkdir(parents=True)
    wheels = [make_wheel(place, version=f"{number}.0") for number, place in enumerate(places)]
    with serving(tmp_path / "data", home=tmp_path / "home") as server:
        wait_for_listing(server, "acme", digests(*wheels))


def test_a_file_that_is_no_distribution_is_reported_and_left_out(server: RunningServer) -> None:
    (server.files / "broken-1.0-py3-none-any.whl").write_bytes(b"not a zip")
    (server.files / "acme-and-no-version.whl").write_bytes(b"not a filename")
    wheel = make_wheel(server.files)
    wait_for_listing(server, "acme", digests(wheel))
    wait_for(server.output, lambda log: "rejected broken-1.0" in log, seconds=DEADLINE_SECONDS)
    assert "broken" not in server.projects() or server.listing("broken") == {}
    report = run_command("sync", "--data", server.data, home=server.data / "home")
    assert "problem: acme-and-no-version.whl:" in report.stderr
    assert "problem: broken-1.0-py3-none-any.whl:" in report.stderr


def test_a_filename_that_is_not_text_does_not_end_the_watch(server: RunningServer, outside: Path) -> None:
    Path(os.fsdecode(os.fsencode(server.files) + b"/n\xff.txt")).touch()
    wait_for(lambda: "watching begins anew" in server.output())
    wheel = make_wheel(outside)
    shutil.copy(wheel, server.files)
    wait_for_listing(server, "acme", digests(wheel))


def test_symbolic_links_lead_nowhere(server: RunningServer, outside: Path) -> None:
    secret = make_wheel(outside, "secret")
    (server.files / secret.name).symlink_to(secret)
    (server.files / "directory").symlink_to(outside, target_is_directory=True)
    wheel = make_wheel(server.files)
    wait_for_listing(server, "acme", digests(wheel))
    assert server.listing("secret") is None


# Half-written files ----------------------------------------------------------------------------------------------


def test_a_file_that_is_kept_open_is_listed_when_it_is_closed(server: RunningServer, outside: Path) -> None:
    wheel = make_wheel(outside, extra_files={"acme.bin": os.urandom(300_000)})
    data, expected = wheel.read_bytes(), digests(wheel)
    until = time.monotonic() + 3.0
    with (server.files / wheel.name).open("wb") as stream:
        # All there but the end of the zip; then nothing happens for longer than it takes to settle.
        stream.write(data[:-100])
        stream.flush()
        wait_for(lambda: (server.listing("acme"), time.monotonic() > until), any)
        assert server.listing("acme") is None
        stream.write(data[-100:])
    wait_for_listing(server, "acme", expected)
    assert "rejected" not in server.output()


def test_a_file_that_is_written_in_pieces_is_never_listed_by_half(server: RunningServer, outside: Path) -> None:
    """Each piece with the file opened anew, as a program that nothing can tell from one that has ended."""
    wheel = make_wheel(outside, extra_files={"acme.bin": os.urandom(300_000)})
    data, expected = wheel.read_bytes(), digests(wheel)
    place = server.files / wheel.name
    for start in range(0, len(data), 50_000):
        with place.open("ab") as stream:
            stream.write(data[start : start + 50_000])
        for _ in range(10):
            assert server.listing("acme") in (None, {}, expected)
    wait_for_listing(server, "acme", expected)


def test_a_file_that_stops_half_way_is_listed_when_it_is_whole(server: RunningServer, outside: Path) -> None:
    wheel = make_wheel(outside)
    data = wheel.read_bytes()
    place = server.files / wheel.name
    place.write_bytes(data[: len(data) // 2])
    wait_for(server.output, lambda log: f"rejected {wheel.name}" in log, seconds=DEADLINE_SECONDS)
    assert not server.listing("acme")
    with place.open("ab") as stream:
        stream.write(data[len(data) // 2 :])
    wait_for_listing(server, "acme", digests(wheel))


def test_a_large_file_that_grows_is_never_listed_by_half(server: RunningServer, outside: Path) -> None:
    """A wheel whose beginning is a whole wheel, too: what is half-written may look complete."""
    first = make_wheel(outside, version="1.0").read_bytes()
    wheel = make_wheel(outside, version="1.0", description="longer")
    data, expected = wheel.read_bytes(), digests(wheel)
    place = server.files / wheel.name
    with place.open("wb") as stream:
        stream.write(first)
        stream.flush()
        until = time.monotonic() + 2.0
        wait_for(lambda: (server.listing("acme"), time.monotonic() > until), any)
        assert server.listing("acme") is None
        stream.seek(0)
        stream.truncate()
        stream.write(data)
    wait_for_listing(server, "acme", expected)


# How files go and change -----------------------------------------------------------------------------------------


def test_removed_files_disappear(server: RunningServer) -> None:
    one, other = make_wheel(server.files, version="1.0"), make_wheel(server.files, version="2.0")
    alone = make_wheel(server.files, "alone")
    wait_for_listing(server, "acme", digests(one, other))
    wait_for_listing(server, "alone", digests(alone))
    remaining = digests(other)
    one.unlink()
    alone.unlink()
    wait_for_listing(server, "acme", remaining)
    wait_for_listing(server, "alone", {})  # it stays ours, so that nobody is sent to another index for it
    assert server.fetch(f"/packages/acme/{one.name}").status_code == 404
    assert json.loads((server.files / "alone" / "project.json").read_text())["status"] == "active"


def removed(directory: Path) -> None:
    shutil.rmtree(directory)


def moved_away(directory: Path) -> None:
    directory.rename(directory.parents[3] / "away")


@pytest.mark.parametrize("go", [removed, moved_away])
def test_a_directory_with_many_files_goes(server: RunningServer, outside: Path, go: Callable[[Path], None]) -> None:
    deep = outside / "deep"
    deep.mkdir()
    for number in range(200):
        make_wheel(deep, version=f"1.{number}")
    place = server.files / "some" / "where"
    place.parent.mkdir()
    outside.rename(place)
    wait_for(lambda: len(server.listing("acme") or {}), lambda found: found == 200)
    go(place)
    wait_for(lambda: server.listing("acme"), lambda found: found == {})


def test_a_directory_that_is_renamed_keeps_its_files(server: RunningServer) -> None:
    before, after = server.files / "before", server.files / "after"
    before.mkdir()
    wheels = [make_wheel(before, version=f"1.{number}") for number in range(20)]
    expected = digests(*wheels)
    wait_for_listing(server, "acme", expected)
    before.rename(after)
    wait_for(
        lambda: server.fetch("/packages/acme/acme-1.7-py3-none-any.whl").status_code,
        lambda status: status == 200,
        seconds=DEADLINE_SECONDS,
    )
    wait_for_listing(server, "acme", expected)
    assert server.projects() == ["acme"]


def written_over(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def renamed_over(path: Path, data: bytes) -> None:
    draft = path.with_name(".draft")
    draft.write_bytes(data)
    draft.rename(path)


@pytest.mark.parametrize("keeps_time", [False, True])
@pytest.mark.parametrize("change", [written_over, renamed_over])
def test_changed_bytes_are_noticed(
    server: RunningServer, outside: Path, change: Callable[[Path, bytes], None], keeps_time: bool
) -> None:
    """Also where size and mtime are as before."""
    wheel = make_wheel(server.files)
    candidates = (make_wheel(outside, extra_files={"n": b"%d" % number}).read_bytes() for number in range(10**6))
    first = next(candidates)
    wheel.write_bytes(first)
    other = next(data for data in candidates if len(data) == len(first))
    old = digests(wheel)
    wait_for_listing(server, "acme", old)
    status = wheel.stat()
    change(wheel, other)
    if keeps_time:
        os.utime(wheel, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert (wheel.stat().st_size, wheel.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    new = {wheel.name: hashlib.sha256(other).hexdigest()}
    assert new != old

    def see() -> dict[str, str] | None:
        answer = server.fetch(f"/packages/acme/{wheel.name}")
        if answer.status_code == 200:  # never other bytes than those that are named
            assert answer.headers["ETag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        else:
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        return server.listing("acme")

    wait_for(see, lambda found: found == new, seconds=DEADLINE_SECONDS)
    assert server.fetch(f"/packages/acme/{wheel.name}").content == other


def test_other_core_metadata_is_noticed(server: RunningServer) -> None:
    wheel = make_wheel(server.files)
    wait_for_listing(server, "acme", digests(wheel))
    make_wheel(server.files, requires_python=">=3.12")
    wait_for_listing(server, "acme", digests(wheel))
    (file,) = server.fetch("/simple/acme/").json()["files"]
    core_metadata = make_core_metadata("acme", "1.0", requires_python=">=3.12")
    assert file["requires-python"] == ">=3.12"
    assert file["core-metadata"] == {"sha256": hashlib.sha256(core_metadata).hexdigest()}
    assert server.fetch(f"/packages/acme/{wheel.name}.metadata").content == core_metadata


def test_decisions_take_effect_as_they_are_edited(server: RunningServer) -> None:
    (server.files / "acme").mkdir()
    wheel = make_wheel(server.files / "acme")
    decisions = server.files / "acme" / "project.json"
    wait_for_listing(server, "acme", digests(wheel))

    def page() -> tuple[str | None, list[object]]:
        document = server.fetch("/simple/acme/").json()
        return document.get("project-status", {}).get("status"), [file["yanked"] for file in document["files"]]

    def wait_for_page(status: str, *yanked: object) -> None:
        wait_for(page, lambda found: found == (status, list(yanked)), seconds=DEADLINE_SECONDS)

    wait_for_page("active", False)
    decisions.write_text('{"yanked": {"1.0": "broken"}}')
    wait_for_page("active", "broken")
    decisions.write_text('{"status": "deprecated", "yanked": {"acme-1.0-py3-none-any.whl": ""}}')
    wait_for_page("deprecated", True)
    decisions.write_text('{"status": "archived", ')  # the last good ones stay
    wait_for(server.output, lambda log: "project.json cannot be read" in log, seconds=DEADLINE_SECONDS)
    assert page() == ("deprecated", [True])
    decisions.write_text('{"status": "quarantined"}')
    wait_for_page("quarantined")
    assert server.fetch(f"/packages/acme/{wheel.name}").status_code == 403
    decisions.unlink()
    wait_for_page("active", False)


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"status": []}', b'{"yanked": {"1.0": null}}'])
def test_decisions_that_cannot_be_read_stop_nothing_else(server: RunningServer, text: bytes) -> None:
    (server.files / "acme").mkdir()
    (server.files / "acme" / "project.json").write_bytes(text)
    make_wheel(server.files / "acme")
    other = make_wheel(server.files, "other")
    wait_for_listing(server, "other", digests(other))
    wait_for(
        lambda: server.fetch("/simple/acme/").json().get("project-status", {}).get("status"),
        lambda status: status == "quarantined",
        seconds=DEADLINE_SECONDS,
    )
    assert server.listing("acme") == {}


# What is known already -------------------------------------------------------------------------------------------


IN_ACCESS, IN_OPEN = 0x1, 0x20


@contextmanager
def noted(event: int, *paths: Path) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether anybody has read or opened one of these files."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init()
    try:
        for path in paths:
            assert libc.inotify_add_watch(watch, bytes(path), event) > 0
        yield lambda: bool(select.select([watch], [], [], 0)[0])
    finally:
        os.close(watch)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who opens a file")
def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    home, data = tmp_path / "home", tmp_path / "data"
    with serving(data, home=home) as server:
        dropped, uploaded = make_wheel(server.files), make_wheel(tmp_path, "uploaded")
        assert server.upload(uploaded).status_code == 200
        wait_for_listing(server, "acme", digests(dropped))
        assert server.stop() == 0
    kept = [dropped, data / "files" / "uploaded" / uploaded.name]
    with noted(IN_OPEN, *kept) as somebody_opened:
        for _ in range(2):
            report = run_command("sync", "--data", data, home=home)
            assert report.stdout == "2 unchanged, 0 added, 0 changed, 0 removed\n"
        with serving(data, home=home) as server:
            # What comes now is indexed after the sync of the start.
            late = make_wheel(server.files, "late")
            wait_for_listing(server, "late", digests(late))
            assert server.listing("acme") == digests_of_unread(dropped.name, server)
            assert not somebody_opened()
        assert server.stop() in (0, -15)
        assert kept[0].read_bytes()
        assert somebody_opened()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who reads a file")
def test_what_was_uploaded_is_not_read_again_when_it_is_noticed(server: RunningServer, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    assert server.upload(wheel).status_code == 200
    with noted(IN_ACCESS, server.files / "acme" / wheel.name) as somebody_read:
        make_wheel(server.files, "late")
        wait_for(lambda: server.listing("late"), seconds=DEADLINE_SECONDS)  # whoever comes later settles later
        assert not somebody_read()
        server.fetch(f"/packages/acme/{wheel.name}")
        assert somebody_read()


def digests_of_unread(filename: str, server: RunningServer) -> dict[str, str]:
    """Return what HEAD says, which opens nothing."""
    answer = server.fetch(f"/packages/acme/{filename}", method="HEAD")
    return {filename: answer.headers["ETag"].strip('"')}


# Who watches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [0, 1])
def test_when_the_watching_server_is_killed_another_takes_over(tmp_path: Path, victim: int) -> None:
    """One of the two watches; killing each in turn kills the one that does."""
    home, data = tmp_path / "home", tmp_path / "data"
    with serving(data, home=home) as one, serving(data, home=home) as other:
        servers = [one, other]
        first = make_wheel(one.files, "first")
        for server in servers:
            wait_for_listing(server, "first", digests(first))
        survivor = servers[1 - victim]
        servers[victim].kill()
        missed = make_wheel(survivor.files, "missed")
        wait_for_listing(survivor, "missed", digests(missed))
        first.unlink()
        wait_for_listing(survivor, "first", {})


def test_uploads_and_drops_of_the_same_file_agree(server: RunningServer, outside: Path) -> None:
    """The canonical key is served; when it goes, the other one is."""
    dropped = make_wheel(server.files)
    expected = digests(dropped)
    wait_for_listing(server, "acme", expected)
    assert server.upload(dropped).status_code == 200
    other = make_wheel(outside, description="other bytes")
    assert server.upload(other).status_code == 409
    (server.files / "acme").mkdir()
    canonical = server.files / "acme" / dropped.name
    shutil.copyfile(other, canonical)
    wait_for_listing(server, "acme", digests(other))
    canonical.unlink()
    wait_for_listing(server, "acme", expected)
