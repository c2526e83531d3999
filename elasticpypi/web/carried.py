"""What of an answer comes through where the application runs behind a gateway that carries only so much.

API Gateway takes an answer from Lambda as one JSON document of at most 6 MB, in which text stands escaped and
everything else as base64 (AWS Lambda developer guide, "Lambda quotas"). What is larger never reaches the client, who is
told "502 Bad Gateway" and nothing else.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import Headers
from werkzeug.http import parse_accept_header
from werkzeug.wrappers import Response

from elasticpypi.web.errors import refusal

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# What is handed over as text, besides text/*, unless it is compressed. All of it is UTF-8.
TEXT_TYPES = (
    "application/json",
    "application/vnd.pypi.simple.v1+html",
    "application/vnd.pypi.simple.v1+json",
)
_LONGEST_HEADER = 1000  # characters; what is parsed once is remembered
_MOST_ESCAPED = 6  # bytes that one of text may need in JSON: \u001f


def carried_bytes(body: bytes, *, is_text: bool) -> int:
    """Return how many bytes a body has inside of a JSON document: escaped as ASCII if it is text, else as base64."""
    return len(json.dumps(body.decode())) if is_text else (len(body) + 2) // 3 * 4


def is_carried(body: bytes, most_bytes: int | None, *, is_text: bool) -> bool:
    """Whether a body has at most so many bytes there; None: there is no bound."""
    if most_bytes is None or len(body) * _MOST_ESCAPED <= most_bytes:
        return True
    return carried_bytes(body, is_text=is_text) <= most_bytes


def most_binary_bytes(most_bytes: int) -> int:
    """Return how many bytes a body may have that goes as base64."""
    return most_bytes // 4 * 3


class CarriedAnswers:
    """Gives out answers that can be carried: what is too large is compressed, or refused in words."""

    def __init__(self, app: WSGIApplication, most_bytes: int) -> None:
        self._app = app
        self._most_bytes = most_bytes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = _run(self._app, environ)
        if not self._is_carried(body, headers) and _is_text(headers) and accepts_gzip(environ):
            body = gzip.compress(body, mtime=0)
            _describe_compressed(headers, len(body))
        if not self._is_carried(body, headers):
            return _refuse(environ["PATH_INFO"], len(body))(environ, start_response)
        start_response(status, _one_of_each(headers))
        return [body]

    def _is_carried(self, body: bytes, headers: Headers) -> bool:
        return is_carried(body, self._most_bytes, is_text=_is_text(headers))


def _run(app: WSGIApplication, environ: WSGIEnvironment) -> tuple[str, Headers, bytes]:
    """Return the whole answer. Werkzeug's own way to do this hides what the application notes in the environ."""
    begun: list[tuple[str, Headers]] = []
    pieces: list[bytes] = []

    def begin(status: str, headers: list[tuple[str, str]], _: OptExcInfo | None = None) -> Callable[[bytes], object]:
        begun.append((status, Headers(headers)))
        return pieces.append

    answer = app(environ, begin)
    try:
        pieces.extend(answer)
    finally:
        if hasattr(answer, "close"):
            answer.close()
    return *begun[-1], b"".join(pieces)


def accepts_gzip(environ: Mapping[str, Any]) -> bool:
    """Whether a client takes answers that are compressed."""
    return _accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", "")[:_LONGEST_HEADER])


@lru_cache(maxsize=256)
def _accepts_gzip(accept_encoding: str) -> bool:
    return parse_accept_header(accept_encoding).quality("gzip") > 0


def _is_text(headers: Headers) -> bool:
    media_type = headers.get("Content-Type", "text/plain").partition(";")[0].strip().lower()
    return (media_type.startswith("text/") or media_type in TEXT_TYPES) and not headers.get("Content-Encoding")


def _describe_compressed(headers: Headers, size: int) -> None:
    headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(size)
    headers.add("Vary", "Accept-Encoding")
    tag = headers.get("ETag")
    if tag is not None and not tag.startswith("W/"):
        headers["ETag"] = f"W/{tag}"  # it named the bytes before they were compressed


def _one_of_each(headers: Headers) -> list[tuple[str, str]]:
    """Join what comes several times (RFC 9110, 5.3): payload format 2.0 has room for one of each name."""
    joined: dict[str, tuple[str, str]] = {}
    for name, value in headers:
        known = joined.get(name.lower())
        joined[name.lower()] = (name, value) if known is None else (known[0], f"{known[1]}, {value}")
    return list(joined.values())


def _refuse(path: str, size: int) -> Response:
    text = (
        f"The answer has {size} bytes, more than API Gateway and Lambda carry: ask with 'Accept-Encoding: gzip', "
        "or run `elasticpypi serve` with the same configuration and ask that."
    )
    return refusal(path, 501, text, code="answer-too-large")  # none of those that clients repeat
