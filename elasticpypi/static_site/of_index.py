"""Our own index as what a site is made of: its projects are those of the dynamic pages, at the same revisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from elasticpypi import simple
from elasticpypi.errors import BusyError, NotFoundError
from elasticpypi.index import FoundFile, Index
from elasticpypi.model import File, ListedFile, ProjectSnapshot
from elasticpypi.names import Kind, NormalizedName
from elasticpypi.static_site import CoreMetadataPlace, SiteFile, SiteOptions, SiteProject
from elasticpypi.static_site.urls import packages_file_url


class IndexSource:
    """A `Source` in an index. Reading core metadata raises BusyError where the file has been replaced since."""

    def __init__(self, index: Index, options: SiteOptions) -> None:
        self._index = index
        self._options = options

    def list_mark(self) -> str:
        return str(self._index.root_revision(simple.Form.HTML))

    def marks(self) -> Mapping[NormalizedName, str]:
        return {project.name: str(project.serial) for project in self._index.root().projects}

    def mark(self, name: NormalizedName) -> str | None:
        try:
            return str(self._index.project_revision(name))
        except NotFoundError:
            return None

    def project(self, name: NormalizedName) -> SiteProject | None:
        try:
            snapshot = self._index.snapshot(name)
        except NotFoundError:
            return None
        listing = simple.listed_files(snapshot)
        keys = {id(entry.content): entry.key for entry in snapshot.entries}  # equal files may lie under several keys
        return SiteProject(
            name,
            simple.describe_project(snapshot, listing),
            [_site_file(item, keys[id(item.file)], self._options) for item in listing],
            _core_metadata_of(self._index, snapshot),
        )


def _site_file(item: ListedFile, key: str, options: SiteOptions) -> SiteFile:
    document = simple.describe_file(item, packages_file_url(key, options))
    if options.core_metadata is CoreMetadataPlace.NONE:
        document["core-metadata"] = False
    return SiteFile(document, item.file.version, key, None if item.file.kind is Kind.EGG else key)


def _core_metadata_of(index: Index, snapshot: ProjectSnapshot) -> Callable[[SiteFile], bytes | None]:
    announced: dict[str, FoundFile] = {}

    def read(file: SiteFile) -> bytes | None:
        key = file.described_by
        if key is None:
            return None
        if not announced:  # made where somebody reads: most projects of an index are only listed
            announced.update(
                (entry.key, FoundFile(entry.content, entry.key, entry.fingerprint))
                for entry in snapshot.entries
                if isinstance(entry.content, File) and entry.content.core_metadata_sha256 is not None
            )
        if key not in announced:
            return index.description(key)
        try:
            return index.core_metadata(announced[key])
        except NotFoundError as error:
            raise BusyError(key) from error

    return read
