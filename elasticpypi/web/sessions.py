"""Sessions of browsers: a cookie, signed by us and kept by nobody else, that says who has signed in.

It ends after a week, with the token it was begun with, when any password of the configuration changes, and with the
secret in the ledger that signs it. Requests that change something need more than the cookie, which a browser also sends
along with what other sites make it ask: the CSRF token, which only our own pages know.

Specification: HTTP state management (RFC 6265).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from werkzeug.http import dump_cookie, parse_cookie

from elasticpypi.auth import Authenticator, Principal
from elasticpypi.index import Index
from elasticpypi.web.mount import is_secure

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from itsdangerous import URLSafeTimedSerializer

COOKIE = "elasticpypi"
SESSION_SECONDS = 7 * 86_400
_SECRET_SECONDS = 60.0  # for which the secret is remembered: who makes a new ledger ends all sessions
_LONGEST_COOKIE = 4096  # characters; about what browsers keep


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who has signed in with a browser."""

    principal: Principal
    csrf: str  # what a request that changes something has to bring along


class Sessions:
    """Begins sessions, and finds them again; thread-safe."""

    def __init__(self, authenticator: Authenticator, index: Index, *, url: str | None = None) -> None:
        """`url` is where browsers find the index, if that is configured."""
        self._authenticator = authenticator
        self._index = index
        self._url = url
        self._known: tuple[bytes, float] | None = None
        self._reading = threading.Lock()

    def begin(self, principal: Principal, environ: WSGIEnvironment) -> str:
        """Return the value of the Set-Cookie header that begins a session of somebody who has just proven who it is."""
        key = self._authenticator.session_key(self._index.session_secret())
        who = {"user": principal.name} if principal.token is None else {"token": principal.token.id}
        document = {"nonce": secrets.token_urlsafe(16), **who}
        return self._dump(environ, _serializer(key).dumps(document), SESSION_SECONDS)

    def end(self, environ: WSGIEnvironment) -> str:
        """Return the value of the Set-Cookie header that has a browser forget its session."""
        return self._dump(environ, "", 0)

    def find(self, environ: WSGIEnvironment) -> Session | None:
        """Return the session that a request belongs to; None where there is none any more. Raise UnavailableError."""
        text = read_cookie(environ, COOKIE)
        if text is None:
            return None
        key = self._key()
        document = None if key is None else _load(key, text)
        principal = None if document is None else self._identify(document)
        if key is None or document is None or principal is None:
            return None
        csrf = hmac.digest(key, b"csrf\0" + document["nonce"].encode(), hashlib.sha256).hex()
        return Session(principal, csrf)

    def _identify(self, document: dict[str, str]) -> Principal | None:
        if "token" in document:
            return self._authenticator.find_token(document["token"])
        user = self._authenticator.find_user(document["user"])
        return None if user is None else replace(user, credential="session")

    def _key(self) -> bytes | None:
        """Return what signs; None where nobody has signed in yet. A stranger's cookie has nothing made."""
        with self._reading:
            if self._known is None or time.monotonic() > self._known[1]:
                secret = self._index.find_session_secret()
                if secret is None:
                    return None
                self._known = self._authenticator.session_key(secret), time.monotonic() + _SECRET_SECONDS
            return self._known[0]

    def _dump(self, environ: WSGIEnvironment, value: str, seconds: int) -> str:
        return dump_cookie(
            COOKIE,
            value,
            max_age=seconds,
            path=None,  # a browser takes that of the form itself, whatever prefix a proxy has taken away
            secure=is_secure(environ, self._url),
            httponly=True,
            samesite="Lax",  # Strict would ask whoever follows a link to sign in anew
        )


def read_cookie(environ: WSGIEnvironment, name: str) -> str | None:
    """Return the value of a cookie; None where there is none, or a longer one than ours."""
    cookies = environ.get("HTTP_COOKIE", "")
    value = parse_cookie(cookies).get(name) if name in cookies else None
    return value if value and len(value) <= _LONGEST_COOKIE else None


def _serializer(key: bytes) -> URLSafeTimedSerializer:
    from itsdangerous import URLSafeTimedSerializer  # which requests of installers never need

    return URLSafeTimedSerializer(key, salt="session", signer_kwargs={"digest_method": hashlib.sha256})


def _load(key: bytes, text: str) -> dict[str, Any] | None:
    from itsdangerous import BadData

    try:
        document: dict[str, Any] = _serializer(key).loads(text, max_age=SESSION_SECONDS)
    except BadData:
        return None
    return document
