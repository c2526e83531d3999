"""The present request, as routes ask about it: who sends it, and what its body says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, jsonify, request
from werkzeug.exceptions import HTTPException

from elasticpypi.auth import Principal
from elasticpypi.config import Permission
from elasticpypi.errors import InvalidRequestError
from elasticpypi.names import NormalizedName, normalize_name
from elasticpypi.web.auth import PRINCIPAL, SESSION
from elasticpypi.web.sessions import Session

_JSON_BYTES = 64 * 1024


def current_principal() -> Principal:
    """Return who sends the present request, which is not for an open path."""
    principal: Principal = request.environ[PRINCIPAL]
    return principal


def permitted_project(name: str, permission: Permission) -> NormalizedName:
    """Return the normalised name of a project for which who sends the present request has the permission.

    Raise InvalidNameError, ForbiddenError.
    """
    normalized = normalize_name(name)
    current_principal().require(permission, normalized)
    return normalized


def current_session() -> Session | None:
    """Return the session by which the present request comes; None where a program sends its credentials."""
    session: Session | None = request.environ.get(SESSION)
    return session


def csrf_token() -> str:
    """Return what forms of the present page have to send along; "" where there is no session that could be misused."""
    session = current_session()
    return "" if session is None else session.csrf


def read_number(name: str, default: int, *, most: int) -> int:
    """Return a number from 1 on in the query of the present request; InvalidRequestError where it is none."""
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise InvalidRequestError(f"{name!r} is {text[:20]!r}, not a number from 1 to {most}")
    return int(text)


def answer_json(document: Mapping[str, Any], status: int = 200) -> Response:
    """Return a document for programs, which nobody keeps: it is of now, and for who has asked."""
    response = jsonify(document)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response


def read_json_object() -> dict[str, Any]:
    """Return the body of the present request, a JSON object; an empty one where there is no body."""
    request.max_content_length = _JSON_BYTES
    try:
        document = request.get_json() if request.get_data() else {}
    except (HTTPException, RecursionError) as error:
        raise InvalidRequestError(
            f"the body is not a JSON object of at most {_JSON_BYTES} bytes, sent as application/json"
        ) from error
    if not isinstance(document, dict):
        raise InvalidRequestError("the body is not a JSON object")
    return document
