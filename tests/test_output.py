"""The contract of `Output`, on every adapter; then what a directory and a bucket can meet each, and their names."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError

from elasticpypi.aws import AWS
from elasticpypi.errors import BusyError, ConfigError, ConflictError, OutputError
from elasticpypi.output import Output, Written
from elasticpypi.output.directory import DirectoryOutput
from elasticpypi.output.opening import open_output
from elasticpypi.output.s3 import S3Output
from tests.aws import Cloud, counting
from tests.privileges import unprivileged
from tests.running import wait_for

PATH = "simple/acme/index.html"
HTML = "text/html"
JSON = "application/vnd.pypi.simple.v1+json"


def open_directory(request: pytest.FixtureRequest) -> Output:
    root: Path = request.getfixturevalue("tmp_path")
    return DirectoryOutput(root / "site")


def open_bucket(request: pytest.FixtureRequest) -> Output:
    cloud: Cloud = request.getfixturevalue("cloud")
    return S3Output(cloud.aws, cloud.make_bucket())


def open_prefix(request: pytest.FixtureRequest) -> Output:
    """A part of a bucket, whose neighbours' keys begin and end much as its own do."""
    cloud: Cloud = request.getfixturevalue("cloud")
    bucket = cloud.make_bucket()
    for other in ("", "si", "sit", "site-2", "site/b", "sitf"):
        write(S3Output(cloud.aws, bucket, other), PATH, b"of a neighbour")
    return S3Output(cloud.aws, bucket, "site/a")


ADAPTERS = [
    pytest.param(open_directory, id="directory"),
    pytest.param(open_bucket, id="bucket"),
    pytest.param(open_prefix, id="prefix"),
]


@pytest.fixture(params=ADAPTERS)
def output(request: pytest.FixtureRequest) -> Output:
    opened: Output = request.param(request)
    return opened


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "site"


@pytest.fixture
def directory(root: Path) -> DirectoryOutput:
    return DirectoryOutput(root)


@pytest.fixture
def bucket(cloud: Cloud) -> str:
    return cloud.make_bucket()


@pytest.fixture
def s3(cloud: Cloud, bucket: str) -> S3Output:
    return S3Output(cloud.aws, bucket)


def write(output: Output, path: str = PATH, data: bytes = b"data", *, replacing: Written | None = None) -> Written:
    return output.write(path, data, HTML, replacing=replacing)


def paths(output: Output, prefix: str = "") -> list[str]:
    return sorted(written.path for written in output.list(prefix))


# The contract


def test_a_document_that_was_written_is_there(output: Output) -> None:
    written = write(output)
    assert (written.path, written.size) == (PATH, 4)
    assert output.look(PATH) == written
    assert output.read(PATH) == (b"data", written)
    assert list(output.list()) == [written]


@pytest.mark.parametrize("path", [PATH, "nothing", "simple", "simple/acme", f"{PATH}/below"])
def test_where_nothing_lies_nothing_is_found(output: Output, path: str) -> None:
    assert (output.look(path), output.read(path), list(output.list())) == (None, None, [])
    write(output)
    if path != PATH:
        assert (output.look(path), output.read(path)) == (None, None)


def test_a_document_is_made_only_where_there_is_none(output: Output) -> None:
    written = write(output)
    for data in (b"data", b"other"):
        with pytest.raises(ConflictError) as caught:
            write(output, data=data)
        assert caught.value.key == PATH
    assert output.read(PATH) == (b"data", written)


def test_a_document_is_replaced_only_as_it_was_seen(output: Output) -> None:
    first = write(output)
    second = write(output, data=b"DATA", replacing=first)
    assert first.token != second.token
    with pytest.raises(ConflictError) as caught:
        write(output, data=b"late", replacing=first)
    assert caught.value.key == PATH
    assert output.read(PATH) == (b"DATA", second)
    output.remove(second)
    with pytest.raises(ConflictError):
        write(output, data=b"late", replacing=second)
    assert paths(output) == []


def test_a_document_is_removed_only_as_it_was_seen(output: Output) -> None:
    first = write(output)
    second = write(output, data=b"DATA", replacing=first)
    with pytest.raises(ConflictError) as caught:
        output.remove(first)
    assert caught.value.key == PATH
    assert output.read(PATH) == (b"DATA", second)
    output.remove(second)
    assert (output.look(PATH), output.read(PATH), paths(output)) == (None, None, [])
    output.remove(second)
    assert write(output).size == 4


