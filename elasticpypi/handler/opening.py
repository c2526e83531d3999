"""What every entry point begins with: the settings in a function's variables, and the index that they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elasticpypi.config import Settings, load_settings
from elasticpypi.errors import ConfigError
from elasticpypi.handler.logs import Lines, write_log_records
from elasticpypi.index import Index, connect_aws, open_index

if TYPE_CHECKING:
    from elasticpypi.handler.keeping import SiteKeeper

# Where no file is: a function is told everything by variables.
_NO_FILE = Path(__file__).with_name("config.json")
_QUEUE = "QUEUE_URL"
Send = Callable[[Mapping[str, Any]], None]


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
        raise ConfigError(
            "a function needs ELASTICPYPI_BUCKET, and ELASTICPYPI_TABLE or ELASTICPYPI_OUTPUT_BUCKET, which a "
            "deployment gives it"
        )
    lines = Lines(service=settings.service, stage=settings.stage)
    write_log_records(lines)
    return Opened(settings, settings.bucket, open_index(settings, data=Path()), lines)


def open_work_queue(opened: Opened, environ: Mapping[str, str]) -> Send | None:
    """Return what puts a message on the queue that the variables name; None where they name none."""
    url = environ.get(_QUEUE)
    if url is None:
        return None

    def send(message: Mapping[str, Any]) -> None:
        # Imported by the one run in hundreds that needs it, which also makes its client.
        from elasticpypi.queue import send_message

        send_message(connect_aws(opened.settings), url, message)

    return send


def open_site_keeper(opened: Opened, send: Send | None) -> SiteKeeper | None:
    """Return what keeps the static files current; None, and nothing imported, where the settings name no place."""
    if opened.settings.output_bucket is None:
        return None
    from elasticpypi.handler.keeping import SiteKeeper
    from elasticpypi.static_site.opening import open_site

    return SiteKeeper(open_site(opened.settings, opened.index), opened.index, opened.lines, send=send)
