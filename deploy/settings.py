"""Prints as JSON what serverless.yml takes from the configuration, which the application's own validator has read.

Needs nothing but the standard library, so that it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import base64
import configparser
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from elasticpypi.config import (
    CONFIG_VARIABLE,
    VARIABLE_PREFIX,
    OutputAccess,
    Settings,
    User,
    load_settings,
    write_upstream,
)
from elasticpypi.errors import ConfigError
from elasticpypi.passwords import is_hash

ROOT = Path(__file__).resolve().parent.parent

_LONGEST_NAME = 64  # of a function: <service>-<stage>-events
_LARGEST_ENVIRONMENT = 4096  # bytes: of all variables of a function, names and values
_RESERVED = 512  # bytes of it, for QUEUE_URL, which is not known yet, and what else AWS counts


def resolve(environ: Mapping[str, str], *, stage: str | None = None) -> dict[str, Any]:
    """Return what serverless.yml needs to know; raise ConfigError for whatever cannot be deployed.

    `stage` is the one that the command line names, which must be that of the configuration.
    """
    path = ROOT / "elasticpypi" / "config.json"
    settings = load_settings(environ=environ, default_path=path)
    if settings.bucket is None:
        place = environ.get(CONFIG_VARIABLE, str(path))
        raise ConfigError(
            f"'bucket' is missing in {place}, which a deployment to AWS needs; copy elasticpypi/config-example.json "
            'there and edit it, or add for example "bucket": "acme-pypi-files", "table": "acme-pypi"'
        )
    _check_stage(settings, stage)
    _check_names(settings)
    region = _find_region(settings, environ)
    _check_topic(settings, region)
    _check_upstreams(settings)
    environment = _divide(function_environment(settings))
    for variables in environment.values():
        _check_environment(variables)
    return {
        "service": settings.service,
        "stage": settings.stage,
        "region": region,
        "profile": settings.profile,
        "bucket": settings.bucket,
        "table": settings.table,
        "gateway": "none" if settings.table is None else settings.gateway.value,
        "data": "taken-over" if settings.take_over else "owned",
        "snapStart": settings.snap_start,
        "runtime": settings.runtime,
        "architecture": settings.architecture,
        "alarmActions": [] if settings.alarm_topic is None else [settings.alarm_topic],
        "python": sys.executable,
        "environment": environment,
        **_resolve_site(settings),
    }


def _resolve_site(settings: Settings) -> dict[str, Any]:
    """Return which parts of deploy/ a deployment has that are about static files, and what they are told."""
    data = "taken-over" if settings.take_over else "owned"
    catalog = "none" if settings.table is None else data
    shape = "alone" if settings.table is None else "index"
    if settings.output_bucket is None:
        none = dict.fromkeys(("output", "access", "siteRoles", "siteAlarms"), "none")
        return {"shape": shape, "catalog": catalog, **none, "files": "private", "coreMetadata": "elsewhere"}
    through_cloudfront = settings.output_access is OutputAccess.CLOUDFRONT
    _check_website(settings)
    _check_core_metadata(settings)
    return {
        "shape": shape,
        "catalog": catalog,
        "outputBucket": settings.output_bucket,
        "output": data if settings.take_over else settings.output_access.value,
        "access": settings.output_access.value if through_cloudfront else "none",
        "files": "cloudfront" if through_cloudfront and settings.packages_url is None else "private",
        "coreMetadata": "beside" if settings.core_metadata == "beside" else "elsewhere",
        "siteRoles": shape,
        "siteAlarms": "site",
        "authorizations": sorted(_authorizations(settings)) if through_cloudfront else [],
    }


def _authorizations(settings: Settings) -> Iterator[str]:
    """Yield the SHA-256 of each header that CloudFront lets in, which knows nothing of the slow hashes of passwords.

    Who may see some projects only, is not among them: there is one index for all who are let in.
    """
    found = False
    for user in settings.all_users:
        if user.projects == ("*",) and not is_hash(user.password):
            found = True
            credentials = base64.b64encode(f"{user.username}:{user.password}".encode()).decode()
            yield hashlib.sha256(f"Basic {credentials}".encode()).hexdigest()
    if settings.all_users and not found:
        raise ConfigError(
            "nobody could read the static files: CloudFront compares credentials by itself and knows no slow hashes, "
            "so it lets in users with a plain password who may see all projects; add one to 'users', with the "
            "permission 'read', or name none at all to let everybody in"
        )


def _check_website(settings: Settings) -> None:
    if settings.output_access is not OutputAccess.WEBSITE:
        return
    if settings.packages_url is None:
        raise ConfigError(
            "'packages_url' is missing: a website of S3 gives out the pages alone, so its links have to say where the "
            'files are; add for example "packages_url": "https://files.example.org/", or choose "output_access": '
            '"cloudfront"'
        )
    if settings.table is None and settings.all_users:
        raise ConfigError(
            "'username' and 'users' would protect nothing: everybody may read a website of S3; leave them out, or "
            'choose "output_access": "cloudfront"'
        )


def _check_core_metadata(settings: Settings) -> None:
    """Raise ConfigError where pages would announce core metadata that nobody finds: pip and uv stop at it."""
    through_cloudfront = settings.output_access is OutputAccess.CLOUDFRONT
    if through_cloudfront and settings.packages_url is None and settings.core_metadata == "beside":
        raise ConfigError(
            "'core_metadata' is \"beside\", and CloudFront takes core metadata from the pages' bucket: leave it out, "
            'or say with "packages_url" who else gives out the files, for example "https://files.example.org/"'
        )
    if not through_cloudfront and settings.core_metadata == "output":
        raise ConfigError(
            "'core_metadata' is \"output\", and clients ask where the files are, which a website of S3 does not give "
            'out: leave it out, or choose "core_metadata": "beside"'
        )


def _check_upstreams(settings: Settings) -> None:
    if settings.table is None and settings.upstreams:
        raise ConfigError(
            "nobody would be asked: 'upstreams' are for an API, and static files alone have none; leave them out, or "
            'have an API with "table": "acme-pypi"'
        )


_OF_THE_SITE = (
    "ELASTICPYPI_OUTPUT_BUCKET",
    "ELASTICPYPI_OUTPUT_URL",
    "ELASTICPYPI_PACKAGES_URL",
    "ELASTICPYPI_CORE_METADATA",
    "ELASTICPYPI_LOGO",
    "ELASTICPYPI_LOGO_WIDTH",
)  # the API knows nothing of static files
_OF_THE_API = (
    "ELASTICPYPI_USERNAME",
    "ELASTICPYPI_PASSWORD",
    "ELASTICPYPI_USERS",
    "ELASTICPYPI_URL",
    "ELASTICPYPI_COUNT_DOWNLOADS",
)  # nobody logs in to the other functions
_OF_WHO_ASKS = ("ELASTICPYPI_UPSTREAMS", "ELASTICPYPI_OWN_NAMES")


def _divide(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the variables of each function: what it needs to know, passwords above all, and nothing else."""
    events = _without(environment, _OF_THE_API)  # which copies the files that are kept of upstreams
    others = _without(events, _OF_WHO_ASKS)
    return {"api": _without(environment, _OF_THE_SITE), "events": events, "sync": others, "site": others}