def test_other_bytes_have_other_tokens(output: Output) -> None:
    written, tokens = None, set()
    for number in range(20):
        written = write(output, data=f"{number:04}".encode(), replacing=written)
        tokens.add(written.token)
    assert len(tokens) == 20


def test_a_document_holds_just_the_bytes_that_were_written(output: Output) -> None:
    written = write(output, data=b"data")
    others = (b"DATA", b"data ", b"dat", b"")
    assert [output.holds(written, data) for data in (b"data", *others)] == [True] + [False] * 4
    empty = write(output, "empty", b"")
    assert [output.holds(empty, data) for data in (b"", b"data")] == [True, False]


def test_another_output_on_the_same_place_knows_as_much(request: pytest.FixtureRequest, output: Output) -> None:
    written = write(output)
    if isinstance(output, DirectoryOutput):
        other: Output = DirectoryOutput(request.getfixturevalue("root"))
    else:
        other = _again(output)
    assert (other.look(PATH), other.holds(written, b"data"), other.holds(written, b"DATA")) == (written, True, False)
    other.remove(written)
    assert output.look(PATH) is None


def _again(output: Output) -> Output:
    assert isinstance(output, S3Output)
    return S3Output(output._bucket._aws, output._bucket.name, output._prefix)  # noqa: SLF001


AWKWARD = [
    *("index.html", "404.html", "simple/index.html", "simple/a/index.html", "simple/a-b/index.html", "simple/ab"),
    *(
        "pypi/x/json",
        "pypi/x/1!2.0+local/json",
        "pypi/x/1.0/json",
        "packages/é/ü.metadata",
        "packages/a b/100%.metadata",
    ),
    *("packages/\U0001f600.metadata", "packages/\uffff", "x/%2F%2e", "x/?a=b&c#d", "x/[*]", "x/.hidden", ".well/known"),
    *("x/a\\b", "x/'\"<>", "x/..a", "x/a..", "x/...", ".elasticpypi-not/a", "x/.elasticpypi/a"),
]


def test_documents_are_listed_whatever_their_paths(output: Output) -> None:
    written = {path: write(output, path, path.encode()) for path in AWKWARD}
    assert {found.path: found for found in output.list()} == written
    assert [output.read(path) for path in AWKWARD] == [(path.encode(), written[path]) for path in AWKWARD]
    for found in list(output.list()):
        output.remove(found)
    assert list(output.list()) == []


PREFIXES = ["", "simple/", "simple/a", "simple/a/", "sim", "pypi/x/1", "packages/é", "x/%", "x/.", "none", "simple/a/i"]


def test_documents_are_listed_by_prefix(output: Output) -> None:
    for path in AWKWARD:
        write(output, path)
    for prefix in (*PREFIXES, "index.html", "index.html/", ".", ".elasticpypi-", "simple/ab/c"):
        assert paths(output, prefix) == sorted(path for path in AWKWARD if path.startswith(prefix)), prefix


def test_our_own_state_is_listed_only_if_asked_for(output: Output) -> None:
    state = [".elasticpypi/root.json", ".elasticpypi/site/acme", ".elasticpypi/site/é"]
    around = ["-", ".a", "simple/index.html"]
    for path in (*state, *around):
        write(output, path)
    assert paths(output) == sorted(around)
    assert [paths(output, prefix) for prefix in (".", ".elasticpypi")] == [[".a"], []]
    assert paths(output, ".elasticpypi/") == sorted(state)
    assert paths(output, ".elasticpypi/s") == sorted(state[1:])


