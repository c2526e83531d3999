"""Any index that speaks the simple API (PEP 503, 691): HTML or JSON, with all that its pages say of their files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import requests
from pypi_simple import (
    DistributionPackage,
    NoSuchProjectError,
    ProjectPage,
    PyPISimple,
    UnexpectedRepoVersionWarning,
    UnsupportedRepoVersionError,
)

from elasticpypi.errors import InvalidNameError, SourceError
from elasticpypi.importing import SourceFile, SourceProject
from elasticpypi.importing.remote import (
    TIMEOUT_SECONDS,
    RemoteContent,
    fetching,
    open_session,
    server_of,
    without_credentials,
)
from elasticpypi.model import Status
from elasticpypi.names import FileKey, NormalizedName, normalize_name, parse_key


@dataclass(frozen=True, slots=True)
class SimpleIndex:
    """A `Source` behind a URL: some of its projects, or all where none is named."""

    url: str
    wanted: Sequence[NormalizedName] = ()
    backoff_seconds: float = 0.5

    @property
    def name(self) -> str:
        return server_of(self.url)

    def projects(self) -> Iterator[SourceProject]:
        session = open_session(self.url, backoff_seconds=self.backoff_seconds)
        with PyPISimple(without_credentials(self.url), session=session) as client:
            names, skipped = (self.wanted, dict[str, str]()) if self.wanted else _list_projects(client)
            yield SourceProject((), skipped=skipped, remaining=len(names))
            for number, name in enumerate(names, start=1):
                yield replace(_project(client, name), remaining=len(names) - number)


def _list_projects(client: PyPISimple) -> tuple[list[NormalizedName], dict[str, str]]:
    """Return the projects of an index, sorted, and what its list names besides; SourceError where it lists none."""
    with _reading_page(client.endpoint):
        listed = client.get_index_page(timeout=TIMEOUT_SECONDS).projects
    names, skipped = set[NormalizedName](), dict[str, str]()
    for name in listed:
        try:
            names.add(normalize_name(name.strip().rstrip("/")))
        except InvalidNameError as error:
            skipped[name] = str(error)
    if not names:
        raise SourceError(f"{client.endpoint} lists no projects: is it the URL of an index, as pip would take it?")
    return sorted(names), skipped


def _project(client: PyPISimple, name: NormalizedName) -> SourceProject:
    url = client.get_project_url(name)
    try:
        with _reading_page(url):
            page = client.get_project_page(name, timeout=TIMEOUT_SECONDS)
    except NoSuchProjectError:
        return SourceProject((), failed={name: f"{client.endpoint} has no project of this name"})
    except SourceError as error:
        return SourceProject((), failed={name: str(error)})
    files = tuple(_file(client.s, package) for package in page.packages)
    return SourceProject(files, name, _status(page), page.status_reason)


@contextmanager
def _reading_page(url: str) -> Iterator[None]:
    try:
        with fetching(url), warnings.catch_warnings():
            # What a newer minor version of the API adds is left alone, as the specification wants it (PEP 629).
            warnings.simplefilter("ignore", UnexpectedRepoVersionWarning)
            yield
    except (ValueError, RecursionError, UnsupportedRepoVersionError) as error:
        raise SourceError(f"{url} is no page of the simple API ({type(error).__name__}): is the URL right?") from error


def _status(page: ProjectPage) -> Status:
    return Status.ACTIVE if page.status is None else Status(page.status.value)


def _file(session: requests.Session, package: DistributionPackage) -> SourceFile:
    time = package.upload_time
    return SourceFile(
        _filename(package),
        RemoteContent(session, package.url),
        package.digests,
        package.size,
        None if time is None else time.replace(tzinfo=time.tzinfo or UTC),
        (package.yanked_reason or True) if package.is_yanked else False,
    )


def _filename(package: DistributionPackage) -> str:
    """Return what a link is called, or leads to: a directory listing of a web server shortens long names."""
    if isinstance(parse_key(package.filename), FileKey):
        return package.filename
    leads_to = unquote(PurePosixPath(urlsplit(package.url).path).name)
    return leads_to if isinstance(parse_key(leads_to), FileKey) else package.filename
