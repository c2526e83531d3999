"""API Gateway's events, answered by the application: REST APIs send payload format 1.0, HTTP APIs 2.0."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import serverless_wsgi  # type: ignore[import-untyped]

from elasticpypi.auth import Authenticator
from elasticpypi.config import Settings
from elasticpypi.errors import InvalidRequestError
from elasticpypi.handler.logs import FailedSignIn, Lines
from elasticpypi.index import Index
from elasticpypi.web.app import create_app
from elasticpypi.web.carried import TEXT_TYPES
from elasticpypi.web.observe import Exchange, Observer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# "Lambda quotas": 6 MB for the whole answer. Our headers have less than two kilobytes; a signed URL is the longest.
LARGEST_ANSWER = 6 * 2**20 - 16 * 1024
COUNTED_DOWNLOAD_ONE_IN = 10  # and the answer to that one waits for a write
_BROKEN = "something went wrong; the log of the index says what\n"
_log = logging.getLogger(__name__)

# What is not among them goes as base64, which is a third longer. Both sides must mean the same by it.
serverless_wsgi.TEXT_MIME_TYPES[:] = TEXT_TYPES


class GatewayHandler:
    """Answers the events of one API."""

    def __init__(
        self,
        index: Index,
        settings: Settings,
        *,
        lines: Lines,
        finish_later: Callable[[Mapping[str, Any]], None] | None = None,
        keep_later: Callable[[Mapping[str, Any]], None] | None = None,
        largest_answer: int = LARGEST_ANSWER,
        at_once: bool = True,
    ) -> None:
        """`finish_later`, `keep_later`, `largest_answer` and `at_once` are as for `create_app`."""
        app = create_app(
            index,
            Authenticator(settings.all_users, tokens=index.tokens),
            url=settings.url,
            title=settings.title,
            finish_later=finish_later,
            keep_later=keep_later,
            largest_answer=largest_answer,
            at_once=at_once,
        )
        index.downloads.sample(COUNTED_DOWNLOAD_ONE_IN)
        self._downloads = index.downloads
        self._app = _find_mount(app, "" if settings.url is None else urlsplit(settings.url).path.rstrip("/"))
        self._lines = lines

    def __call__(self, event: Mapping[str, Any], context: object) -> dict[str, Any]:
        """Answer one request, and write a line about it; InvalidRequestError for what is no request."""
        _check_is_request(event)
        observer = Observer(partial(self._write, getattr(context, "aws_request_id", None)))
        try:
            answer: dict[str, Any] = serverless_wsgi.handle_request(observer.wrap(self._app), event, context)
        except Exception:  # noqa: BLE001  # whatever it is: a gateway would make a 502 of it that says nothing
            _log.exception("a request could not be answered")
            return _broken()
        else:
            return answer
        finally:
            observer.flush()  # between two requests nothing runs here
            self._downloads.flush()

    def _write(self, request_id: str | None, exchanges: Sequence[Exchange]) -> None:
        for exchange in exchanges:
            self._lines.write_request(
                method=exchange.method,
                path=exchange.path,
                status=int(exchange.status),
                size=exchange.size,
                seconds=exchange.seconds,
                principal=None if exchange.principal is None else exchange.principal.name,
                request_id=request_id,
                failed=None if exchange.failed is None else FailedSignIn(exchange.address, exchange.failed),
            )


def _check_is_request(event: Mapping[str, Any]) -> None:
    context = event.get("requestContext")
    if isinstance(context, Mapping) and "elb" not in context:
        if event.get("version") == "2.0" and "rawPath" in event and "http" in context:
            return
        if event.get("version", "1.0") == "1.0" and "httpMethod" in event and "path" in event:
            return
    raise InvalidRequestError(
        "this function answers requests that come through API Gateway (proxy integration, payload format 1.0 or 2.0), "
        "and this event is none: call the API's URL instead"
    )


def _broken() -> dict[str, Any]:
    headers = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
    return {"statusCode": 500, "headers": headers, "body": _BROKEN, "isBase64Encoded": False}


def _find_mount(app: WSGIApplication, prefix: str) -> WSGIApplication:
    """Tell the application which part of a path is its mount point: the stage, or what a custom domain maps here.

    serverless-wsgi goes by the name of the host, and would have a stage called `$default` in every URL. `prefix` is the
    path of the URL that was configured, without its slash.
    """

    def mounted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        event, path = environ["serverless.event"], environ["PATH_INFO"]
        mount = _stage_in_front(event)
        if event.get("version") == "2.0" and mount:  # which here is a part of the path, too
            path = path.removeprefix(mount)
        if not mount and f"{path}/".startswith(f"{prefix}/"):
            mount, path = prefix, path.removeprefix(prefix)
        if path == "/" and not _whole_path(event).endswith("/"):
            path = ""
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = mount, path
        return app(environ, start_response)

    return mounted


def _stage_in_front(event: Mapping[str, Any]) -> str:
    """Return the part of the URL's path that API Gateway has put before ours: "/dev", or nothing."""
    whole = _whole_path(event).rstrip("/")
    if event.get("version") == "2.0":
        stage = f"/{event['requestContext'].get('stage')}"
        return stage if f"{whole}/".startswith(f"{stage}/") else ""
    ours = event["path"].rstrip("/")
    return whole.removesuffix(ours) if whole.endswith(ours) else ""


def _whole_path(event: Mapping[str, Any]) -> str:
    """Return the URL's path as the client has sent it."""
    path: str = (
        event["rawPath"] if event.get("version") == "2.0" else event["requestContext"].get("path", event["path"])
    )
    return path