@pytest.mark.parametrize("path", ["", "/", "a//b", "/a", "a/", "..", "a/../b", "./a", "a/.", "a\0b", "a/\udc80"])
def test_what_is_no_path_is_neither_written_nor_looked_for(output: Output, tmp_path: Path, path: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    attempts: list[Callable[[], object]] = [
        *(partial(write, output, path), partial(output.look, path), partial(output.read, path)),
        partial(output.remove, Written(path, 0, '"00"')),
    ]
    for attempt in attempts:
        with pytest.raises(OutputError, match="correct the name that it comes from"):
            attempt()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("is_there", [False, True])
def test_of_many_writers_at_once_one_wins(output: Output, *, is_there: bool) -> None:
    replacing = write(output) if is_there else None

    def try_to_write(number: int) -> bytes | None:
        data = f"{number:04}".encode() * 1000
        try:
            write(output, data=data, replacing=replacing)
        except ConflictError:
            return None
        return data

    with ThreadPoolExecutor(16) as pool:
        winners = [data for data in pool.map(try_to_write, range(16)) if data is not None]
    found = output.read(PATH)
    assert found is not None
    assert [found[0]] == winners


def test_of_one_who_writes_and_one_who_removes_one_wins(output: Output) -> None:
    for number in range(8):
        path = f"{number}/index.html"
        seen = write(output, path)
        with ThreadPoolExecutor(2) as pool:
            writing = pool.submit(write, output, path, b"more data", replacing=seen)
            removing = pool.submit(output.remove, seen)
        lost = [isinstance(done.exception(), ConflictError) for done in (writing, removing)]
        found = output.read(path)
        assert (lost, found and found[0]) in [([False, True], b"more data"), ([True, False], None)]


def test_a_reader_sees_whole_documents_only(output: Output) -> None:
    sizes = [10, 1_000_000]
    written = write(output, data=b"x" * sizes[0])
    is_over = threading.Event()

    def read_on() -> Counter[int]:
        seen: Counter[int] = Counter()
        while not is_over.is_set():
            found = output.read(PATH)
            seen[-1 if found is None else len(found[0])] += 1
        return seen

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_on)
        try:
            for number in range(20):
                written = write(output, data=b"x" * sizes[(number + 1) % 2], replacing=written)
        finally:
            is_over.set()
        seen = reading.result()
    assert seen.keys() <= set(sizes)


def test_a_large_document_is_written_whole(output: Output) -> None:
    data = os.urandom(9 * 2**20)
    written = write(output, "packages.json", data)
    assert output.read("packages.json") == (data, written)
    assert output.holds(written, data)


@pytest.mark.parametrize("output", ADAPTERS[:2], indirect=True)
def test_many_documents_are_listed(cloud: Cloud, output: Output) -> None:
    expected = [f"pypi/project-{number % 10}/{number}/json" for number in range(60)]
    with ThreadPoolExecutor(output.at_once) as pool:
        list(pool.map(partial(write, output), [*expected, ".elasticpypi/site/acme"]))
    with listing_in_pages_of(cloud, 7):
        assert paths(output) == sorted(expected)
        assert paths(output, "pypi/project-7/") == sorted(path for path in expected if "/project-7/" in path)


