"""An index written as files: what a site is made of.

`static_site.pages` makes documents out of projects, `static_site.changelog` those about what came when,
`static_site.site` writes them to an output and keeps them current. Sources: `static_site.of_index` (our own index) and
`static_site.of_lists` (the lists that dumb-pypi is fed with).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from elasticpypi.names import NormalizedName
from elasticpypi.presenting import TITLE


class CoreMetadataPlace(StrEnum):
    """Where clients find a file's core metadata, which they ask for beside the file (PEP 658)."""

    OUTPUT = "output"  # among the pages; the web server takes `*.metadata` from there and files from the storage
    BESIDE = "beside"  # in the storage of the files, which serves itself
    NONE = "none"  # nowhere, and none is announced


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """How a site looks and where its files are."""

    title: str = TITLE
    logo: str | None = None  # URL of an image
    logo_width: int = 0  # pixels; 0: as wide as it is
    url: str | None = None  # where the site will be found, with its slash; None: unknown, and its links are relative
    packages_url: str | None = None  # of the files, absolute or relative to a project's page; None: `packages/`
    core_metadata: CoreMetadataPlace = CoreMetadataPlace.OUTPUT
    per_release_json: bool = True


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A file as a site shows it."""

    document: Mapping[str, Any]  # as a page of the simple API has it in JSON, its URL relative to `simple/<project>/`
    version: str  # normalised (PEP 440)
    path: str  # of the file below the packages' URL, not quoted: its key in the storage
    described_by: str | None = None  # what the source finds the core metadata by; None: it has none
    uploaded_by: str | None = None  # who says so: dumb-pypi's lists
    requires_dist: Sequence[str] | None = None  # likewise; None: they do not say


@dataclass(frozen=True, slots=True)
class SiteProject:
    """A project as a site shows it: its page of the simple API in JSON, taken apart."""

    name: NormalizedName
    document: Mapping[str, Any]  # all keys of the page but "files"
    files: Sequence[SiteFile]  # in the page's order: by version, then filename
    core_metadata: Callable[[SiteFile], bytes | None]  # reads it, where `described_by` says that there is some


@dataclass(frozen=True, slots=True)
class Document:
    """A page, or anything else that a web server gives out."""

    path: str
    content_type: str
    data: bytes


class Source(Protocol):
    """What a site is made of. Any method may raise UnavailableError."""

    def list_mark(self) -> str:
        """Return with one small read what changes whenever a project comes or goes."""

    def marks(self) -> Mapping[NormalizedName, str]:
        """Return all projects by name, sorted; equal marks of a name mean equal projects."""

    def mark(self, name: NormalizedName) -> str | None:
        """Return one project's mark with one small read; None where there is no such project."""

    def project(self, name: NormalizedName) -> SiteProject | None:
        """Return a project, None where there is none."""
