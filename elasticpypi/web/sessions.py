"""Sessions of browsers: a cookie, signed by us and kept by nobody else, that says who has signed in.

It ends after a week, when its password or token does, and with the secret in the ledger that signs it. Requests that
change something need more than the cookie, which a browser also sends along with what other sites make it ask: the
CSRF token, which only our own pages know.

Specification: HTTP state management (RFC 6265).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from werkzeug.http import dump_cookie, parse_cookie

from elasticpypi.auth import Authenticator, Principal

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

    def __init__(self, authenticator: Authenticator, secret: Callable[[], bytes], *, url: str | None = None) -> None:
        """`secret` returns what all processes of an index sign with; `url` is where browsers find it, if configured."""
        self._authenticator = authenticator
        self._read_secret = secret
        self._url = url
        self._known: tuple[bytes, float] | None = None
        self._reading = threading.Lock()

    def begin(self, principal: Principal, environ: WSGIEnvironment) -> str:
        """Return the value of the Set-Cookie header that begins a session of somebody who has just proven who it is."""
        key = self._key()
        document = {"nonce": secrets.token_urlsafe(16)}
        if principal.token is not None:
            document["token"] = principal.token.id
        else:
            document |= {"user": principal.name, "of": self._authenticator.fingerprint(principal.name, key) or ""}
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
        document = _load(key, text)
        principal = None if document is None else self._identify(document, key)
        if document is None or principal is None:
            return None
        csrf = hmac.digest(key, b"csrf\0" + document["nonce"].encode(), hashlib.sha256).hex()
        return Session(principal, csrf)

    def _identify(self, document: dict[str, str], key: bytes) -> Principal | None:
        if "token" in document:
            return self._authenticator.find_token(document["token"])
        username = document["user"]
        known = self._authenticator.fingerprint(username, key)
        if known is None or not hmac.compare_digest(known, document["of"]):
            return None
        user = self._authenticator.find_user(username)
        return None if user is None else replace(user, credential="session")

    def _key(self) -> bytes:
        with self._reading:
            if self._known is None or time.monotonic() > self._known[1]:
                self._known = self._read_secret(), time.monotonic() + _SECRET_SECONDS
            return self._known[0]

    def _dump(self, environ: WSGIEnvironment, value: str, seconds: int) -> str:
        return dump_cookie(
            COOKIE,
            value,
            max_age=seconds,
            path=f"{environ.get('SCRIPT_NAME', '').rstrip('/')}/",
            secure=is_secure(environ, self._url),
            httponly=True,
            samesite="Lax",  # Strict would ask whoever follows a link to sign in anew
        )


def is_secure(environ: WSGIEnvironment, url: str | None) -> bool:
    """Whether browsers come by TLS, as far as can be known: cookies that say "Secure" never go another way.

    A client that claims it of itself harms nobody else.
    """
    said = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0].strip()
    return "https" in (environ["wsgi.url_scheme"], said, (url or "").partition(":")[0])


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
