"""What is asked of the servers: each scenario is one line of data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

JSON = "application/vnd.pypi.simple.v1+json"
LARGE_PROJECT = "large"  # has one wheel, of `Sizes.download` bytes


class Target(StrEnum):
    """What a URL leads to."""

    PAGE = "project page"
    ROOT = "root"
    CORE_METADATA = "core metadata"
    FILE = "file"


class Form(StrEnum):
    """How a page is asked for."""

    HTML = "html"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large everything is, and how long everything takes."""

    pages: tuple[int, ...] = (10, 1_000, 10_000)  # files of a project
    projects: int = 100_000  # of the index that has those pages
    published: tuple[int, ...] = (1_000, 10_000)  # files of the smaller indexes to which is published
    synced: int = 10_000  # files
    download: int = 2**20  # bytes
    uploads: int = 100  # in each round
    publications: int = 50
    rounds: int = 3
    seconds: float = 2  # of load, in each round


QUICK = Sizes(
    pages=(10, 100),
    projects=200,
    published=(100,),
    synced=100,
    uploads=5,
    publications=5,
    rounds=1,
    seconds=1,
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of request, made again and again on eight connections."""

    target: Target
    project: str = ""
    form: Form | None = None  # of a page
    gzipped: bool = False
    conditional: bool = False  # the client has the page already
    label: str = ""

    def accepts(self) -> dict[str, str]:
        """Return the headers that make the request this one, without credentials and ETag."""
        headers = {"Accept": JSON if self.form is Form.JSON else "text/html" if self.form is Form.HTML else "*/*"}
        return headers | ({"Accept-Encoding": "gzip"} if self.gzipped else {})


def page_project(files: int) -> str:
    """Return the name of the project that has this many files."""
    return f"page-{files}"


def scenarios(sizes: Sizes) -> Iterator[Scenario]:
    """Yield everything that is asked with load."""
    for files in sizes.pages:
        yield from _of_one_page(Target.PAGE, page_project(files), f"page of {files:,} files")
    yield from _of_one_page(Target.ROOT, "", f"root of {sizes.projects:,} projects")
    yield Scenario(Target.CORE_METADATA, page_project(sizes.pages[0]), label="core metadata")
    yield Scenario(Target.FILE, LARGE_PROJECT, label=f"file of {sizes.download / 2**20:g} MiB")


def _of_one_page(target: Target, project: str, label: str) -> Iterator[Scenario]:
    yield Scenario(target, project, Form.HTML, label=f"{label}, HTML")
    yield Scenario(target, project, Form.JSON, label=f"{label}, JSON")
    yield Scenario(target, project, Form.JSON, gzipped=True, label=f"{label}, JSON, gzip")
    yield Scenario(target, project, Form.JSON, gzipped=True, conditional=True, label=f"{label}, 304")
