"""Which status an error has, and how much of it a client is told."""

from __future__ import annotations

import json
import logging
import math
import re

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from elasticpypi.errors import (
    AlreadyExistsError,
    CatalogError,
    DecisionsError,
    ElasticpypiError,
    ForbiddenError,
    IdTokenError,
    InvalidFilenameError,
    InvalidNameError,
    InvalidRequestError,
    InvalidUploadError,
    NotFoundError,
    QueueError,
    StorageError,
    StorageFullError,
    TooManyAttemptsError,
    UnavailableError,
)

RETRY_AFTER_SECONDS = 5
_STATUS: dict[type[ElasticpypiError], int] = {
    InvalidRequestError: 400,
    InvalidUploadError: 400,
    InvalidFilenameError: 400,
    ForbiddenError: 403,
    NotFoundError: 404,
    InvalidNameError: 404,
    AlreadyExistsError: 409,
    DecisionsError: 409,
    IdTokenError: 422,
    TooManyAttemptsError: 429,
    StorageFullError: 507,
    UnavailableError: 503,
}
# Their sentences name paths and the like, for whoever runs the index.
_ABOUT_THIS_MACHINE = (CatalogError, QueueError, StorageError)
_NOT_TOLD = {
    500: "something went wrong; the log of the index says what",
    503: "the index cannot do its work now; its log says why",
    507: "the storage of the index is full; tell whoever runs it",
}
_log = logging.getLogger(__name__)


def answer_error(error: ElasticpypiError, path: str) -> Response:
    """Return the answer that an error deserves; what it says of this machine stays in the log."""
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    if status >= 500:
        _log.error("%s", error)
    text = str(error) if _may_be_told(error) else _NOT_TOLD[status]
    response = refusal(path, status, text, code=_code(type(error).__name__))
    if isinstance(error, UnavailableError):
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, TooManyAttemptsError):
        response.headers["Retry-After"] = str(math.ceil(error.wait_seconds))
    return response


def answer_kept_error(name: str, message: str, path: str) -> Response:
    """Return the answer that an error deserves of which its name and its sentence were kept."""
    status = next((status for kind, status in _STATUS.items() if kind.__name__ == name), 500)
    return refusal(path, status, message if status < 500 else _NOT_TOLD[500], code=_code(name))


def _may_be_told(error: ElasticpypiError) -> bool:
    return isinstance(error, tuple(_STATUS)) and not isinstance(error, _ABOUT_THIS_MACHINE)


def _code(name: str) -> str:
    """Return what a program tells errors apart by: AlreadyExistsError is "already-exists"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name.removesuffix("Error")).lower()


def answer_http(error: HTTPException, path: str) -> Response:
    """Return the answer for one of Werkzeug's errors: as for ours a sentence of plain text, below `/api/` JSON."""
    status, text = error.code or 500, error.description or error.name
    response = refusal(path, status, text, code=error.name.lower().replace(" ", "-"))
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def refusal(path: str, status: int, text: str, *, code: str) -> Response:
    """Return what is said instead of what was asked for at a path: to programs as JSON, to all others in a sentence."""
    if not path.startswith("/api/"):
        return sentence(status, text)
    document = json.dumps({"status": status, "error": code, "message": text})
    return _not_to_be_kept(Response(document + "\n", status, mimetype="application/json"))


def sentence(status: int, text: str) -> Response:
    """Return one sentence of plain text, which stands in the HTTP reason too (twine shows nothing else)."""
    response = Response(text + "\n", status, mimetype="text/plain")
    if status >= 400:
        response.status = f"{status} {' '.join(text.split()).encode('ascii', 'replace').decode()}"
    return _not_to_be_kept(response)


def _not_to_be_kept(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
