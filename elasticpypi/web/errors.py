"""Which status an error has, and how much of it a client is told."""

from __future__ import annotations

import logging

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from elasticpypi.errors import (
    AlreadyExistsError,
    CatalogError,
    ElasticpypiError,
    ForbiddenError,
    InvalidFilenameError,
    InvalidNameError,
    InvalidUploadError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UnavailableError,
)

RETRY_AFTER_SECONDS = 5
_STATUS: dict[type[ElasticpypiError], int] = {
    InvalidUploadError: 400,
    InvalidFilenameError: 400,
    ForbiddenError: 403,
    NotFoundError: 404,
    InvalidNameError: 404,
    AlreadyExistsError: 409,
    StorageFullError: 507,
    UnavailableError: 503,
}
# Their sentences name paths and the like, for whoever runs the index.
_ABOUT_THIS_MACHINE = (CatalogError, StorageError)
_NOT_TOLD = {
    500: "something went wrong; the log of the index says what",
    503: "the index cannot do its work now; its log says why",
    507: "the storage of the index is full; tell whoever runs it",
}
_log = logging.getLogger(__name__)


def answer_errors(app: Flask) -> None:
    """Make an application answer our errors, and Werkzeug's, as one sentence of plain text."""
    app.register_error_handler(ElasticpypiError, answer_error)
    app.register_error_handler(HTTPException, _answer_http)


def answer_error(error: ElasticpypiError) -> Response:
    """Return the answer that an error deserves; what it says of this machine stays in the log."""
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    if status >= 500:
        _log.error("%s", error)
    response = sentence(status, str(error) if _may_be_told(error) else _NOT_TOLD[status])
    if isinstance(error, UnavailableError):
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _may_be_told(error: ElasticpypiError) -> bool:
    return isinstance(error, tuple(_STATUS)) and not isinstance(error, _ABOUT_THIS_MACHINE)


def _answer_http(error: HTTPException) -> Response:
    response = sentence(error.code or 500, error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def sentence(status: int, text: str) -> Response:
    """Return one sentence of plain text, which stands in the HTTP reason too (twine shows nothing else)."""
    response = Response(text + "\n", status, mimetype="text/plain")
    if status >= 400:
        response.status = f"{status} {' '.join(text.split()).encode('ascii', 'replace').decode()}"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response
