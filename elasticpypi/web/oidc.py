"""`/_/oidc/`: where a CI job gets an upload token for its ID token, at the paths and in the form that PyPI has.

Nobody signs in for it: what is shown proves itself. Clients look for these paths at the root of the host.
"""

from __future__ import annotations

import json

from flask import Blueprint, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from elasticpypi.errors import ElasticpypiError, IdTokenError, NotFoundError
from elasticpypi.index import Index
from elasticpypi.web.errors import answer_error
from elasticpypi.web.present import answer_json

ENDPOINTS = frozenset({"oidc.mint_token"})  # which takes no notice of who is signed in
_BODY_BYTES = 64 * 1024


def trusted_publishing(index: Index) -> Blueprint:
    """Return the two routes."""
    oidc = Blueprint("oidc", __name__, url_prefix="/_/oidc")

    @oidc.get("/audience")
    def audience() -> Response:
        return answer_json({"audience": index.publishers.audience()})

    @oidc.post("/mint-token")
    def mint_token() -> Response:
        return answer_json({"success": True, "token": index.publishers.mint(_read_token())})

    oidc.register_error_handler(ElasticpypiError, _answer_error)
    return oidc


def _read_token() -> str:
    """Return the `token` of the body, whatever its Content-Type: curl calls JSON a form unless it is told."""
    request.max_content_length = _BODY_BYTES
    try:
        document = json.loads(request.get_data(cache=False))
        token = document["token"]
    except (HTTPException, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unreadable() from error
    if not isinstance(token, str):
        raise _unreadable()
    return token


def _unreadable() -> IdTokenError:
    expected = f'the body is not {{"token": "…"}} in at most {_BODY_BYTES} bytes'
    return IdTokenError(expected, code="invalid-payload")


def _answer_error(error: ElasticpypiError) -> Response:
    """Return an error in PyPI's form, of which clients print `errors`; the sentence is the HTTP reason as well."""
    response = answer_error(error, request.path)
    text = response.get_data(as_text=True).strip()
    document = {"message": text, "errors": [{"code": _code(error), "description": text}]}
    response.set_data(json.dumps(document) + "\n")
    response.mimetype = "application/json"
    return response


def _code(error: ElasticpypiError) -> str:
    match error:
        case IdTokenError(code=code):
            return code
        case NotFoundError():
            return "not-enabled"
        case _:
            return "unavailable"
