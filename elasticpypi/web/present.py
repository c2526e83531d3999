"""The present request, as routes ask about it: who sends it, and what its body says."""

from __future__ import annotations

from typing import Any

from flask import request
from werkzeug.exceptions import HTTPException

from elasticpypi.auth import Principal
from elasticpypi.errors import InvalidRequestError
from elasticpypi.web.auth import PRINCIPAL

_JSON_BYTES = 64 * 1024


def current_principal() -> Principal:
    """Return who sends the present request, which is not for an open path."""
    principal: Principal = request.environ[PRINCIPAL]
    return principal


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
