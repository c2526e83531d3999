"""What every entry point begins with: the settings in a function's variables, and the index that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elasticpypi.config import Settings, load_settings
from elasticpypi.errors import ConfigError
from elasticpypi.handler.logs import Lines, write_log_records
from elasticpypi.index import Index, open_index

# Where no file is: a function is told everything by variables.
_NO_FILE = Path(__file__).with_name("config.json")


@dataclass(frozen=True, slots=True)
class Opened:
    """What a function works with."""

    settings: Settings
    bucket: str
    index: Index
    lines: Lines


def open_function(environ: Mapping[str, str], *, serving: bool) -> Opened:
    """Open the index that the variables name, and let the log be JSON; `serving` is whether people ask this function.

    ConfigError for what is unknown, missing or wrong.
    """
    settings = load_settings(environ=environ, default_path=_NO_FILE, serving=serving)
    if settings.bucket is None:
        raise ConfigError("a function needs ELASTICPYPI_BUCKET and ELASTICPYPI_TABLE, which a deployment gives it")
    lines = Lines(service=settings.service, stage=settings.stage)
    write_log_records(lines)
    return Opened(settings, settings.bucket, open_index(settings, data=Path()), lines)
