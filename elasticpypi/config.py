"""What an index is told: the settings, from a JSON file and from variables, checked before anything runs.

Nothing here reads the environment by itself; `handler` and `cli` hand it over. No message and no `repr` carries a
password, and no message shows a value that somebody could have mistaken for the place of one.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from elasticpypi.errors import ConfigError
from elasticpypi.index_url import parse_index_url
from elasticpypi.names import MAX_NAME
from elasticpypi.passwords import is_hash

VARIABLE_PREFIX = "ELASTICPYPI_"
CONFIG_VARIABLE = "ELASTICPYPI_CONFIG"  # names the file; every other variable is a key
TOKEN_USERNAME = "__token__"  # noqa: S105  # that clients give with a token, as on PyPI


class Permission(StrEnum):
    """What a principal may do, from the least to the most; each includes those before it."""

    READ = "read"
    UPLOAD = "upload"
    ADMIN = "admin"

    def includes(self, other: Permission) -> bool:
        """Whether whoever has this permission also has the other one."""
        return _RANKS[self] >= _RANKS[other]


_RANKS = {permission: rank for rank, permission in enumerate(Permission)}


class OutputAccess(StrEnum):
    """Who may read the index that is written as files into a bucket."""

    CLOUDFRONT = "cloudfront"  # CloudFront alone, which may ask for a password
    WEBSITE = "website"  # everybody: S3 itself serves it as a website


class Gateway(StrEnum):
    """What stands before the API on AWS."""

    REST = "rest"  # with answers of its own that can be worded, and a stage in its URLs
    HTTP = "http"  # cheaper, at the root of its host


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may use the index with a name and a password."""

    username: str
    password: str = field(repr=False)  # plain text or a hash, see `is_hash`
    permission: Permission = Permission.READ
    projects: tuple[str, ...] = ("*",)  # patterns (fnmatch) of normalised project names


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of one index; docs/configuration.md explains each key."""

    service: str = "elasticpypi"
    stage: str = "dev"  # without its leading slash
    bucket: str | None = None  # None: a directory instead of S3
    table: str | None = None  # None: SQLite instead of DynamoDB
    profile: str | None = None  # None: the default AWS credentials
    username: str | None = None  # None: there is no main user yet; the local server makes one
    password: str | None = field(default=None, repr=False)
    overwrite: bool = False
    users: tuple[User, ...] = ()  # further users, beside the main one
    data: str | None = None  # directory of the local adapters; None: the command's default
    url: str | None = None  # where clients find the index; None: as each of them asks
    region: str | None = None  # of AWS; None: as the environment or the profile says
    gateway: Gateway = Gateway.REST
    take_over: bool = False  # the bucket and the table are there already, so a deployment does not make them
    snap_start: bool = False  # functions start from a snapshot
    runtime: str = "python3.13"  # of the functions, and the packages in them
    architecture: str = "arm64"
    alarm_topic: str | None = None  # ARN of what alarms are sent to; None: they are only seen
    output_bucket: str | None = None  # where the index lies as static files; None: nowhere on AWS
    output_access: OutputAccess = OutputAccess.CLOUDFRONT
    output_url: str | None = None  # where the static files are found, with a slash at its end; None: nobody knows
    packages_url: str | None = None  # what their links to files begin with; None: `packages/` beside the pages
    core_metadata: str | None = None  # one of CORE_METADATA_PLACES; None: what suits `packages_url`
    title: str | None = None  # of the pages for people; None: the default one
    logo: str | None = None  # URL of an image on these pages
    logo_width: int | None = None  # pixels; None: as wide as it is
    audit_days: int = 365  # for which is kept who has done what
    count_downloads: bool = False

    @property
    def all_users(self) -> tuple[User, ...]:
        """The main user, who may do everything, and the further ones."""
        if self.username is None or self.password is None:
            return self.users
        return (User(self.username, self.password, Permission.ADMIN), *self.users)


# What messages show.
_EXAMPLES: Mapping[str, object] = {
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
}
_USER_KEYS = ("username", "password", "permission", "projects")
RUNTIMES = ("python3.13", "python3.14")
ARCHITECTURES = ("arm64", "x86_64")
CORE_METADATA_PLACES = ("output", "beside", "none")
_ON_AWS = ("bucket", "table", "output_bucket")  # which a local index ignores


def load_settings(
    *, environ: Mapping[str, str], default_path: Path, local: bool = False, serving: bool = True
) -> Settings:
    """Read the settings from the file and the variables; a variable wins over the file.

    The file is the one that `ELASTICPYPI_CONFIG` names, which must exist then, else `default_path` if that exists.
    With `local` the index lies in a directory, whatever `bucket`, `table` and `output_bucket` say. Without `serving`
    nobody logs in, so that no credentials are needed. Raise ConfigError for whatever is unknown, missing or wrong.
    """
    path, in_file = _read_file(environ, default_path)
    given = in_file | _read_variables(environ)
    if local:
        given = {key: value for key, value in given.items() if key not in _ON_AWS}
    _check_complete(given, path, serving=serving)
    settings = Settings(**{key: _READERS[key](value) for key, value in given.items()})
    _check_usernames_differ(settings, given)
    _check_buckets_differ(settings, given)
    return settings


# What is given, and where ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, under which key, and where: the path of a file or the name of a variable."""

    key: str  # inside of `users`: "users[0].permission"
    value: Any = field(repr=False)
    source: str

    @property
    def example(self) -> str:
        name = self.key.rpartition(".")[2].partition("[")[0]
        return _example(name, variable=self.source == _variable(name))

    def error(self, problem: str) -> ConfigError:
        return ConfigError(f"{self.key!r} in {self.source} {problem}; write for example {self.example}")


