"""ID tokens: what a CI system says of a job, signed by its issuer, and verified with the keys that this publishes.

Specifications: OpenID Connect Core 1.0 (section 3.1.3.7) and Discovery 1.0 (sections 3 and 4), JSON Web Token
(RFC 7519), Key (RFC 7517), and how not to use them (RFC 8725).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from elasticpypi.errors import IdTokenError, UnavailableError

if TYPE_CHECKING:
    from jwt import PyJWK
    from urllib3 import PoolManager

LEEWAY_SECONDS = 60  # by which the clocks of an issuer and of ours may differ
_LONGEST_TOKEN = 16 * 1024  # characters; those of GitHub and GitLab have some 2,000
_LONGEST_LIFE_SECONDS = 32 * 24 * 3600  # GitLab's live as long as their job may, which is at most a month
# What has an issuer's private key behind it: with "none" and the HMACs anybody could sign (RFC 8725, section 2.1).
_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_REQUIRED = ["iss", "aud", "exp", "iat"]
_MOST_BYTES = 256 * 1024  # of an issuer's document
_FETCH_SECONDS = 5.0  # without a byte, and for a document in all
_MOST_KEYS = 100
_KEYS_LIVE_SECONDS = 3600.0
_NEW_KEY_SECONDS = 60.0  # between looks for a key that is not among those we have
_FAILURE_SECONDS = 10.0  # for which an issuer that fails is not asked again
_PATIENCE_SECONDS = 15.0  # until somebody else has fetched the keys
_MOST_WAITING = 8  # for that; the others are told at once, lest a slow issuer hold every thread of the server


@dataclass(frozen=True, slots=True)
class IdToken:
    """A token that was verified: signed by its issuer, meant for us, and valid now."""

    issuer: str
    claims: Mapping[str, Any]
    once: str  # 64 hexadecimal digits, the same for whoever shows this token again
    expires: int  # seconds since 1970; from `LEEWAY_SECONDS` later on it is refused


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of an issuer, as we know them; times by the clock of `Verifier`."""

    by_id: Mapping[str, PyJWK] = field(default_factory=dict)
    fetched: float = -math.inf
    asked: float = -math.inf  # when we last tried to fetch them
    failure: str | None = None  # what that has come to

    def are_fresh(self, now: float) -> bool:
        return now - self.fetched < _KEYS_LIVE_SECONDS

    def are_due(self, kid: str, now: float) -> bool:
        """Whether the issuer has to be asked, and may be: strangers name as many keys as they like."""
        if not self.are_fresh(now):
            return now - self.asked >= _FAILURE_SECONDS
        return kid not in self.by_id and now - self.asked >= _NEW_KEY_SECONDS

    def find(self, kid: str, now: float) -> PyJWK:
        """Return a key; raise UnavailableError where the issuer has not told us, IdTokenError where it has none."""
        found = self.by_id.get(kid) if self.are_fresh(now) else None
        if found is not None:
            return found
        if self.failure is not None:
            raise UnavailableError(self.failure)
        raise IdTokenError("its issuer has no such key as it is signed with")


class _Issuer:
    """An issuer whose keys are fetched when they are needed, once by all who need them; thread-safe."""

    def __init__(self, url: str, fetch: Callable[[str], Mapping[str, PyJWK]], clock: Callable[[], float]) -> None:
        self._url = url
        self._fetch = fetch
        self._clock = clock
        self._keys = _Keys()
        self._fetching = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)

    def key(self, kid: str) -> PyJWK:
        if self._keys.are_due(kid, self._clock()):
            if not self._waiting.acquire(blocking=False):
                raise UnavailableError(f"too many wait for the keys of {self._url} just now; try again in a moment")
            try:
                self._fetch_once(kid)
            finally:
                self._waiting.release()
        return self._keys.find(kid, self._clock())

    def _fetch_once(self, kid: str) -> None:
        if not self._fetching.acquire(timeout=_PATIENCE_SECONDS):
            raise UnavailableError(f"the keys of {self._url} take long to come; try again in a moment")
        try:
            if self._keys.are_due(kid, self._clock()):  # else somebody has fetched them while we waited
                self._keys = self._ask()
        finally:
            self._fetching.release()

    def _ask(self) -> _Keys:
        before, now = self._keys, self._clock()
        try:
            return _Keys(self._fetch(self._url), now, now)
        except UnavailableError as error:  # remembered, and told to everybody who asks meanwhile
            return _Keys(before.by_id, before.fetched, now, str(error))


