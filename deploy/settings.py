"""Prints as JSON what serverless.yml takes from the configuration, which the application's own validator has read.

Needs nothing but the standard library, so that it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elasticpypi.config import CONFIG_VARIABLE, Settings, User, load_settings
from elasticpypi.errors import ConfigError

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
    if settings.bucket is None or settings.table is None:
        place = environ.get(CONFIG_VARIABLE, str(path))
        raise ConfigError(
            f"'bucket' is missing in {place}, which a deployment to AWS needs; copy elasticpypi/config-example.json "
            'there and edit it, or add for example "bucket": "acme-pypi-files", "table": "acme-pypi"'
        )
    _check_stage(settings, stage)
    _check_names(settings)
    region = _find_region(settings, environ)
    _check_topic(settings, region)
    environment = function_environment(settings)
    _check_environment(environment)
    indexer = {name: environment[name] for name in environment if name not in _OF_THE_API}
    return {
        "service": settings.service,
        "stage": settings.stage,
        "region": region,
        "profile": settings.profile,
        "bucket": settings.bucket,
        "table": settings.table,
        "gateway": settings.gateway.value,
        "data": "taken-over" if settings.take_over else "owned",
        "snapStart": settings.snap_start,
        "runtime": settings.runtime,
        "architecture": settings.architecture,
        "alarmActions": [] if settings.alarm_topic is None else [settings.alarm_topic],
        "python": sys.executable,
        "environment": {"api": environment, "indexer": indexer},
    }


# Nobody logs in to the other functions.
_OF_THE_API = ("ELASTICPYPI_USERNAME", "ELASTICPYPI_PASSWORD", "ELASTICPYPI_USERS", "ELASTICPYPI_URL")


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
    }
    return {f"ELASTICPYPI_{key}": value for key, value in given.items() if value is not None}


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


def _check_environment(environment: Mapping[str, str]) -> None:
    size = sum(len(f"{name}{value}".encode()) for name, value in environment.items())
    if size > _LARGEST_ENVIRONMENT - _RESERVED:
        raise ConfigError(
            f"'users' is too large: the variables of a function would take {size} bytes, and Lambda allows about "
            f"{_LARGEST_ENVIRONMENT - _RESERVED}; have fewer users or share one between machines that may do the same"
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
