"""The other indexes that are asked for names that are not ours.

Specifications: simple repository API (PEP 503), URLs (RFC 3986).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv6Address
from typing import Any
from urllib.parse import urlsplit

from elasticpypi.config.given import (
    MOST_DAYS,
    MOST_PATTERNS,
    Given,
    check_projects,
    read_choice,
    read_matching,
    read_projects,
    read_projects_or_none,
    read_string,
    read_switch,
    unknown_key,
)
from elasticpypi.config.settings import Settings, Upstream, UpstreamMode
from elasticpypi.errors import ConfigError
from elasticpypi.passwords import is_hash

_MOST_UPSTREAMS = 10
_MOST_HOSTS = 100
_LONGEST_PATTERN = 255  # characters: no file system and no index has longer filenames
_OLD, _YOUNG = "old", "young"
_PORTS = {"http": "80", "https": "443"}
# Where indexes that everybody knows keep their files, so that nobody has to find it out.
_HOSTS_OF_FILES = {"pypi.org": ("files.pythonhosted.org",), "test.pypi.org": ("test-files.pythonhosted.org",)}
# What would have to be on their page, which clients get by themselves where they are redirected to it.
_ONLY_PROXY = (
    "username",
    "password",
    "allow-files",
    "deny-files",
    "min-age",
    "min-age-exceptions",
    "undated",
    "keep",
)
_HOST = re.compile(
    r"(?:(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)|\[(?P<address>[0-9a-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?"
)


def read_upstreams(given: Given) -> tuple[Upstream, ...]:
    """Read a list of upstreams, in the order in which they are asked."""
    if not isinstance(given.value, list):
        raise given.error("is not a list of upstreams")
    if len(given.value) > _MOST_UPSTREAMS:
        raise given.error(f"has more than {_MOST_UPSTREAMS} upstreams")
    found: list[Upstream] = []
    for number, entry in enumerate(given.value):
        place = Given(f"{given.key}[{number}]", entry, given.source)
        upstream = _read_upstream(place)
        _check_is_asked(place, upstream, found)
        found.append(upstream)
    return tuple(found)


def check_some_are_asked(settings: Settings, given: Mapping[str, Given]) -> None:
    """Raise ConfigError where all names are ours, so that there is nothing to ask upstreams for."""
    if settings.upstreams and "*" in settings.own_names:
        raise given["own_names"].error("has '*', and no upstream would ever be asked, whatever the name")


def write_upstream(upstream: Upstream) -> dict[str, Any]:
    """Return an upstream as a configuration names it, without what is a default."""
    default = Upstream(upstream.name, upstream.url, upstream.mode)
    written = {"name": upstream.name, "url": upstream.url, "mode": upstream.mode.value}
    for key in _READERS:
        name = _NAMES.get(key, key)
        value = getattr(upstream, name)
        if value != getattr(default, name):
            written[key] = _OLD if key == "undated" else value
    return written


def _read_upstream(given: Given) -> Upstream:
    fields = _fields_of(given)
    read = {_NAMES.get(key, key): _READERS[key](value) for key, value in fields.items()}
    _check_mode(given, read)
    if read["url"].startswith("http:") and not read.get("private"):
        raise fields["url"].error(
            'is http, where whoever is on the way can change what is installed, and "private" does not say that it '
            "is in a network of yours"
        )
    host = urlsplit(read["url"]).hostname or ""
    hosts = dict.fromkeys((*_HOSTS_OF_FILES.get(host, ()), *read.get("hosts", ())))
    return Upstream(**{"name": _name_of(host), **read, "hosts": tuple(hosts)})


def _fields_of(given: Given) -> dict[str, Given]:
    """Return what was given for an upstream, after a look at whether that is complete."""
    if not isinstance(given.value, dict):
        raise given.error("is not an object")
    for key in given.value:
        if key not in _READERS:
            raise unknown_key(key, list(_READERS), what=f"key in {given.key!r} in {given.source}", within="upstreams")
    fields = {key: Given(f"{given.key}.{key}", value, given.source) for key, value in given.value.items()}
    needed = {"url": "", "mode": ""}
    if "username" in fields or "password" in fields:
        needed |= dict.fromkeys(
            ("username", "password"), ", where 'username' and 'password' come together or not at all"
        )
    for key, reason in needed.items():
        if key not in fields:
            raise Given(f"{given.key}.{key}", None, given.source).error(f"is missing{reason}")
    return fields


def _check_mode(given: Given, read: Mapping[str, Any]) -> None:
    if read["mode"] is UpstreamMode.PROXY:
        return
    for key in _ONLY_PROXY:
        if read.get(_NAMES.get(key, key)):
            raise ConfigError(
                f"'{given.key}.{key}' in {given.source} needs the mode 'proxy': clients that are redirected see the "
                'page of the other index itself; write for example "mode": "proxy", or leave it out'
            )


def _check_is_asked(given: Given, upstream: Upstream, before: list[Upstream]) -> None:
    """Raise ConfigError for an upstream that cannot be told from another one, or whose turn would never come."""
    if any(other.name == upstream.name for other in before):
        raise Given(f"{given.key}.name", None, given.source).error(
            f"is {upstream.name!r}, as another upstream is called already"
        )
    if "*" in upstream.deny:
        raise Given(f"{given.key}.deny", None, given.source).error("has '*', and the upstream would never be asked")
    for other in before:
        if other.mode is UpstreamMode.REDIRECT and _takes_all(other, upstream):
            raise ConfigError(
                f"{given.key!r} in {given.source} would never be asked: clients are redirected to {other.name!r} for "
                'every name that it could have; put it first, or limit the other one, for example with "allow": '
                '["numpy"]'
            )


def _takes_all(upstream: Upstream, later: Upstream) -> bool:
    """Whether an upstream may plainly be asked for every name that a later one may be asked for."""
    allows = "*" in upstream.allow or set(later.allow) <= set(upstream.allow)
    return allows and set(upstream.deny) <= set(later.deny)


# One reader for each key -----------------------------------------------------------------------------------------


def _read_name(given: Given) -> str:
    return read_matching(
        given,
        r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?",
        read_string(given),
        "1 to 64 lowercase letters and digits, and '.' and '-' between them",
    )


def _name_of(host: str) -> str:
    """Return what an upstream is called that nobody has given a name."""
    return re.sub(r"[^a-z0-9.-]", "-", host)[:64].strip("-.") or "upstream"


def _read_url(given: Given) -> str:
    """Read a URL, spelled as every request will name it: what pages and redirects lead to is compared with it."""
    text = read_string(given)
    if not text.isascii():
        raise given.error("has letters beyond ASCII; a host of such ones is written as DNS has it, with 'xn--'")
    try:
        parts = urlsplit(text)
    except ValueError:  # raised below: this one may carry what stands before the host
        parts = urlsplit("")
    if "@" in parts.netloc:
        raise given.error("has credentials in it, which belong into 'username' and 'password'")
    host = _parse_host(parts.netloc)
    if host is None or parts.scheme not in _PORTS or not _is_plain(text):
        raise given.error("is not the http or https URL of an index")
    if "?" in text or "#" in text:
        raise given.error("has a '?' or '#', behind which no project can follow")
    netloc = host.removesuffix(f":{_PORTS[parts.scheme]}")
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}/"


def _read_hosts(given: Given) -> tuple[str, ...]:
    value = given.value
    if not isinstance(value, list) or len(value) > _MOST_HOSTS:
        raise given.error(f"is not a list of at most {_MOST_HOSTS} hosts")
    hosts = [_parse_host(entry) if isinstance(entry, str) else None for entry in value]
    if None in hosts:
        raise given.error("has an entry that is neither 'host' nor 'host:port'")
    return tuple(host for host in hosts if host is not None)


def _parse_host(text: str) -> str | None:
    """Return a host, with its port if it has one, in lowercase; None for what is neither."""
    match = _HOST.fullmatch(text.lower()) if text.isascii() else None
    if match is None or not 0 < int(match["port"] or 1) < 65_536:
        return None
    if match["address"] is not None and not _is_address(match["address"]):
        return None
    return match[0] if match["port"] is None else f"{match[0].rpartition(':')[0]}:{int(match['port'])}"


def _is_address(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def _is_plain(url: str) -> bool:
    return all(" " < character < "\x7f" and character not in '<>"\\' for character in url)


def _read_mode(given: Given) -> UpstreamMode:
    return UpstreamMode(read_choice(given, list(UpstreamMode)))


def _read_username(given: Given) -> str:
    """Read a name that basic authentication can carry, that of tokens included: it is another index that takes it."""
    username = read_string(given)
    if ":" in username:
        raise given.error("contains ':', which ends the username in basic authentication")
    return username


def _read_password(given: Given) -> str:
    """Read a password, which is sent as it is: the hash of one opens nothing."""
    password = read_string(given)
    try:
        is_one = is_hash(password)
    except ValueError:
        is_one = False  # it only begins like one
    if is_one:
        raise given.error("is the hash of a password, and the other index wants the password itself")
    return password


def _read_files(given: Given) -> tuple[str, ...]:
    value = given.value
    if not isinstance(value, list) or not value or len(value) > MOST_PATTERNS:
        raise given.error(f"is not a list of 1 to {MOST_PATTERNS} patterns of filenames")
    if not all(isinstance(pattern, str) and _can_match_filename(pattern) for pattern in value):
        raise given.error("has a pattern that no filename can match")
    return tuple(value)


def _can_match_filename(pattern: str) -> bool:
    return 0 < len(pattern) <= _LONGEST_PATTERN and pattern.isprintable() and "/" not in pattern


def _read_files_or_none(given: Given) -> tuple[str, ...]:
    return () if given.value == [] else _read_files(given)


def _read_min_age(given: Given) -> int:
    return _read_days(given, given.value, "is not")


def _read_exceptions(given: Given) -> dict[str, int]:
    value = given.value
    if not isinstance(value, dict):
        raise given.error("is not an object of patterns and days")
    if not value:
        return {}
    try:
        patterns = check_projects(list(value))
    except ValueError as error:
        raise given.error(str(error)) from error
    return {pattern: _read_days(given, value[pattern], f"has for {pattern!r} not") for pattern in patterns}


def _read_days(given: Given, value: object, begins: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_DAYS:
        raise given.error(f"{begins} a whole number of days from 0 to {MOST_DAYS}")
    return value


def _read_undated(given: Given) -> bool:
    return read_choice(given, (_YOUNG, _OLD)) == _OLD


_READERS: Mapping[str, Callable[[Given], Any]] = {
    "name": _read_name,
    "url": _read_url,
    "mode": _read_mode,
    "username": _read_username,
    "password": _read_password,
    "allow": read_projects,
    "deny": read_projects_or_none,
    "allow-files": _read_files,
    "deny-files": _read_files_or_none,
    "min-age": _read_min_age,
    "min-age-exceptions": _read_exceptions,
    "undated": _read_undated,
    "keep": read_switch,
    "hosts": _read_hosts,
    "private": read_switch,
}
# Where a field has another name than its key.
_NAMES = {
    "allow-files": "allow_files",
    "deny-files": "deny_files",
    "min-age": "min_age_days",
    "min-age-exceptions": "min_age_exceptions",
    "undated": "undated_are_old",
}