class Verifier:
    """Verifies ID tokens; thread-safe. Issuers are asked for their keys once an hour, and no other ones are asked."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, fetch_seconds: float = _FETCH_SECONDS) -> None:
        """`clock` tells the seconds by which keys grow old; the times within a token are held against the real one.

        An issuer has `fetch_seconds` for each of its documents.
        """
        self._clock = clock
        self._issuers: dict[str, _Issuer] = {}
        self._adding = threading.Lock()
        self._documents = _Documents(fetch_seconds)

    def verify(self, token: str, *, issuers: Collection[str], audience: str) -> IdToken:
        """Return what a token says that one of these issuers made for this audience alone.

        Raise IdTokenError where it is anything else, UnavailableError where its issuer does not tell its keys.
        """
        import jwt

        issuer, kid = _read_unverified(token, issuers)
        key = self._issuer(issuer).key(kid)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],  # and not what the token names (RFC 8725, section 3.1)
                audience=audience,
                issuer=issuer,
                leeway=LEEWAY_SECONDS,
                # A token for several audiences could be shown to us by another one of them.
                options={"require": _REQUIRED, "strict_aud": True, "enforce_minimum_key_length": True},
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise IdTokenError(_reason(error, audience)) from error
        expires = int(claims["exp"])
        if expires > time.time() + _LONGEST_LIFE_SECONDS:
            raise IdTokenError("it lives longer than any job does")
        return IdToken(issuer, claims, _name_once(token, issuer, claims), expires)

    def _issuer(self, url: str) -> _Issuer:
        with self._adding:
            if url not in self._issuers:
                self._issuers[url] = _Issuer(url, self._documents.keys, self._clock)
            return self._issuers[url]


def check_issuer(url: str) -> None:
    """Raise ValueError, with the rest of a sentence about it, for what cannot be an issuer that we ask.

    https, without a query and a fragment (OpenID Connect Discovery, section 3); http to a loopback address alone.
    """
    if not _may_be_asked(url):
        raise ValueError("is not an https URL (http only with a loopback address), without credentials, '?' and '#'")


def _read_unverified(token: str, issuers: Collection[str]) -> tuple[str, str]:
    """Return the issuer, one of those that are known, and the id of the key that a token says it comes from."""
    import jwt

    if not token.isascii() or len(token) > _LONGEST_TOKEN:
        raise IdTokenError(f"it is not a JSON Web Token of at most {_LONGEST_TOKEN} characters")
    try:
        header = jwt.get_unverified_header(token)
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise IdTokenError("it is not a JSON Web Token") from error
    if not isinstance(issuer, str) or issuer not in issuers:
        raise IdTokenError("it comes from an issuer that no publisher of this index names")
    if header.get("alg") not in _ALGORITHMS or not isinstance(header.get("kid"), str):
        raise IdTokenError("it is not signed with a public key that it names")
    return issuer, header["kid"]


def _reason(error: Exception, audience: str) -> str:
    """Return our own words for what is wrong: those of the library may quote the token."""
    match type(error).__name__:
        case "ExpiredSignatureError":
            return "it has expired"
        case "ImmatureSignatureError":
            return "it is not valid yet"
        case "InvalidAudienceError":
            return f"it is not meant for this index, whose audience is {audience}"
        case "InvalidSignatureError":
            return "its signature is not its issuer's"
        case "MissingRequiredClaimError":
            return f"it does not have all of {', '.join(_REQUIRED)}"
        case _:
            return "it is not as its issuer makes them"


def _name_once(token: str, issuer: str, claims: Mapping[str, Any]) -> str:
    # Without a name of its own it is what was signed: of one signature there are several spellings.
    name = claims.get("jti") or token.rpartition(".")[0]
    return hashlib.sha256(json.dumps([issuer, name]).encode()).hexdigest()


# What issuers publish ------------------------------------------------------------------------------------------------


class _Documents:
    """Reads the documents of issuers: no redirects, no more than a certain size and time, nothing but JSON objects."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pool: PoolManager | None = None

    def keys(self, issuer: str) -> Mapping[str, PyJWK]:
        """Return an issuer's usable keys, by their ids; raise UnavailableError where it has none or does not say."""
        document = self._read(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        url = document.get("jwks_uri")
        if document.get("issuer") != issuer:
            raise UnavailableError(f"{issuer} tells no keys: it calls itself something else")
        if not isinstance(url, str) or not _may_be_asked(url, http=issuer.startswith("http:")):
            raise UnavailableError(f"{issuer} tells no keys: the 'jwks_uri' it names is not an https URL")
        found = _read_keys(self._read(url).get("keys"))
        if not found:
            raise UnavailableError(f"{issuer} publishes no keys that can be used")
        return found

    def _read(self, url: str) -> dict[str, Any]:
        try:
            document = json.loads(self._fetch(url))
        except (ValueError, RecursionError) as error:
            raise UnavailableError(f"{url} cannot be used: it is not JSON") from error
        if not isinstance(document, dict):
            raise UnavailableError(f"{url} cannot be used: it is not a JSON object")
        return document

    def _fetch(self, url: str) -> bytes:
        import urllib3

        if self._pool is None:
            self._pool = urllib3.PoolManager(num_pools=4, maxsize=1, retries=False, timeout=self._seconds)
        until = time.monotonic() + self._seconds
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "elasticpypi"}
        try:
            answer = self._pool.request("GET", url, redirect=False, preload_content=False, headers=headers)
            try:
                if answer.status != 200:
                    raise UnavailableError(f"{url} was answered with the status {answer.status}")
                data = bytearray()
                while chunk := answer.read1(_MOST_BYTES, decode_content=False):
                    data += chunk
                    if len(data) > _MOST_BYTES or time.monotonic() > until:
                        raise UnavailableError(f"{url} is too large or too slow to be read")
                answer.release_conn()
            finally:
                answer.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(f"{url} cannot be read ({type(error).__name__})") from error
        return bytes(data)


def _read_keys(entries: object) -> dict[str, PyJWK]:
    """Return the keys of a set (RFC 7517, section 5) by their ids; what we cannot use is as if it were not there."""
    import jwt

    found: dict[str, PyJWK] = {}
    for entry in entries[:_MOST_KEYS] if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or entry.get("use", "sig") != "sig":
            continue
        if entry.get("alg") is not None and entry["alg"] not in _ALGORITHMS:
            continue
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, TypeError, ValueError):
            continue  # of a kind that is yet to come (section 5: such keys should be ignored)
        if key.algorithm_name in _ALGORITHMS:
            found[entry["kid"]] = key
    return found


def _may_be_asked(url: str, *, http: bool = True) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not url.isascii() or any(character <= " " for character in url) or not host:
        return False
    if parts.username is not None or parts.password is not None or "?" in url or "#" in url:
        return False
    return parts.scheme == "https" or (http and parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name, of which somebody else tells where it leads
