"""What is written for people, by the index and on a static site alike: sizes, links, text that fits into XML, assets.

Pure, but for the style sheet and the script, which lie beside the templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TITLE = "Python packages"  # of an index to which nobody has given one

# What every site has below `assets/` -> its content type.
ASSETS: Mapping[str, str] = {"site.css": "text/css; charset=utf-8", "site.js": "text/javascript; charset=utf-8"}
# What the pages of an index have there besides.
INDEX_ASSETS: Mapping[str, str] = {**ASSETS, "upload.js": "text/javascript; charset=utf-8"}

# The page that loads it loads no other.
_BUNDLES: Mapping[str, tuple[str, ...]] = {"upload.js": ("site.js", "upload.js")}

_FOLDER = Path(__file__).parent / "templates" / "site"
_SCHEMES = ("http", "https")
_MOST_TEXT = 300  # characters of what should be a line
_CUT = "…"
_MOST_LINKS = 50  # to what a project says is its own
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # not even escaped


@cache
def read_asset(name: str) -> bytes:
    """Return one of `INDEX_ASSETS` as it is sent."""
    return b"\n".join(_FOLDER.joinpath(part).read_bytes() for part in _BUNDLES.get(name, (name,)))


def describe_size(size: int | None) -> str:
    """Write a number of bytes for people; "" where it is unknown."""
    if size is None:
        return ""
    if size < 1000:
        return f"{size} B"
    value, units = float(size), iter(("kB", "MB", "GB", "TB"))
    unit = ""
    while value >= 999.5 and (following := next(units, None)) is not None:
        value, unit = value / 1000, following
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def one_line(text: str | None) -> str:
    """Return the beginning of a text, on one line; "" where there is none."""
    line = " ".join((text or "")[: 10 * _MOST_TEXT].split())
    return line if len(line) <= _MOST_TEXT else f"{line[:_MOST_TEXT]}{_CUT}"


def project_links(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield label and URL of what a project says is its own, each URL once; only what a browser asks a server for.

    `info` is what the legacy JSON API says of a release.
    """
    said = [("Homepage", info["home_page"]), ("Download", info["download_url"]), *(info["project_urls"] or {}).items()]
    urls: set[str] = set()
    for label, url in said:
        if url is not None and url not in urls and is_web(url) and len(urls) < _MOST_LINKS:
            urls.add(url)
            yield label or url, url


def is_web(url: str) -> bool:
    """Whether a URL is one of a web server, and nothing that a browser would run or send elsewhere."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and bool(parts.hostname) and url.isprintable() and " " not in url


def fit_for_xml(text: str) -> str:
    """Return a text without the characters that XML, and so Atom, cannot have: control characters, half characters."""
    return _NOT_IN_XML.sub("", text)


_PYTHONS = {"cp": "CPython", "pp": "PyPy", "py": "Python", "graalpy": "GraalPy"}
_PYTHON_TAG = re.compile(r"(cp|pp|py|graalpy)(\d)(\d*)")
_PLATFORMS = (
    (re.compile(r"manylinux\w*?_(x86_64|i686|aarch64|armv7l|ppc64le|s390x|riscv64|loongarch64)"), "Linux"),
    (re.compile(r"musllinux_\d+_\d+_(\w+)"), "Linux with musl"),
    (re.compile(r"linux_(\w+)"), "Linux"),
    (re.compile(r"macosx_\d+_\d+_(\w+)"), "macOS"),
    (re.compile(r"win_(\w+)"), "Windows"),
    (re.compile(r"win(32)"), "Windows"),
)


def describe_kind(filename: str, kind: str) -> str:
    """Say of a file what it is and, by the tags of a wheel, where it can be installed: "Wheel, CPython 3.12, Linux"."""
    if kind != "wheel":
        return {"sdist": "Source", "egg": "Egg"}.get(kind, kind)
    pythons, abi, platforms = filename.removesuffix(".whl").split("-")[-3:]
    shown = [_describe_python(tag) + ("+" if abi == "abi3" else "") for tag in pythons.split(".")]
    where = [_describe_platform(tag) for tag in platforms.split(".") if tag != "any"]
    return ", ".join(dict.fromkeys(["Wheel", *shown, *where]))


def _describe_python(tag: str) -> str:
    found = _PYTHON_TAG.fullmatch(tag)
    if found is None:
        return tag
    name, major, minor = found.groups()
    return f"{_PYTHONS[name]} {major}{f'.{minor}' if minor else ''}"


def _describe_platform(tag: str) -> str:
    for pattern, system in _PLATFORMS:
        found = pattern.fullmatch(tag)
        if found is not None:
            return f"{system} {found[1]}"
    return tag
