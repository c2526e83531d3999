"""Values as they were given, read one by one; an error names the key, the place and an example."""

from __future__ import annotations

import difflib
import json
import re
import shlex
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elasticpypi.config.settings import TOKEN_USERNAME
from elasticpypi.errors import ConfigError
from elasticpypi.names import MAX_NAME
from elasticpypi.passwords import is_hash

VARIABLE_PREFIX = "ELASTICPYPI_"
MOST_DAYS = 10_000
MOST_PATTERNS = 100
# What messages show; where a key means something else within a list, the list's name stands before it.
EXAMPLES: Mapping[str, object] = {
    "service": "acme-pypi",
    "stage": "/dev",
    "bucket": "acme-pypi-files",
    "table": "acme-pypi",
    "profile": "default",
    "username": "standard",
    "password": "something-secretive",
    "overwrite": False,
    "users": [{"username": "ci", "password": "another-secret", "permission": "upload", "projects": ["acme-*"]}],
    "data": "/var/lib/elasticpypi",
    "url": "https://pypi.example.org/",
    "region": "eu-central-1",
    "gateway": "http",
    "take_over": True,
    "snap_start": True,
    "runtime": "python3.14",
    "architecture": "x86_64",
    "alarm_topic": "arn:aws:sns:eu-central-1:123456789012:operations",
    "output_bucket": "acme-pypi-pages",
    "output_access": "website",
    "output_url": "https://pypi.example.org/",
    "packages_url": "https://files.example.org/",
    "core_metadata": "beside",
    "title": "Python packages of Acme",
    "logo": "https://www.example.org/logo.svg",
    "logo_width": 120,
    "audit_days": 400,
    "count_downloads": True,
    "permission": "upload",
    "projects": ["acme-*"],
    "upstreams": [{"url": "https://pypi.org/simple/", "mode": "proxy", "min-age": 7}],
    "own_names": ["acme-*"],
    "name": "pypi",
    "mode": "proxy",
    "allow": ["numpy", "scipy-*"],
    "deny": ["acme-*"],
    "allow-files": ["*.whl"],
    "deny-files": ["*.exe"],
    "min-age": 7,
    "min-age-exceptions": {"urgent-*": 0},
    "undated": "old",
    "keep": True,
    "hosts": ["files.example.org"],
    "private": True,
    "upstreams.url": "https://pypi.org/simple/",
    "upstreams.username": "reader",
    "upstreams.password": "another-secret",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, under which key, and where: the path of a file or the name of a variable."""

    key: str  # inside of `users`: "users[0].permission"
    value: Any = field(repr=False)
    source: str

    @property
    def example(self) -> str:
        within, _, name = re.sub(r"\[[0-9]+\]", "", self.key).rpartition(".")
        return example_of(name, within=within, variable=self.source == variable_of(name))

    def error(self, problem: str) -> ConfigError:
        return ConfigError(f"{self.key!r} in {self.source} {problem}; write for example {self.example}")


def variable_of(key: str) -> str:
    """Return the variable that overrides a key."""
    return VARIABLE_PREFIX + key.upper()


def example_of(key: str, *, variable: bool, within: str = "") -> str:
    """Return how a key is written, in the file (`within` the entries of another one) or (`variable`) as a variable."""
    value = EXAMPLES.get(f"{within}.{key}", EXAMPLES[key])
    if not variable:
        return f'"{key}": {json.dumps(value)}'
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{variable_of(key)}={shlex.quote(text)}"


def unknown_key(name: str, known: list[str], *, what: str, within: str = "") -> ConfigError:
    """Return the error for a key or variable that does not exist, with the one that was probably meant."""
    keys = {candidate.removeprefix(VARIABLE_PREFIX).lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.removeprefix(VARIABLE_PREFIX).lower(), keys, n=1)
    if not close:
        return ConfigError(f"{name!r} is an unknown {what}; known are {', '.join(known)}")
    key, meant = close[0], keys[close[0]]
    example = (
        example_of(key, within=within, variable=meant != key) if key in EXAMPLES else f"{meant}=/etc/elasticpypi.json"
    )
    return ConfigError(f"{name!r} is an unknown {what}; did you mean {meant!r}, for example {example}?")


def read_string(given: Given) -> str:
    """Read a text that is not empty and fits on a line."""
    value = given.value
    if not isinstance(value, str):
        raise given.error("is not a string")
    if not value.strip():
        raise given.error("is empty")
    # Cc: control characters, which RFC 7617 bans from credentials; Cs: half a character, which UTF-8 cannot encode.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise given.error("contains a control character (a line break, perhaps) or is not valid Unicode")
    return value


def read_optional_string(given: Given) -> str | None:
    """Read the same, or null."""
    return None if given.value is None else read_string(given)


def read_matching(given: Given, pattern: str, value: str, allowed: str) -> str:
    """Return a value that a pattern matches; `allowed` says in words what that is."""
    if not re.fullmatch(pattern, value):
        raise given.error(f"is {given.value!r}, but may consist of {allowed} only")
    return value


def read_switch(given: Given) -> bool:
    """Read true or false."""
    if not isinstance(given.value, bool):
        raise given.error("is neither true nor false")
    return given.value


def check_given(given: Given, check: Callable[[str], None]) -> None:
    """Have a check look at a value; the sentence of its ValueError becomes one about the key."""
    try:
        check(given.value)
    except ValueError as error:
        raise given.error(str(error)) from error


def read_choice(given: Given, choices: Sequence[str]) -> str:
    """Read one of several words."""
    if given.value not in choices:
        raise given.error(f"is not one of {', '.join(choices)}")
    return str(given.value)


def read_days(given: Given) -> int:
    """Read a number of days, from 1 on."""
    if isinstance(given.value, bool) or not isinstance(given.value, int) or not 0 < given.value <= MOST_DAYS:
        raise given.error(f"is not a whole number of days from 1 to {MOST_DAYS}")
    return given.value


def read_username(given: Given) -> str:
    """Read a name that basic authentication can carry."""
    username = read_string(given)
    if ":" in username:
        raise given.error("contains ':', which ends the username in basic authentication")
    if username == TOKEN_USERNAME:
        raise given.error("is the username that stands for tokens")
    return username


def read_password(given: Given) -> str:
    """Read a password or the hash of one."""
    password = read_string(given)
    try:
        is_hash(password)
    except ValueError as error:
        raise given.error(f"{error}; make one with 'elasticpypi hash-password'") from error
    return password


# fnmatch, over what a normalised name can be: no '-' at an end and no two in a row (PEP 503).
_PROJECTS_PATTERN = re.compile(r"(?!-)(?:[a-z0-9*?]|-(?=[^-])|\[!?[a-z0-9-]+\])+")


def read_projects(given: Given) -> tuple[str, ...]:
    """Read patterns of normalised project names."""
    try:
        return check_projects(given.value)
    except ValueError as error:
        raise given.error(str(error)) from error


def read_projects_or_none(given: Given) -> tuple[str, ...]:
    """Read the same, of which there may be none."""
    return () if given.value == [] else read_projects(given)


def check_projects(value: object) -> tuple[str, ...]:
    """Return patterns of normalised project names; raise ValueError for anything else."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("is not a list of patterns")
    if len(value) > MOST_PATTERNS:  # each of them is held against every project that is listed
        raise ValueError(f"has more than {MOST_PATTERNS} patterns")
    for pattern in value:
        if not isinstance(pattern, str) or len(pattern) > MAX_NAME or not _PROJECTS_PATTERN.fullmatch(pattern):
            raise ValueError(
                f"has {str(pattern)[:100]!r}, which no normalised project name can match (lowercase letters, digits, "
                "single '-', and '*', '?', '[…]')"
            )
    return tuple(value)