def _variable(key: str) -> str:
    return VARIABLE_PREFIX + key.upper()


def _example(key: str, *, variable: bool) -> str:
    value = _EXAMPLES[key]
    if not variable:
        return f'"{key}": {json.dumps(value)}'
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{_variable(key)}='{text}'" if " " in text else f"{_variable(key)}={text}"  # quoted as a shell wants it


def _unknown(name: str, known: list[str], *, what: str) -> ConfigError:
    """Return the error for a key or variable that does not exist, with the one that was probably meant."""
    keys = {candidate.removeprefix(VARIABLE_PREFIX).lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.removeprefix(VARIABLE_PREFIX).lower(), keys, n=1)
    if not close:
        return ConfigError(f"{name!r} is an unknown {what}; known are {', '.join(known)}")
    key, meant = close[0], keys[close[0]]
    example = _example(key, variable=meant != key) if key in _EXAMPLES else f"{meant}=/etc/elasticpypi.json"
    return ConfigError(f"{name!r} is an unknown {what}; did you mean {meant!r}, for example {example}?")


# The file and the variables --------------------------------------------------------------------------------------


def _read_file(environ: Mapping[str, str], default_path: Path) -> tuple[Path | None, dict[str, _Given]]:
    """Return the file's path and what it says; None and nothing where there is no default file."""
    named = environ.get(CONFIG_VARIABLE)
    if named == "":
        raise ConfigError(f"{CONFIG_VARIABLE} is empty; unset it, or set it to a file such as /etc/elasticpypi.json")
    path = default_path if named is None else Path(named)
    text = _read_text(path, named=named is not None)
    if text is None:
        return None, {}
    document = _parse_json(text, str(path))
    if not isinstance(document, dict):
        raise ConfigError(f'{path} is not a JSON object; it looks for example like {{"stage": "/dev", …}}')
    for key in document:
        if key not in _READERS:
            raise _unknown(key, list(_READERS), what=f"key in {path}")
    return path, {key: _Given(key, value, str(path)) for key, value in document.items()}


def _read_text(path: Path, *, named: bool) -> str | None:
    try:
        return path.read_bytes().decode("utf-8-sig")  # Windows editors put a byte order mark before it
    except FileNotFoundError:
        if not named:
            return None
        problem = f"does not exist, though {CONFIG_VARIABLE} names it; copy elasticpypi/config-example.json there"
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); make it a file that this process may read"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (byte {error.start + 1}); save it in that encoding"
    # Raised here, because a UnicodeDecodeError carries the file's content with it.
    raise ConfigError(f"the configuration file {path} {problem}")


