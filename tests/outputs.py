"""An output in memory, a source in memory, and what must be true of a site whenever somebody looks at it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from elasticpypi.errors import BusyError, ConflictError
from elasticpypi.names import NormalizedName, normalize_name
from elasticpypi.output import STATE_PREFIX, Output, Written
from elasticpypi.static_site import SiteFile, SiteProject


class MemoryOutput:
    """An `Output` that is like S3: a document is known by its bytes, nobody is kept out.

    `is_exclusive`: say that others are, where a test has only one at a time.
    """

    at_once = 1  # tasks of `tests.scheduler` start no threads

    def __init__(self, *, is_exclusive: bool = False) -> None:
        self.is_exclusive = is_exclusive
        self.documents: dict[str, bytes] = {}
        self.content_types: dict[str, str] = {}

    def list(self, prefix: str = "") -> Iterator[Written]:
        found = [self._written(path) for path in sorted(self.documents) if path.startswith(prefix)]
        return iter([each for each in found if prefix or not each.path.startswith(STATE_PREFIX)])

    def look(self, path: str) -> Written | None:
        return self._written(path) if path in self.documents else None

    def holds(self, written: Written, data: bytes) -> bool:
        return written.token == hashlib.md5(data).hexdigest()

    def read(self, path: str) -> tuple[bytes, Written] | None:
        return (self.documents[path], self._written(path)) if path in self.documents else None

    def write(self, path: str, data: bytes, content_type: str, *, replacing: Written | None) -> Written:
        if self.look(path) != replacing:
            raise ConflictError(path)
        self.documents[path] = data
        self.content_types[path] = content_type
        return self._written(path)

    def remove(self, written: Written) -> None:
        present = self.look(written.path)
        if present is not None and present != written:
            raise ConflictError(written.path)
        self.documents.pop(written.path, None)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        yield

    def _written(self, path: str) -> Written:
        data = self.documents[path]
        return Written(path, len(data), hashlib.md5(data).hexdigest())


class Meeting:
    """An output at which something happens once, right before a call of a method for a path."""

    def __init__(self, inner: Output, method: str, path: str, happening: Callable[[], object]) -> None:
        self._inner = inner
        self._method = method
        self._path = path
        self._happenings = [happening]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name != self._method:
            return value

        def call(target: Any, *args: Any, **kwargs: Any) -> Any:
            if self._happenings and getattr(target, "path", target).startswith(self._path):
                self._happenings.pop()()
            return value(target, *args, **kwargs)

        return call

    @property
    def has_happened(self) -> bool:
        return not self._happenings


@dataclass(frozen=True)
class Made:
    """A file of a source in memory."""

    version: str
    upload_time: int  # seconds
    core_metadata: bytes | None = None
    yanked: bool | str = False


class MemorySource:
    """A `Source` that is changed by hand; every change of a project raises its serial, as in an index.

    `happenings` happen one after the other, each right after all projects were listed.
    """

    def __init__(self) -> None:
        self.happenings: list[Callable[[], object]] = []
        self.projects: dict[NormalizedName, dict[str, Made]] = {}
        self.unreadable: dict[NormalizedName, Exception] = {}
        self.packages_url: str | None = None
        self._serials: dict[NormalizedName, int] = {}
        self._serial = 0

    def put(self, name: str, version: str, upload_time: int, *, core_metadata: bytes | None = b"x") -> None:
        files = self._touch(name)
        filename = f"{normalize_name(name).replace('-', '_')}-{version}-py3-none-any.whl"
        files[filename] = Made(version, upload_time, core_metadata)

    def yank(self, name: str, version: str, yanked: bool | str) -> None:
        files = self._touch(name)
        for filename, made in files.items():
            if made.version == version:
                files[filename] = Made(made.version, made.upload_time, made.core_metadata, yanked)

    def remove(self, name: str, version: str) -> None:
        files = self._touch(name)
        for filename in [filename for filename, made in files.items() if made.version == version]:
            del files[filename]

    def forget(self, name: str) -> None:
        self.projects.pop(normalize_name(name), None)

    def list_mark(self) -> str:
        return str(self._serial)

    def marks(self) -> Mapping[NormalizedName, str]:
        marks = {name: str(self._serials[name]) for name in sorted(self.projects)}
        if self.happenings:
            self.happenings.pop(0)()
        return marks

    def mark(self, name: NormalizedName) -> str | None:
        return str(self._serials[name]) if name in self.projects else None

    def project(self, name: NormalizedName) -> SiteProject | None:
        if name in self.unreadable:
            raise self.unreadable[name]
        if name not in self.projects:
            return None
        made = dict(sorted(self.projects[name].items(), key=lambda item: (int(item[1].version), item[0])))
        document = {
            "meta": {"_last-serial": self._serials[name], "api-version": "1.4"},
            "name": name,
            "project-status": {"status": "active"},
            "versions": list(dict.fromkeys(each.version for each in made.values())),
        }
        bodies = {filename: each.core_metadata for filename, each in made.items()}
        return SiteProject(
            name,
            document,
            [_site_file(name, filename, each, self.packages_url) for filename, each in made.items()],
            lambda file: bodies[file.document["filename"]],
        )

    def _touch(self, name: str) -> dict[str, Made]:
        normalized = normalize_name(name)
        self._serial += 1
        self._serials[normalized] = self._serial
        return self.projects.setdefault(normalized, {})


def _site_file(name: NormalizedName, filename: str, made: Made, packages_url: str | None) -> SiteFile:
    body = made.core_metadata
    minutes, seconds = divmod(made.upload_time, 60)
    document = {
        "filename": filename,
        "url": f"{packages_url or '../../packages'}/{name}/{filename}",
        "hashes": {"sha256": hashlib.sha256(filename.encode()).hexdigest()},
        "size": 100,
        "upload-time": f"2026-01-01T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.000000Z",
        "yanked": made.yanked,
        "core-metadata": False if body is None else {"sha256": hashlib.sha256(body).hexdigest()},
    }
    key = f"{name}/{filename}"
    return SiteFile(document, made.version, key, None if body is None else key)


def site_of(output: Output) -> dict[str, bytes]:
    """Return all that a web server gives out."""
    read = ((written.path, output.read(written.path)) for written in output.list())
    return {path: found[0] for path, found in read if found is not None}


def dangling(documents: Mapping[str, bytes], *, busy: Collection[str] = ()) -> list[str]:
    """Return what pages name and what is not there, but for projects at which several are at work."""
    missing = []
    for path, data in documents.items():
        top, _, rest = path.partition("/")
        if path == "simple/index.json":
            for project in json.loads(data)["projects"]:
                pages = [f"{place}/{project['name']}/index.html" for place in ("simple", "project")]
                missing += [page for page in pages if project["name"] not in busy and page not in documents]
        elif top == "simple" and rest.endswith("/index.json"):
            page = json.loads(data)
            for file in page["files"]:
                # Which bytes they are cannot be asked for: a file that is replaced is another one at once.
                described = f"{file['url'].removeprefix('../../')}.metadata"
                if file["core-metadata"] and page["name"] not in busy and described not in documents:
                    missing.append(described)
        elif top == "simple" and rest.endswith("/index.html") and path.count("/") == 2:
            name = rest.partition("/")[0]
            for line in data.decode().splitlines():
                if "data-core-metadata" in line and name not in busy:
                    url = line.partition('href="')[2].partition("#")[0].removeprefix("../../")
                    missing += [] if f"{url}.metadata" in documents else [url]
    return missing


def is_busy_error(error: BaseException) -> bool:
    """Whether somebody was told to come again."""
    return isinstance(error, BusyError | ConflictError)
