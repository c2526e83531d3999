"""Where a site's documents point to: URLs relative to the document, unless it is said where the site or its files are.

A file's URL in a project's document is relative to `simple/<project>/`. Pure.
"""

from __future__ import annotations

from urllib.parse import quote, urljoin

from elasticpypi.names import NormalizedName
from elasticpypi.simple import UP_FROM_PROJECT
from elasticpypi.static_site import SiteOptions


def packages_base(options: SiteOptions) -> str:
    """Return what every file's URL begins with, relative to `simple/<project>/`, with its slash."""
    if options.packages_url is None:
        return f"{UP_FROM_PROJECT}packages/"
    return f"{options.packages_url.rstrip('/')}/"


def packages_file_url(path: str, options: SiteOptions) -> str:
    """Return the URL of a file whose path below the packages' URL is this one, not quoted."""
    return packages_base(options) + "/".join(quote(part, safe="") for part in path.split("/"))


def file_url(name: NormalizedName, url: str, options: SiteOptions, *, up: str) -> str:
    """Return a file's URL for a document from which `up` leads to the site; absolute where the site's URL is known."""
    if not is_relative(url):
        return url if options.url is None else urljoin(options.url, url)
    return (up if options.url is None else options.url) + from_site(name, url)


def page_url(name: NormalizedName, options: SiteOptions, *, up: str) -> str:
    """Return the URL of a project's page for clients, likewise."""
    return f"{up if options.url is None else options.url}simple/{name}/"


def from_site(name: NormalizedName, url: str) -> str:
    """Return a file's URL relative to the site; absolute ones as they are, and those that begin with "/"."""
    if url.startswith(UP_FROM_PROJECT):
        return url.removeprefix(UP_FROM_PROJECT)
    if not is_relative(url):
        return url
    return f"simple/{url.removeprefix('../')}" if url.startswith("../") else f"simple/{name}/{url}"


def from_people(name: NormalizedName, url: str) -> str:
    """Return a file's URL for a project's page for people, which is as deep below the site as the one for clients."""
    if url.startswith(UP_FROM_PROJECT) or not is_relative(url):
        return url
    return f"{UP_FROM_PROJECT}{from_site(name, url)}"


def is_relative(url: str) -> bool:
    """Whether a URL is relative to the document in which it stands."""
    return not url.startswith("/") and ":" not in url.partition("/")[0]