def _without(environment: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}


def function_environment(settings: Settings) -> dict[str, str]:
    """Return the variables from which the API reads the same settings, without what is a default."""
    given = {
        "SERVICE": settings.service,
        "STAGE": settings.stage,
        "BUCKET": settings.bucket,
        "TABLE": settings.table,
        "GATEWAY": settings.gateway.value,
        "OVERWRITE": json.dumps(settings.overwrite),
        "USERNAME": settings.username,
        "PASSWORD": settings.password,
        "USERS": json.dumps([_user(user) for user in settings.users]) if settings.users else None,
        "URL": settings.url,
        "OUTPUT_BUCKET": settings.output_bucket,
        "OUTPUT_URL": settings.output_url,
        "PACKAGES_URL": settings.packages_url,
        "CORE_METADATA": settings.core_metadata,
        "TITLE": settings.title,
        "LOGO": settings.logo,
        "LOGO_WIDTH": None if settings.logo_width is None else str(settings.logo_width),
        "AUDIT_DAYS": None if settings.audit_days == Settings().audit_days else str(settings.audit_days),
        "COUNT_DOWNLOADS": "true" if settings.count_downloads else None,
        "UPSTREAMS": _compact([write_upstream(each) for each in settings.upstreams]) if settings.upstreams else None,
        "OWN_NAMES": _compact(settings.own_names) if settings.own_names else None,
    }
    return {f"ELASTICPYPI_{key}": value for key, value in given.items() if value is not None}


