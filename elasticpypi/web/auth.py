"""Who may come in, as WSGI middleware around the whole application: nothing inside can forget it.

Programs send a password or a token by basic authentication (RFC 7617), browsers the cookie of a session. Who has
neither is told so: a browser by way of the form where people sign in, everybody else by a 401.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

from werkzeug.wrappers import Response

from elasticpypi.auth import Authenticator, Principal
from elasticpypi.errors import TooManyAttemptsError, UnavailableError
from elasticpypi.presenting import INDEX_ASSETS
from elasticpypi.web.errors import answer_error, refusal
from elasticpypi.web.mount import up_to_mount
from elasticpypi.web.sessions import COOKIE, Sessions

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PRINCIPAL = "elasticpypi.principal"  # where the environ says who asks
SESSION = "elasticpypi.session"  # where it says by which session, if by one
FAILED = "elasticpypi.failed"  # where it says that credentials were wrong: the username, "" if that may not be told
OPEN_PATHS = frozenset(
    {"/health", "/login", "/_/oidc/audience", "/_/oidc/mint-token", *(f"/assets/{name}" for name in INDEX_ASSETS)}
)
_CHALLENGE = 'Basic realm="elasticpypi", charset="UTF-8"'
_REFUSAL = "This index needs a username and a password; give them in the URL, or in a netrc file."
_WRONG = "The username or the password is wrong, or the token has been revoked or has expired."
_ENDED = "You are not signed in any more: sign in again."


class BasicAuth:
    """Lets those requests through that bear good credentials, and those for the few open paths."""

    def __init__(self, app: WSGIApplication, authenticator: Authenticator, sessions: Sessions | None = None) -> None:
        """Without `sessions` there are none, and a browser is told what everybody else is."""
        self._app = app
        self._authenticator = authenticator
        self._sessions = sessions

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            principal = self._identify(environ)
        except (UnavailableError, TooManyAttemptsError) as error:  # outside of Flask, where nobody else answers it
            if isinstance(error, TooManyAttemptsError):
                environ[FAILED] = self._authenticator.tellable_username(environ["HTTP_AUTHORIZATION"])
            return answer_error(error, environ["PATH_INFO"])(environ, start_response)
        if principal is None and environ.get("PATH_INFO") not in OPEN_PATHS:
            return self._refuse(environ)(environ, start_response)
        environ[PRINCIPAL] = principal
        return self._app(environ, start_response)

    def _identify(self, environ: WSGIEnvironment) -> Principal | None:
        authorization = environ.get("HTTP_AUTHORIZATION")
        if authorization is not None:
            return self._authenticator.authenticate(authorization, environ.get("REMOTE_ADDR", ""))
        if self._sessions is None or COOKIE not in environ.get("HTTP_COOKIE", ""):
            return None
        session = self._sessions.find(environ)
        environ[SESSION] = session
        return None if session is None else session.principal

    def _refuse(self, environ: WSGIEnvironment) -> Response:
        path = environ["PATH_INFO"]
        if "HTTP_AUTHORIZATION" in environ:
            environ[FAILED] = self._authenticator.tellable_username(environ["HTTP_AUTHORIZATION"])
            return _challenge(refusal(path, 401, _WRONG, code="unauthorized"))
        if self._sessions is not None and is_browser(environ):
            return _to_sign_in(environ)
        if _is_script_of_a_page(environ):  # a challenge would open a window of the browser's own
            return refusal(path, 401, _ENDED, code="unauthorized")
        return _challenge(refusal(path, 401, _REFUSAL, code="unauthorized"))


def is_browser(environ: WSGIEnvironment) -> bool:
    """Whether a person asks for a page: browsers alone say that they take XHTML, or that they go to a page."""
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        return False
    return "application/xhtml+xml" in environ.get("HTTP_ACCEPT", "") or environ.get("HTTP_SEC_FETCH_MODE") == "navigate"


def _is_script_of_a_page(environ: WSGIEnvironment) -> bool:
    return "HTTP_X_CSRF_TOKEN" in environ or "HTTP_SEC_FETCH_SITE" in environ or SESSION in environ


def _challenge(response: Response) -> Response:
    response.headers["WWW-Authenticate"] = _CHALLENGE
    return response


def _to_sign_in(environ: WSGIEnvironment) -> Response:
    """Send a browser to the form, and from there back; by a relative URL, which holds under any prefix."""
    query = environ.get("QUERY_STRING", "")
    path = environ["PATH_INFO"].encode("latin-1").decode(errors="replace")
    back = quote(path.removeprefix("/"), safe="/") + (f"?{query}" if query else "")
    where = up_to_mount(environ) + "login" + (f"?next={quote(back, safe='/')}" if back else "")
    return Response(status=302, headers={"Location": where, "Cache-Control": "no-store", "Vary": "Accept, Cookie"})
