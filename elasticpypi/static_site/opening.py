"""Puts a site together as the settings name its parts, for the command and for the functions on AWS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from elasticpypi.config import Settings
from elasticpypi.errors import ConfigError, SourceError
from elasticpypi.output import Output
from elasticpypi.static_site import CoreMetadataPlace, SiteOptions, Source
from elasticpypi.static_site.site import Site

if TYPE_CHECKING:
    from elasticpypi.aws import AWS
    from elasticpypi.index import Index

FILES = "files"  # where a local index has its files, below its data directory


def site_options(settings: Settings, *, per_release_json: bool = True) -> SiteOptions:
    """Return how the site looks that the settings describe, and where its files are."""
    default = CoreMetadataPlace.OUTPUT if settings.packages_url is None else CoreMetadataPlace.NONE
    plain = SiteOptions()
    return SiteOptions(
        title=settings.title or plain.title,
        logo=settings.logo,
        logo_width=settings.logo_width or plain.logo_width,
        url=settings.output_url,
        packages_url=settings.packages_url,
        core_metadata=CoreMetadataPlace(settings.core_metadata or default),
        per_release_json=per_release_json,
    )


def output_place(settings: Settings) -> str | None:
    """Return where the settings say that the site lies; None where they do not."""
    return None if settings.output_bucket is None else f"s3://{settings.output_bucket}"


def open_site(
    settings: Settings,
    index: Index,
    *,
    place: str | None = None,
    data: Path | None = None,
    options: SiteOptions | None = None,
    connect: Callable[[], AWS] | None = None,
) -> Site:
    """Open the site of an index, at the place that the settings name if no other one is given.

    `data` is where a local index lies; `connect` returns clients that are there already. Raise ConfigError where there
    is no such place.
    """
    from elasticpypi.static_site.of_index import IndexSource

    options = site_options(settings) if options is None else options
    place = output_place(settings) if place is None else place
    if place is None:
        raise ConfigError("the site has no place: name a directory or s3://BUCKET/PREFIX, or configure 'output_bucket'")
    _keep_apart(place, settings, data)
    clients = _connecting(settings) if connect is None else connect
    output = _open(place, clients)
    beside = None
    if options.core_metadata is CoreMetadataPlace.BESIDE:
        beside = _open(_place_of_files(settings, data), clients)
    return Site(IndexSource(index, options), output, options, beside=beside)


def open_listed_site(settings: Settings, source: Source, *, place: str, options: SiteOptions) -> Site:
    """Open the site of something else than an index, whose files nobody writes to.

    SourceError where there is no project at all and the site shows some: what makes a list fails more often than
    everything is deleted.
    """
    _keep_apart(place, settings, None)
    output = _open(place, _connecting(settings))
    if not source.marks() and _shows_projects(output):
        raise SourceError(
            f"the list names no file that can be used, and {place} has pages of projects, which were left as they are; "
            "see whether the list is what it should be, and to have no project any longer, remove what lies there"
        )
    return Site(source, output, options)


def _shows_projects(output: Output) -> bool:
    found = output.read("simple/index.json")
    if found is None:
        return output.look("simple/index.html") is not None  # of dumb-pypi
    try:
        return bool(json.loads(found[0])["projects"])
    except (ValueError, TypeError, KeyError):
        return True


def _keep_apart(place: str, settings: Settings, data: Path | None) -> None:
    """Raise ConfigError where pages would lie among the files, or among what is not for everybody."""
    if settings.bucket is not None and (place + "/").startswith(f"s3://{settings.bucket}/"):
        raise ConfigError(
            f"{place!r} is the bucket of the files, which the pages would be mixed with: name another one"
        )
    if data is None or settings.bucket is not None or place.startswith("s3://"):
        return
    there, own = Path(place).resolve(), data.resolve()
    if there.is_relative_to(own) or own.is_relative_to(there):
        raise ConfigError(
            f"{place!r} lies in the index's own directory {str(data)!r}, or holds it: pages would be mixed with files, "
            "and a web server would give out the catalog; name a directory beside it"
        )


def _place_of_files(settings: Settings, data: Path | None) -> str:
    if settings.bucket is not None:
        return f"s3://{settings.bucket}"
    if data is None:
        raise ConfigError("core metadata beside the files needs to know where they are: name their directory or bucket")
    return str(data / FILES)


def _connecting(settings: Settings) -> Callable[[], AWS]:
    """Return what makes the clients of AWS when they are needed, and once."""
    made: list[AWS] = []

    def connect() -> AWS:
        from elasticpypi.index import connect_aws  # which takes as long as all else together

        if not made:
            made.append(connect_aws(settings))
        return made[0]

    return connect


def _open(place: str, connect: Callable[[], AWS]) -> Output:
    from elasticpypi.output.opening import open_output

    return open_output(place, connect)
