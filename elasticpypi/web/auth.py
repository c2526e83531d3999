"""Basic authentication (RFC 7617) around the whole application, as WSGI middleware: nothing inside can forget it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from elasticpypi.auth import Authenticator
from elasticpypi.errors import UnavailableError
from elasticpypi.web.errors import answer_error, refusal

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PRINCIPAL = "elasticpypi.principal"  # where the environ says who asks
_OPEN_PATHS = frozenset({"/health"})
_CHALLENGE = 'Basic realm="elasticpypi", charset="UTF-8"'
_REFUSAL = "This index needs a username and a password; give them in the URL, or in a netrc file."
_WRONG = "The username or the password is wrong."


class BasicAuth:
    """Lets those requests through that bear good credentials, and those for the few open paths."""

    def __init__(self, app: WSGIApplication, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            principal = self._authenticator.authenticate(environ.get("HTTP_AUTHORIZATION"))
        except UnavailableError as error:  # outside of Flask, where nobody else would answer it
            return answer_error(error, environ["PATH_INFO"])(environ, start_response)
        if principal is None and environ.get("PATH_INFO") not in _OPEN_PATHS:
            text = _REFUSAL if "HTTP_AUTHORIZATION" not in environ else _WRONG
            response = refusal(environ["PATH_INFO"], 401, text, code="unauthorized")
            response.headers["WWW-Authenticate"] = _CHALLENGE
            return response(environ, start_response)
        environ[PRINCIPAL] = principal
        return self._app(environ, start_response)