def _compact(value: object) -> str:
    """Return a value as JSON that wastes nothing of the little room."""
    return json.dumps(value, separators=(",", ":"))


def _user(user: User) -> dict[str, Any]:
    return {
        "username": user.username,
        "password": user.password,
        "permission": user.permission.value,
        "projects": list(user.projects),
    }


def _check_stage(settings: Settings, named: str | None) -> None:
    if named is not None and named.removeprefix("/") != settings.stage:
        raise ConfigError(
            f"'--stage' names {named!r}, and the configuration is that of {settings.stage!r}: two stages cannot share "
            "a bucket and a table, so each has a configuration of its own; deploy for example with "
            "ELASTICPYPI_CONFIG=prod.json npx sls deploy"
        )


def _check_topic(settings: Settings, region: str) -> None:
    of_topic = settings.alarm_topic and settings.alarm_topic.split(":")[3]
    if of_topic and of_topic != region:
        raise ConfigError(
            f"'alarm_topic' is in {of_topic}, and the deployment in {region}: alarms reach topics of their own region "
            "only; name one that is there"
        )


def _check_names(settings: Settings) -> None:
    name = f"{settings.service}-{settings.stage}-events"
    if len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"'service' and 'stage' are too long together: a function would be called {name!r}, and Lambda allows "
            f"{_LONGEST_NAME} characters; shorten 'service'"
        )


_SMALLER = {
    "users": "have fewer users or share one between machines that may do the same",
    "upstreams": "have fewer upstreams, or patterns that match more names and files each",
    "own_names": "have patterns that match more names each",
}


def _check_environment(environment: Mapping[str, str]) -> None:
    sizes = {name: len(f"{name}{value}".encode()) for name, value in environment.items()}
    if sum(sizes.values()) > _LARGEST_ENVIRONMENT - _RESERVED:
        largest = max(sizes, key=sizes.__getitem__).removeprefix(VARIABLE_PREFIX).lower()
        raise ConfigError(
            f"{largest!r} is too large: the variables of a function would take {sum(sizes.values())} bytes, and Lambda "
            f"allows about {_LARGEST_ENVIRONMENT - _RESERVED}; {_SMALLER.get(largest, 'shorten it')}"
        )


def _find_region(settings: Settings, environ: Mapping[str, str]) -> str:
    found = settings.region or _region_of_environment(environ, settings.profile)
    if found is None:
        raise ConfigError(
            "no region is named, neither by the configuration nor by AWS_REGION nor for the profile; add for example "
            '"region": "eu-central-1"'
        )
    return found


def _region_of_environment(environ: Mapping[str, str], profile: str | None) -> str | None:
    """Return the region that AWS's own programs would use."""
    named = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if named:
        return named
    path = Path(environ.get("AWS_CONFIG_FILE") or Path.home() / ".aws" / "config").expanduser()
    profile = profile or environ.get("AWS_PROFILE") or "default"
    sections = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        sections.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return None  # not ours to complain about: whoever takes credentials from there will
    section = profile if profile == "default" else f"profile {profile}"
    return sections.get(section, "region", fallback=None)


def main() -> int:
    """Print the settings, or one sentence about what is wrong with them."""
    parser = argparse.ArgumentParser(prog="python -m deploy.settings", description=__doc__)
    parser.add_argument("--stage")
    try:
        resolved = resolve(os.environ, stage=parser.parse_args().stage)  # noqa: TID251 -- a command, as those of elasticpypi.cli
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(resolved))
    return 0


if __name__ == "__main__":
    sys.exit(main())