def _read_variables(environ: Mapping[str, str]) -> dict[str, _Given]:
    known = {_variable(key): key for key in _READERS}
    given = {}
    for name in sorted(environ):
        if not name.startswith(VARIABLE_PREFIX) or name == CONFIG_VARIABLE:
            continue
        if name not in known:
            raise _unknown(name, [*known, CONFIG_VARIABLE], what="variable")
        given[known[name]] = _Given(known[name], _from_text(known[name], environ[name]), name)
    return given


def _from_text(key: str, text: str) -> object:
    """Return the JSON value that the text of a variable stands for."""
    if _READERS[key] is _read_switch:
        return {"true": True, "false": False}.get(text.lower(), text)
    if key == "users" and text:
        return _parse_json(text, _variable(key))
    if _READERS[key] in (_read_pixels, _read_days) and text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    return text


def _parse_json(text: str, source: str) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                raise ConfigError(f"{key!r} is given {count} times in {source}; keep one of them")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        # Some of these messages end in a piece of the text.
        reason = error.msg.partition(":")[0].removesuffix(" at")
        problem = f"{reason} in line {error.lineno}, column {error.colno}"
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets
        problem = "it is not a plausible configuration"
    # Raised here, because a JSONDecodeError carries the whole text with it.
    raise ConfigError(
        f"{source} is not JSON: {problem} (JSON has no comments and no comma after the last entry; "
        "compare elasticpypi/config-example.json)"
    )


def _check_complete(given: Mapping[str, _Given], path: Path | None, *, serving: bool) -> None:
    """Raise ConfigError for a key that is missing, given the other ones."""
    for keys, reason in _needed(given, path, serving=serving):
        for key in keys:
            if key not in given:
                place = "the environment" if path is None else str(path)
                example = _example(key, variable=path is None)
                raise ConfigError(f"{key!r} is missing in {place}, {reason}; add for example {example}")


