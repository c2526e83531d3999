"""Reads the settings from a JSON file and from variables, and checks them before anything runs.

Nothing here reads the environment by itself; `handler` and `cli` hand it over. No message and no `repr` carries a
password, and no message shows a value that somebody could have mistaken for the place of one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from elasticpypi.config.given import (
    VARIABLE_PREFIX,
    Given,
    check_given,
    example_of,
    read_choice,
    read_days,
    read_matching,
    read_optional_string,
    read_password,
    read_projects_or_none,
    read_string,
    read_switch,
    read_username,
    unknown_key,
    variable_of,
)
from elasticpypi.config.settings import ARCHITECTURES, CORE_METADATA_PLACES, RUNTIMES, Gateway, OutputAccess, Settings
from elasticpypi.config.upstreams import check_some_are_asked, read_upstreams
from elasticpypi.config.users import check_usernames_differ, read_users
from elasticpypi.errors import ConfigError
from elasticpypi.index_url import parse_index_url

CONFIG_VARIABLE = "ELASTICPYPI_CONFIG"  # names the file; every other variable is a key
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
    check_usernames_differ(settings, given)
    _check_buckets_differ(settings, given)
    check_some_are_asked(settings, given)
    return settings


# The file and the variables --------------------------------------------------------------------------------------


def _read_file(environ: Mapping[str, str], default_path: Path) -> tuple[Path | None, dict[str, Given]]:
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
            raise unknown_key(key, list(_READERS), what=f"key in {path}")
    return path, {key: Given(key, value, str(path)) for key, value in document.items()}


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


def _read_variables(environ: Mapping[str, str]) -> dict[str, Given]:
    known = {variable_of(key): key for key in _READERS}
    given = {}
    for name in sorted(environ):
        if not name.startswith(VARIABLE_PREFIX) or name == CONFIG_VARIABLE:
            continue
        if name not in known:
            raise unknown_key(name, [*known, CONFIG_VARIABLE], what="variable")
        given[known[name]] = Given(known[name], _from_text(known[name], environ[name]), name)
    return given


def _from_text(key: str, text: str) -> object:
    """Return the JSON value that the text of a variable stands for."""
    if _READERS[key] is read_switch:
        return {"true": True, "false": False}.get(text.lower(), text)
    if _READERS[key] in (read_users, read_upstreams, read_projects_or_none) and text:
        return _parse_json(text, variable_of(key))
    if _READERS[key] in (_read_pixels, read_days) and text.isascii() and text.isdecimal() and len(text) < 10:
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


def _check_complete(given: Mapping[str, Given], path: Path | None, *, serving: bool) -> None:
    """Raise ConfigError for a key that is missing, given the other ones."""
    for keys, reason in _needed(given, path, serving=serving):
        for key in keys:
            if key not in given:
                place = "the environment" if path is None else str(path)
                example = example_of(key, variable=path is None)
                raise ConfigError(f"{key!r} is missing in {place}, {reason}; add for example {example}")


def _needed(given: Mapping[str, Given], path: Path | None, *, serving: bool) -> Iterator[tuple[tuple[str, ...], str]]:
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


def _read_service(given: Given) -> str:
    return read_matching(given, r"[A-Za-z][A-Za-z0-9-]{0,127}", read_string(given), "letters, digits and '-'")


def _read_stage(given: Given) -> str:
    # CloudFormation's rule: the stack is called <service>-<stage>.
    return read_matching(
        given, r"[A-Za-z0-9-]{1,128}", read_string(given).removeprefix("/"), "letters, digits and '-' after the slash"
    )


def _read_bucket(given: Given) -> str:
    # Amazon's rule, less the dot: no certificate covers the host of such a bucket.
    pattern = r"(?!xn--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"
    return read_matching(given, pattern, read_string(given), "3 to 63 lowercase letters, digits and '-' inside")


def _read_table(given: Given) -> str:
    return read_matching(
        given, r"[A-Za-z0-9_.-]{3,255}", read_string(given), "3 to 255 letters, digits, '-', '_' and '.'"
    )


def _read_region(given: Given) -> str | None:
    if given.value is None:
        return None
    return read_matching(
        given, r"[a-z]{2,}(-[a-z]+)+-[0-9]+", read_string(given), "a region's name, such as eu-west-1,"
    )


def _read_topic(given: Given) -> str | None:
    if given.value is None:
        return None
    topic = read_string(given)
    if not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+", topic):
        raise given.error("is not the ARN of an SNS topic")
    return topic


def _read_url(given: Given) -> str:
    # Without credentials, which `elasticpypi upload` reads out of the same variable: everybody sees this URL.
    try:
        return parse_index_url(read_string(given)).url
    except ValueError as error:
        raise given.error(str(error)) from error


def _read_output_access(given: Given) -> OutputAccess:
    return OutputAccess(read_choice(given, list(OutputAccess)))


def _read_core_metadata(given: Given) -> str:
    return read_choice(given, CORE_METADATA_PLACES)


def _read_logo(given: Given) -> str | None:
    value = read_optional_string(given)
    if value is not None:
        check_given(given, check_reference)
    return value


def _read_packages_url(given: Given) -> str | None:
    value = read_optional_string(given)
    if value is not None:
        check_given(given, check_packages_url)
    return value


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


def _read_pixels(given: Given) -> int:
    if isinstance(given.value, bool) or not isinstance(given.value, int) or not 0 < given.value <= _MOST_PIXELS:
        raise given.error(f"is not a whole number of pixels from 1 to {_MOST_PIXELS}")
    return given.value


_MOST_PIXELS = 10_000


def _read_gateway(given: Given) -> Gateway:
    return Gateway(read_choice(given, list(Gateway)))


def _read_runtime(given: Given) -> str:
    return read_choice(given, RUNTIMES)


def _read_architecture(given: Given) -> str:
    return read_choice(given, ARCHITECTURES)


_READERS: Mapping[str, Callable[[Given], Any]] = {
    "service": _read_service,
    "stage": _read_stage,
    "bucket": _read_bucket,
    "table": _read_table,
    "profile": read_optional_string,
    "username": read_username,
    "password": read_password,
    "overwrite": read_switch,
    "users": read_users,
    "data": read_string,
    "url": _read_url,
    "region": _read_region,
    "gateway": _read_gateway,
    "take_over": read_switch,
    "snap_start": read_switch,
    "runtime": _read_runtime,
    "architecture": _read_architecture,
    "alarm_topic": _read_topic,
    "output_bucket": _read_bucket,
    "output_access": _read_output_access,
    "output_url": _read_url,
    "packages_url": _read_packages_url,
    "core_metadata": _read_core_metadata,
    "title": read_optional_string,
    "logo": _read_logo,
    "logo_width": _read_pixels,
    "audit_days": read_days,
    "count_downloads": read_switch,
    "upstreams": read_upstreams,
    "own_names": read_projects_or_none,
}


def _check_buckets_differ(settings: Settings, given: Mapping[str, Given]) -> None:
    if settings.output_bucket is not None and settings.output_bucket == settings.bucket:
        raise given["output_bucket"].error(
            f"is {settings.output_bucket!r}, which is the bucket of the files, too: who may read the pages is not to "
            "read everything there"
        )