@contextmanager
def listing_in_pages_of(cloud: Cloud, count: int) -> Iterator[None]:
    """Have S3 name so many objects in an answer, not a thousand."""

    def shorten(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = count

    event = "before-parameter-build.s3.ListObjectsV2"
    cloud.aws.s3.meta.events.register(event, shorten)
    try:
        yield
    finally:
        cloud.aws.s3.meta.events.unregister(event, shorten)


def test_who_is_alone_with_it_may_be_so_more_than_once(output: Output) -> None:
    with output.exclusively():
        with output.exclusively():
            written = write(output)
        output.remove(written)
    with output.exclusively():
        assert write(output).size == 4


# A directory


def kinds(root: Path) -> dict[str, str]:
    """Return what lies below a directory, by path, but for our own state."""
    found = {path.relative_to(root).as_posix(): stat.filemode(path.lstat().st_mode) for path in root.rglob("*")}
    return {path: mode for path, mode in found.items() if not path.startswith(".elasticpypi")}


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_web_server_of_another_user_may_read_everything(directory: DirectoryOutput, root: Path) -> None:
    write(directory)
    write(directory, ".elasticpypi/root.json")
    assert kinds(root) == {"simple": "drwxr-xr-x", "simple/acme": "drwxr-xr-x", PATH: "-rw-r--r--"}
    assert sorted(path.name for path in (root / ".elasticpypi").iterdir()) == ["output.lock", "root.json"]


@pytest.mark.usefixtures("umask")
def test_the_umask_counts(directory: DirectoryOutput, root: Path) -> None:
    os.umask(0o027)
    write(directory)
    assert kinds(root) == {"simple": "drwxr-x---", "simple/acme": "drwxr-x---", PATH: "-rw-r-----"}


def test_a_directory_goes_with_its_last_document(directory: DirectoryOutput, root: Path) -> None:
    kept = write(directory, "pypi/acme/json")
    gone = write(directory, "pypi/acme/1.0/json")
    directory.remove(gone)
    assert kinds(root).keys() == {"pypi", "pypi/acme", "pypi/acme/json"}
    with directory.exclusively():
        directory.remove(kept)
        assert kinds(root) == {}
        write(directory, "pypi/acme/json")


def test_a_directory_with_something_else_in_it_stays(directory: DirectoryOutput, root: Path) -> None:
    written = write(directory)
    (root / "simple" / "by-hand").write_text("kept")
    directory.remove(written)
    assert kinds(root).keys() == {"simple", "simple/by-hand"}


def test_a_directory_that_somebody_removes_meanwhile_is_made_again(directory: DirectoryOutput, root: Path) -> None:
    with directory.exclusively():
        directory.remove(write(directory, "simple/a/x"))
        write(directory, "simple/acme/index.json")
        (root / "simple/acme/index.json").unlink()
        (root / "simple/acme").rmdir()
        write(directory)
    assert kinds(root).keys() == {"simple", "simple/acme", PATH}


def test_documents_of_one_size_are_of_different_seconds(directory: DirectoryOutput, root: Path) -> None:
    """nginx's ETag is of no more than second and size: a client must not take one for the other."""
    written, etags = None, set()
    for data in (b"one", b"two", b"six"):
        written = write(directory, data=data, replacing=written)
        status = (root / PATH).stat()
        etags.add((int(status.st_mtime), status.st_size))
    assert len(etags) == 3


def test_bytes_changed_by_hand_are_noticed(directory: DirectoryOutput, root: Path) -> None:
    written = write(directory)
    (root / PATH).write_bytes(b"DATA")
    assert directory.look(PATH) != written
    with pytest.raises(BusyError):
        directory.holds(written, b"data")
    with pytest.raises(ConflictError):
        write(directory, replacing=written)
    (root / PATH).unlink()
    with pytest.raises(BusyError):
        directory.holds(written, b"data")


def test_nothing_lies_where_no_directory_is_yet(directory: DirectoryOutput, root: Path) -> None:
    assert (directory.look(PATH), directory.read(PATH), paths(directory)) == (None, None, [])
    directory.remove(Written(PATH, 4, "4-0-0"))
    assert kinds(root) == {}


# Ends itself in the middle of the third document.
KILLED = """
import os, signal, sys
from pathlib import Path
from elasticpypi.output.directory import DirectoryOutput

output = DirectoryOutput(Path(sys.argv[1]))
first = output.write("a/index.html", b"old", "text/html", replacing=None)
output.write("b/index.html", b"old", "text/html", replacing=None)
getattr(os, sys.argv[2])
setattr(os, sys.argv[2], lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
with output.exclusively():
    if sys.argv[3] == "new":
        output.write("c/index.html", b"x" * 100_000, "text/html", replacing=None)
    else:
        output.write("a/index.html", b"x" * 100_000, "text/html", replacing=first)
"""


@pytest.mark.parametrize("what", ["new", "old"])
@pytest.mark.parametrize("call", ["write", "rename", "close"])
def test_who_is_killed_leaves_nothing_visible_and_no_lock(
    directory: DirectoryOutput, root: Path, call: str, what: str
) -> None:
    script = [sys.executable, "-c", KILLED, str(root), call, what]
    assert subprocess.run(script, check=False, timeout=60).returncode == -signal.SIGKILL
    files = [path for path in kinds(root) if (root / path).is_file()]
    assert sorted(files) == ["a/index.html", "b/index.html"]
    assert [(root / path).read_bytes() for path in files] == [b"old", b"old"]
    assert paths(directory, ".elasticpypi/") == []
    replaced = directory.look("a/index.html")
    write(directory, "a/index.html", b"new", replacing=replaced)
    assert (root / "a/index.html").read_bytes() == b"new"
    assert [path.name for path in (root / ".elasticpypi").iterdir()] == ["output.lock"]


HOLDING = """
import sys
from pathlib import Path
from elasticpypi.output.directory import DirectoryOutput

with DirectoryOutput(Path(sys.argv[1])).exclusively():
    print("alone", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have another process be alone with the output until it ends."""
    script = [sys.executable, "-c", HOLDING, str(root)]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"alone\n"
            yield process
        finally:
            process.kill()


def is_waiting_for_lock() -> bool:
    """Whether a thread of this process waits for a lock on a file (Linux, proc(5))."""
    return any(
        line.split()[1] == "->" and line.split()[5] == str(os.getpid())
        for line in Path("/proc/locks").read_text().splitlines()
    )


@pytest.mark.parametrize("attempt", ["exclusively", "write", "remove"])
def test_others_wait_until_who_is_alone_is_done_or_killed(directory: DirectoryOutput, root: Path, attempt: str) -> None:
    written = write(directory, "seen", b"data")

    def try_it() -> None:
        if attempt == "exclusively":
            with directory.exclusively():
                pass
        elif attempt == "write":
            write(directory)
        else:
            directory.remove(written)

    with held_by_another(root) as holder, ThreadPoolExecutor(1) as pool:
        trying = pool.submit(try_it)
        try:
            wait_for(is_waiting_for_lock)
            assert not trying.done()
            assert paths(DirectoryOutput(root)) == ["seen"]  # who reads does not wait
        finally:
            holder.kill()
        trying.result(30)


def test_threads_of_one_output_wait_for_each_other(directory: DirectoryOutput) -> None:
    with ThreadPoolExecutor(1) as pool:
        with directory.exclusively():
            writing = pool.submit(write, directory, "other")
            write(directory)
            assert paths(directory) == [PATH]
        writing.result(30)
    assert paths(directory) == ["other", PATH]


def test_a_lock_on_an_output_that_was_removed_is_none(directory: DirectoryOutput, root: Path) -> None:
    with held_by_another(root) as holder, ThreadPoolExecutor(1) as pool:
        trying = pool.submit(write, directory)
        try:
            wait_for(is_waiting_for_lock)
            (root / ".elasticpypi/output.lock").rename(root / "taken-away")
        finally:
            holder.kill()
        trying.result(30)
    assert (root / ".elasticpypi/output.lock").exists()


def link_out(root: Path) -> None:
    (root.parent / "outside").mkdir()
    (root / "simple").symlink_to(root.parent / "outside")


def test_no_link_is_followed(directory: DirectoryOutput, root: Path) -> None:
    root.mkdir()
    link_out(root)
    outside = root.parent / "outside" / "acme" / "index.html"
    outside.parent.mkdir()
    outside.write_text("data")
    (root / "link.html").symlink_to(outside)
    with pytest.raises(OutputError, match=re.escape(f"{root}/simple is a symbolic link")):
        write(directory)
    with pytest.raises(OutputError, match="is a symbolic link"):
        directory.remove(Written(PATH, 4, "any"))
    attempts: list[Callable[[], object]] = [
        *(partial(write, directory, "link.html"), partial(directory.look, "link.html")),
        *(partial(directory.read, "link.html"), partial(directory.remove, Written("link.html", 4, "any"))),
    ]
    for attempt in attempts:
        with pytest.raises(OutputError, match=re.escape(f"{root}/link.html is no file")):
            attempt()
    assert paths(directory) == []
    assert outside.read_text() == "data"


def test_the_output_itself_may_be_a_link(root: Path) -> None:
    root.mkdir()
    link = root.parent / "link"
    link.symlink_to(root)
    write(DirectoryOutput(link))
    assert (root / PATH).read_bytes() == b"data"


def make_file(root: Path) -> None:
    (root / "simple").write_text("by hand")


def make_directory(root: Path) -> None:
    (root / PATH).mkdir(parents=True)


def make_pipe(root: Path) -> None:
    (root / "simple/acme").mkdir(parents=True)
    os.mkfifo(root / PATH)


def forbid(root: Path) -> None:
    (root / "simple").mkdir()
    (root / "simple").chmod(0o500)


OBSTACLES = [
    (make_file, PATH, "/simple must be a directory, but is a file or lies below one: move that away"),
    (make_directory, PATH, f"/{PATH} is a directory where a file must be: move it away"),
    (make_pipe, PATH, f"/{PATH} is no file, and no link is followed: move it away"),
    (forbid, PATH, f"/{PATH} cannot be used (Permission denied): allow it to the user that writes the index"),
    (Path.exists, "x" * 300, f"/{'x' * 300} is too long for this file system: write to another one, or to S3"),
]


@pytest.mark.parametrize(("obstruct", "path", "sentence"), OBSTACLES)
def test_what_is_in_the_way_is_told(
    directory: DirectoryOutput, root: Path, obstruct: Callable[[Path], None], path: str, sentence: str
) -> None:
    root.mkdir()
    obstruct(root)
    with pytest.raises(OutputError) as caught, unprivileged():
        write(directory, path)
    assert str(caught.value) == f"{root}{sentence}"
    write(directory, "other")


def test_nobody_waits_for_a_pipe_in_the_output(directory: DirectoryOutput, root: Path) -> None:
    make_pipe(root)
    with pytest.raises(OutputError, match="is no file"):
        directory.read(PATH)
    assert (directory.read("other"), paths(directory)) == (None, [])


def test_an_output_that_is_a_file_is_told(directory: DirectoryOutput, root: Path) -> None:
    root.write_text("by hand")
    with pytest.raises(OutputError) as caught:
        write(directory)
    assert str(caught.value) == f"{root} must be a directory, but is a file or lies below one: move that away"


def test_what_cannot_be_read_is_an_error_and_not_nothing(directory: DirectoryOutput, root: Path) -> None:
    write(directory)
    (root / "simple").chmod(0)
    attempts: list[Callable[[], object]] = [
        *(partial(directory.look, PATH), partial(directory.read, PATH), partial(paths, directory)),
    ]
    for attempt in attempts:
        with pytest.raises(OutputError, match="Permission denied"), unprivileged():
            attempt()
    (root / "simple").chmod(0o755)


@contextmanager
def small_volume(path: Path) -> Iterator[None]:
    """Have a directory be a file system of its own, with room for 64 KiB."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small volume")
    try:
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_told_and_leaves_what_was_there(directory: DirectoryOutput, root: Path) -> None:
    with small_volume(root):
        written = write(directory)
        with pytest.raises(OutputError) as caught:
            write(directory, data=b"x" * 100_000, replacing=written)
        assert str(caught.value) == f"there is no room left to write {root}/{PATH}: make some, and begin again"
        assert directory.read(PATH) == (b"data", written)
        assert [path.name for path in (root / ".elasticpypi").iterdir()] == ["output.lock"]


def test_a_second_file_system_in_the_output_is_told(directory: DirectoryOutput, root: Path) -> None:
    with small_volume(root / "packages"):
        with pytest.raises(OutputError, match="on another file system than the rest of the output"):
            write(directory, "packages/acme.metadata")
        write(directory)


# A bucket


class Answer:
    """An answer without a body, as botocore hands it on."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


@contextmanager
def failing(cloud: Cloud, operation: str, failure: str, *, times: int = 100) -> Iterator[None]:
    """Have an operation fail so many times, with a status and perhaps a code of S3's, or time out."""
    status, _, code = failure.partition(" ")
    left = [status] * times

    def respond(**_: Any) -> Any:
        if not left:
            return None
        if left.pop() == "timeout":
            raise ConnectTimeoutError(endpoint_url="https://bucket/")
        metadata = {"HTTPStatusCode": int(status)}
        return Answer(int(status)), {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": metadata}

    event = f"before-call.s3.{operation}"
    cloud.aws.s3.meta.events.register(event, respond)
    try:
        yield
    finally:
        cloud.aws.s3.meta.events.unregister(event, respond)


@contextmanager
def opaque_etags(cloud: Cloud) -> Iterator[None]:
    """Have ETags be no MD5, as in a bucket that is encrypted with a key of KMS: each is turned round on the way."""
    events = cloud.aws.s3.meta.events

    def turn(etag: str) -> str:
        return f'"{etag.strip(chr(34))[::-1]}"'

    def ask(params: dict[str, Any], **_: Any) -> None:
        if "IfMatch" in params:
            params["IfMatch"] = turn(params["IfMatch"])

    def answer(parsed: dict[str, Any], **_: Any) -> None:
        for found in (parsed, *parsed.get("Contents", ())):
            if "ETag" in found:
                found["ETag"] = turn(found["ETag"])

    events.register("before-parameter-build.s3", ask)
    events.register("after-call.s3", answer)
    try:
        yield
    finally:
        events.unregister("before-parameter-build.s3", ask)
        events.unregister("after-call.s3", answer)


def md5(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def test_each_method_makes_one_request(cloud: Cloud, s3: S3Output) -> None:
    requests: dict[str, Callable[[], Any]] = {
        "look at nothing": partial(s3.look, PATH),
        "read nothing": partial(s3.read, PATH),
        "write": partial(write, s3),
        "look": partial(s3.look, PATH),
        "read": partial(s3.read, PATH),
        "list": lambda: list(s3.list()),
        "holds": lambda: s3.holds(written, b"data"),
        "holds another": lambda: s3.holds(written, b"DATA"),
        "replace": lambda: write(s3, data=b"DATA", replacing=written),
        "remove": lambda: s3.remove(Written(PATH, 4, md5(b"DATA"))),
        "list, but state": lambda: (write(s3, ".elasticpypi/a"), write(s3, "a"), list(s3.list())),
    }
    counts: dict[str, dict[str, int]] = {}
    for name, request in requests.items():
        with counting(cloud.aws.s3) as counted:
            done = request()
        counts[name] = dict(counted)
        if name == "write":
            written = done
    assert counts == {
        "look at nothing": {"HeadObject": 1},
        "read nothing": {"GetObject": 1},
        "write": {"PutObject": 1},
        "look": {"HeadObject": 1},
        "read": {"GetObject": 1},
        "list": {"ListObjectsV2": 1},
        "holds": {},
        "holds another": {},
        "replace": {"PutObject": 1},
        "remove": {"DeleteObject": 1},
        "list, but state": {"PutObject": 2, "ListObjectsV2": 2},
    }


@pytest.mark.parametrize(
    ("content_type", "given_out_as"),
    [
        (HTML, "text/html; charset=utf-8"),
        ("text/css", "text/css; charset=utf-8"),
        ("text/html; charset=utf-8", "text/html; charset=utf-8"),
        (JSON, JSON),
        ("application/octet-stream", "application/octet-stream"),
    ],
)
def test_a_document_is_given_out_with_its_type_and_always_asked_for_anew(
    cloud: Cloud, bucket: str, s3: S3Output, content_type: str, given_out_as: str
) -> None:
    s3.write(PATH, b"data", content_type, replacing=None)
    found = cloud.aws.s3.head_object(Bucket=bucket, Key=PATH, ChecksumMode="ENABLED")
    assert (found["ContentType"], found["CacheControl"]) == (given_out_as, "max-age=0, must-revalidate")
    assert found["ChecksumSHA256"]


def test_a_prefix_is_where_the_keys_begin(cloud: Cloud, bucket: str) -> None:
    for prefix in ("a/b", "a/b/"):
        output = S3Output(cloud.aws, bucket, prefix)
        output.remove(write(output))
        write(output, prefix.replace("/", "-"))
    listed = cloud.aws.s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [obj["Key"] for obj in listed] == ["a/b/a-b", "a/b/a-b-"]


def test_folders_made_by_hand_are_no_documents(cloud: Cloud, bucket: str, s3: S3Output) -> None:
    cloud.aws.s3.put_object(Bucket=bucket, Key="simple/", Body=b"")
    assert paths(s3) == []


def test_keys_that_are_too_long_are_told(s3: S3Output) -> None:
    write(s3, "x" * 1024)
    with pytest.raises(OutputError, match="shorten it"):
        write(s3, "x" * 1025)


def test_what_other_etags_do_not_tell_is_read_and_compared(cloud: Cloud, bucket: str, s3: S3Output) -> None:
    with opaque_etags(cloud):
        written = write(s3)
        assert s3.look(PATH) == written
        assert written.token != md5(b"data")
        for output in (s3, S3Output(cloud.aws, bucket)):
            for data, is_held in ((b"data", True), (b"DATA", False), (b"data", True)):
                with counting(cloud.aws.s3) as counted:
                    assert output.holds(written, data) is is_held
                assert counted == {"GetObject": 1}
        replaced = write(s3, data=b"DATA", replacing=written)
        with pytest.raises(BusyError):
            s3.holds(written, b"data")
        s3.remove(replaced)
        with pytest.raises(BusyError):
            s3.holds(written, b"data")


def test_an_output_that_has_written_nothing_finds_out_once_what_etags_tell(
    cloud: Cloud, bucket: str, s3: S3Output
) -> None:
    written = write(s3)
    output = S3Output(cloud.aws, bucket)
    asked = []
    for data in (b"data", b"DATA", b"DATA"):
        with counting(cloud.aws.s3) as counted:
            assert output.holds(written, data) is (data == b"data")
        asked.append(dict(counted))
    assert asked == [{}, {"GetObject": 1}, {}]


def test_an_object_in_parts_is_read_and_compared(cloud: Cloud, bucket: str, s3: S3Output) -> None:
    upload = cloud.aws.s3.create_multipart_upload(Bucket=bucket, Key=PATH)["UploadId"]
    part = cloud.aws.s3.upload_part(Bucket=bucket, Key=PATH, UploadId=upload, PartNumber=1, Body=b"data")
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    cloud.aws.s3.complete_multipart_upload(Bucket=bucket, Key=PATH, UploadId=upload, MultipartUpload=parts)
    write(s3, "other")
    written = s3.look(PATH)
    assert written is not None
    assert [s3.holds(written, data) for data in (b"data", b"DATA")] == [True, False]
    other = s3.look("other")
    assert other is not None
    with counting(cloud.aws.s3) as counted:
        assert not s3.holds(other, b"DATA")
    assert counted == {}  # which says nothing of others


@pytest.mark.parametrize("times", [1, 100])
def test_a_write_that_s3_could_not_decide_is_tried_again(cloud: Cloud, s3: S3Output, times: int) -> None:
    with failing(cloud, "PutObject", "409 ConditionalRequestConflict", times=times):
        if times == 1:
            assert write(s3).size == 4
        else:
            with pytest.raises(ConflictError):
                write(s3)


def test_a_removal_that_s3_could_not_decide_is_tried_again(cloud: Cloud, s3: S3Output) -> None:
    written = write(s3)
    with failing(cloud, "DeleteObject", "409 ConditionalRequestConflict", times=1):
        s3.remove(written)
    assert paths(s3) == []


@pytest.mark.parametrize("answer", ["412 PreconditionFailed", "404 NoSuchKey"])
def test_what_is_gone_may_be_removed_whatever_s3_says(cloud: Cloud, s3: S3Output, answer: str) -> None:
    written = write(s3)
    with failing(cloud, "DeleteObject", answer):
        with pytest.raises(ConflictError):
            s3.remove(written)
        s3.remove(Written("other", 4, written.token))


def attempts(output: Output) -> dict[str, Callable[[], object]]:
    written = Written(PATH, 4, md5(b"data"))
    return {
        "PutObject": partial(write, output),
        "HeadObject": partial(output.look, PATH),
        "GetObject": partial(output.read, PATH),
        "ListObjectsV2": partial(paths, output),
        "DeleteObject": partial(output.remove, written),
    }


@pytest.mark.parametrize("operation", ["PutObject", "HeadObject", "GetObject", "ListObjectsV2", "DeleteObject"])
@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        ("403 AccessDenied", "allow s3:"),
        ("503 SlowDown", "try again in a moment"),
        ("403 InvalidAccessKeyId", "renew them"),
        ("timeout", "cannot be reached"),
    ],
)
def test_errors_of_s3_are_errors_of_the_output_with_a_remedy(
    cloud: Cloud, s3: S3Output, operation: str, failure: str, sentence: str
) -> None:
    with failing(cloud, operation, failure), pytest.raises(OutputError, match=sentence) as caught:
        attempts(s3)[operation]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("operation", ["PutObject", "GetObject", "ListObjectsV2", "DeleteObject"])
def test_a_bucket_that_is_not_there_is_told(cloud: Cloud, operation: str) -> None:
    with pytest.raises(OutputError) as caught:
        attempts(S3Output(cloud.aws, "none-of-ours"))[operation]()
    sentence = "there is no bucket 'none-of-ours': make it, or correct 'output_bucket' or --output"
    assert str(caught.value) == sentence


# Names


def never() -> AWS:
    raise AssertionError("AWS is not needed")


def test_a_path_is_a_directory(root: Path) -> None:
    for name in (str(root), f"{root}/", os.path.relpath(root)):
        output = open_output(name, never)
        for written in output.list():
            output.remove(written)
        write(output)
        assert (root / PATH).read_bytes() == b"data"


@pytest.mark.parametrize(("place", "prefix"), [("", ""), ("/", ""), ("/a/b", "a/b/"), ("/a/b/", "a/b/")])
def test_a_bucket_is_named_with_or_without_a_prefix(cloud: Cloud, bucket: str, place: str, prefix: str) -> None:
    write(open_output(f"s3://{bucket}{place}", lambda: cloud.aws))
    listed = cloud.aws.s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [obj["Key"] for obj in listed] == [prefix + PATH]


@pytest.mark.parametrize(
    "place",
    [
        *("s3://", "s3:///prefix", "s3://A_B/x", "s3://ab", "s3://acme-/x", "s3://acme//x", "s3://acme/a//b"),
        *(
            "s3://acme/../x",
            "s3://acme/a/./b",
            "s3://acme/a\0b",
            "s3:/acme",
            "S3://acme",
            "https://acme/x",
            "file:///x",
        ),
        *("gs://acme", "", "a\0b"),
    ],
)
def test_a_place_that_cannot_be_one_is_told(place: str) -> None:
    with pytest.raises(ConfigError, match="s3://acme-pypi-pages/python") as caught:
        open_output(place, never)
    assert repr(place) in str(caught.value)


def test_a_directory_needs_no_client_of_aws() -> None:
    script = "import sys, elasticpypi.output.opening as o; o.open_output('x', None); print('botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