def _needed(given: Mapping[str, _Given], path: Path | None, *, serving: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    alone = "output_bucket" in given and "table" not in given  # nobody logs in: there is no API
    if "output_bucket" in given:
        yield ("bucket",), "from whose files those of 'output_bucket' are made"
    elif "bucket" in given or "table" in given:
        yield ("bucket", "table"), "where 'bucket' and 'table' come together or not at all"
    if "bucket" in given and serving and not alone:
        yield ("username", "password"), "which an index on AWS needs"
    if "bucket" in given and path is not None:  # the file describes a deployment, too; inside of Lambda it is done
        yield ("service", "stage", "profile"), "which a deployment to AWS needs"
    if "username" in given or "password" in given:
        yield ("username", "password"), "where 'username' and 'password' come together or not at all"


# One reader for each key -----------------------------------------------------------------------------------------


def _read_string(given: _Given) -> str:
    value = given.value
    if not isinstance(value, str):
        raise given.error("is not a string")
    if not value.strip():
        raise given.error("is empty")
    # Cc: control characters, which RFC 7617 bans from credentials; Cs: half a character, which UTF-8 cannot encode.
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise given.error("contains a control character (a line break, perhaps) or is not valid Unicode")
    return value


def _read_optional_string(given: _Given) -> str | None:
    return None if given.value is None else _read_string(given)


def _read_service(given: _Given) -> str:
    return _read_matching(given, r"[A-Za-z][A-Za-z0-9-]{0,127}", _read_string(given), "letters, digits and '-'")


def _read_stage(given: _Given) -> str:
    # CloudFormation's rule: the stack is called <service>-<stage>.
    return _read_matching(
        given, r"[A-Za-z0-9-]{1,128}", _read_string(given).removeprefix("/"), "letters, digits and '-' after the slash"
    )


def _read_bucket(given: _Given) -> str:
    # Amazon's rule, less the dot: no certificate covers the host of such a bucket.
    pattern = r"(?!xn--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"
    return _read_matching(given, pattern, _read_string(given), "3 to 63 lowercase letters, digits and '-' inside")


def _read_table(given: _Given) -> str:
    return _read_matching(
        given, r"[A-Za-z0-9_.-]{3,255}", _read_string(given), "3 to 255 letters, digits, '-', '_' and '.'"
    )


def _read_region(given: _Given) -> str | None:
    if given.value is None:
        return None
    return _read_matching(
        given, r"[a-z]{2,}(-[a-z]+)+-[0-9]+", _read_string(given), "a region's name, such as eu-west-1,"
    )


def _read_topic(given: _Given) -> str | None:
    if given.value is None:
        return None
    topic = _read_string(given)
    if not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+", topic):
        raise given.error("is not the ARN of an SNS topic")
    return topic


def _read_matching(given: _Given, pattern: str, value: str, allowed: str) -> str:
    if not re.fullmatch(pattern, value):
        raise given.error(f"is {given.value!r}, but may consist of {allowed} only")
    return value


def _read_username(given: _Given) -> str:
    username = _read_string(given)
    if ":" in username:
        raise given.error("contains ':', which ends the username in basic authentication")
    if username == TOKEN_USERNAME:
        raise given.error("is the username that stands for tokens")
    return username


def _read_password(given: _Given) -> str:
    password = _read_string(given)
    try:
        is_hash(password)
    except ValueError as error:
        raise given.error(f"{error}; make one with 'elasticpypi hash-password'") from error
    return password


def _read_switch(given: _Given) -> bool:
    if not isinstance(given.value, bool):
        raise given.error("is neither true nor false")
    return given.value


def _read_url(given: _Given) -> str:
    # Without credentials, which `elasticpypi upload` reads out of the same variable: everybody sees this URL.
    try:
        return parse_index_url(_read_string(given)).url
    except ValueError as error:
        raise given.error(str(error)) from error


def _read_output_access(given: _Given) -> OutputAccess:
    return OutputAccess(_read_choice(given, list(OutputAccess)))


def _read_core_metadata(given: _Given) -> str:
    return _read_choice(given, CORE_METADATA_PLACES)


def _read_logo(given: _Given) -> str | None:
    value = _read_optional_string(given)
    if value is not None:
        _check_given(given, check_reference)
    return value


def _read_packages_url(given: _Given) -> str | None:
    value = _read_optional_string(given)
    if value is not None:
        _check_given(given, check_packages_url)
    return value


def _check_given(given: _Given, check: Callable[[str], None]) -> None:
    try:
        check(given.value)
    except ValueError as error:
        raise given.error(str(error)) from error


def check_reference(text: str) -> None:
    """Raise ValueError for what is no URL that a page can link to, absolute or relative."""
    if not _REFERENCE.fullmatch(text):
        raise ValueError("is neither an http or https URL nor a path, or has characters that a URL has encoded")


def check_packages_url(text: str) -> None:
    """Raise ValueError for what no URL of a file can begin with."""
    check_reference(text)
    if "?" in text or "#" in text:
        raise ValueError("has a '?' or '#', behind which no filename can follow")


# No other scheme, such as that of a script, and nothing that a URL has encoded.
_REFERENCE = re.compile(r"(?:https?://[^\s/?#<>\"\\]|(?![a-zA-Z][a-zA-Z0-9+.-]*:)[^\s<>\"\\])[^\s<>\"\\]*")


def _read_pixels(given: _Given) -> int:
    if isinstance(given.value, bool) or not isinstance(given.value, int) or not 0 < given.value <= _MOST_PIXELS:
        raise given.error(f"is not a whole number of pixels from 1 to {_MOST_PIXELS}")
    return given.value


_MOST_PIXELS = 10_000


def _read_days(given: _Given) -> int:
    if isinstance(given.value, bool) or not isinstance(given.value, int) or not 0 < given.value <= _MOST_DAYS:
        raise given.error(f"is not a whole number of days from 1 to {_MOST_DAYS}")
    return given.value


_MOST_DAYS = 10_000


def _read_gateway(given: _Given) -> Gateway:
    return Gateway(_read_choice(given, list(Gateway)))


def _read_runtime(given: _Given) -> str:
    return _read_choice(given, RUNTIMES)


def _read_architecture(given: _Given) -> str:
    return _read_choice(given, ARCHITECTURES)


def _read_choice(given: _Given, choices: Sequence[str]) -> str:
    if given.value not in choices:
        raise given.error(f"is not one of {', '.join(choices)}")
    return str(given.value)


def _read_users(given: _Given) -> tuple[User, ...]:
    if not isinstance(given.value, list):
        raise given.error("is not a list of users")
    return tuple(
        _read_user(_Given(f"{given.key}[{number}]", entry, given.source)) for number, entry in enumerate(given.value)
    )


def _read_user(given: _Given) -> User:
    if not isinstance(given.value, dict):
        raise given.error("is not an object")
    for key in given.value:
        if key not in _USER_KEYS:
            raise _unknown(key, list(_USER_KEYS), what=f"key in {given.key!r} in {given.source}")
    fields = {key: _Given(f"{given.key}.{key}", value, given.source) for key, value in given.value.items()}
    for key in ("username", "password"):
        if key not in fields:
            raise _Given(f"{given.key}.{key}", None, given.source).error("is missing")
    return User(**{key: _READERS_OF_USER[key](value) for key, value in fields.items()})


def _read_permission(given: _Given) -> Permission:
    return Permission(_read_choice(given, list(Permission)))


# fnmatch, over what a normalised name can be: no '-' at an end and no two in a row (PEP 503).
_PROJECTS_PATTERN = re.compile(r"(?!-)(?:[a-z0-9*?]|-(?=[^-])|\[!?[a-z0-9-]+\])+")


_MOST_PATTERNS = 100


def _read_projects(given: _Given) -> tuple[str, ...]:
    try:
        return check_projects(given.value)
    except ValueError as error:
        raise given.error(str(error)) from error


def check_projects(value: object) -> tuple[str, ...]:
    """Return patterns of normalised project names; raise ValueError for anything else."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("is not a list of patterns")
    if len(value) > _MOST_PATTERNS:  # each of them is held against every project that is listed
        raise ValueError(f"has more than {_MOST_PATTERNS} patterns")
    for pattern in value:
        if not isinstance(pattern, str) or len(pattern) > MAX_NAME or not _PROJECTS_PATTERN.fullmatch(pattern):
            raise ValueError(
                f"has {str(pattern)[:100]!r}, which no normalised project name can match (lowercase letters, digits, "
                "single '-', and '*', '?', '[…]')"
            )
    return tuple(value)


_READERS: Mapping[str, Callable[[_Given], Any]] = {
    "service": _read_service,
    "stage": _read_stage,
    "bucket": _read_bucket,
    "table": _read_table,
    "profile": _read_optional_string,
    "username": _read_username,
    "password": _read_password,
    "overwrite": _read_switch,
    "users": _read_users,
    "data": _read_string,
    "url": _read_url,
    "region": _read_region,
    "gateway": _read_gateway,
    "take_over": _read_switch,
    "snap_start": _read_switch,
    "runtime": _read_runtime,
    "architecture": _read_architecture,
    "alarm_topic": _read_topic,
    "output_bucket": _read_bucket,
    "output_access": _read_output_access,
    "output_url": _read_url,
    "packages_url": _read_packages_url,
    "core_metadata": _read_core_metadata,
    "title": _read_optional_string,
    "logo": _read_logo,
    "logo_width": _read_pixels,
    "audit_days": _read_days,
    "count_downloads": _read_switch,
}
_READERS_OF_USER: Mapping[str, Callable[[_Given], Any]] = {
    "username": _read_username,
    "password": _read_password,
    "permission": _read_permission,
    "projects": _read_projects,
}


def _check_usernames_differ(settings: Settings, given: Mapping[str, _Given]) -> None:
    seen = {unicodedata.normalize("NFC", settings.username)} if settings.username else set()
    for number, user in enumerate(settings.users):
        username = unicodedata.normalize("NFC", user.username)
        if username in seen:
            place = _Given(f"users[{number}].username", None, given["users"].source)
            raise place.error(f"is {username!r}, which another user has already")
        seen.add(username)


def _check_buckets_differ(settings: Settings, given: Mapping[str, _Given]) -> None:
    if settings.output_bucket is not None and settings.output_bucket == settings.bucket:
        raise given["output_bucket"].error(
            f"is {settings.output_bucket!r}, which is the bucket of the files, too: who may read the pages is not to "
            "read everything there"
        )
