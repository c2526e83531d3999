"""Who is asking, and what they may do: credentials to principal.

A password belongs to a user of the configuration. A token, which clients send as the password of `__token__`, belongs
to the index or to a user, and then never allows more than that user may do now.

Specifications: basic authentication (RFC 7617); project names (PEP 503).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TypeVar

from werkzeug.security import check_password_hash, generate_password_hash

from elasticpypi.attempts import Attempts, network_of
from elasticpypi.config import TOKEN_USERNAME, Permission, User
from elasticpypi.errors import ConfigError, ForbiddenError, NotFoundError, UnavailableError
from elasticpypi.model import Actor
from elasticpypi.names import NormalizedName
from elasticpypi.passwords import is_hash
from elasticpypi.tokens import Token, Tokens, is_token

TOKEN_SECONDS = 10.0  # for which an answer about a token holds, in each process
_TOLD_PATTERNS = 10
_REMEMBERED = 1024  # headers, of right and of wrong ones each
_LONGEST_HEADER = 8192  # characters; about what servers accept
_CHECKS_AT_ONCE = 2  # 32 MB each where the password is a scrypt hash with the default parameters
_MOST_WAITING = 64  # for a check; a flood of wrong passwords must not hold every thread of the server
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, and what they may do."""

    name: str
    permission: Permission
    projects: tuple[str, ...] = ("*",)  # patterns (fnmatch) of normalised project names
    limits: tuple[str, ...] = ("*",)  # further patterns, one of which has to fit as well
    credential: str = "password"
    token: Token | None = None  # that was shown; None: it was a password

    @property
    def sees_everything(self) -> bool:
        """Whether there is no project that is hidden from this principal."""
        return "*" in self.projects and "*" in self.limits

    @property
    def scope(self) -> tuple[str, ...]:
        """What two principals who see the same projects have in common; nothing for those who see all."""
        return () if self.sees_everything else (*self.projects, "", *self.limits)

    @property
    def actor(self) -> Actor:
        """Who is asking, as the audit trail names them."""
        return Actor(self.name, self.credential)

    def may(self, permission: Permission, project: NormalizedName | None = None) -> bool:
        """Whether this is allowed for the project; None: for any project at all."""
        return self.permission.includes(permission) and (project is None or self._covers(project))

    def require(self, permission: Permission, project: NormalizedName | None = None) -> None:
        """Raise ForbiddenError, which says what is missing, unless `may(permission, project)`."""
        if not self.permission.includes(permission):
            place = f" for the project {project!r}" if project else ""
            raise ForbiddenError(
                f"{self.name!r} has the permission {self.permission.value!r}, "
                f"but this needs {permission.value!r}{place}"
            )
        if project is not None and not self._covers(project):
            raise ForbiddenError(
                f"{self.name!r} has no permission {permission.value!r} for the project {project!r}, "
                f"only for {self._allowed()}"
            )

    def _covers(self, project: NormalizedName) -> bool:
        return self.sees_everything or (_fits(project, self.projects) and _fits(project, self.limits))

    def _allowed(self) -> str:
        allowed = _name_some(self.projects)
        return allowed if "*" in self.limits else f"{allowed}, and of these {_name_some(self.limits)}"


def _name_some(patterns: tuple[str, ...]) -> str:
    left = len(patterns) - _TOLD_PATTERNS
    return ", ".join(patterns[:_TOLD_PATTERNS]) + (f" and {left} more" if left > 0 else "")


def _fits(project: NormalizedName, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(project, pattern) for pattern in patterns)


def hash_password(password: str) -> str:
    """Return a salted scrypt hash of a password, to be configured in its place."""
    return generate_password_hash(_normalize(password), method="scrypt")


def _normalize(text: str) -> str:
    """Return the composed form (NFC): some systems type an accent as a character of its own."""
    return unicodedata.normalize("NFC", text)


@dataclass(frozen=True, slots=True)
class _Account:
    """A user as credentials are held against them."""

    principal: Principal | None
    configured: bytes = field(default=b"", repr=False)  # a digest of what is configured as password, masked
    digest: bytes = field(default=b"", repr=False)  # of a plain password
    hashed: str | None = field(default=None, repr=False)  # a configured hash


_NOBODY = _Account(None)
_Memory = dict[bytes, Principal | None]
_Answers = dict[bytes, tuple[Principal | None, float]]  # who it is, and until when that holds


class Authenticator:
    """Tells from an Authorization header who is asking; thread-safe, and cheap but for the first time.

    Neither headers nor plain passwords are kept, only digests of them under a key that lives as long as the process.
    What was found out of a token holds for `TOKEN_SECONDS`, so that one that is revoked is of no use after that.
    """

    def __init__(
        self,
        users: Iterable[User],
        *,
        tokens: Tokens | None = None,
        check_hash: Callable[[str, str], bool] = check_password_hash,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raise ConfigError for a hash that cannot be used and for a username given twice.

        Without `tokens` there are none. `check_hash(hashed, password)` is the slow check; one may pass another in order
        to watch it. `clock` gives seconds.
        """
        self._key = secrets.token_bytes(32)
        self._tokens = tokens
        self._check_hash = check_hash
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        for user in users:
            self._add(user)
        self._decoy = next((account.hashed for account in self._accounts.values() if account.hashed), None)
        self._right: _Memory = {}
        self._wrong: _Memory = {}
        self._shown: _Answers = {}  # tokens
        self._gone: _Answers = {}  # what looked like some
        # Apart from each other, so that invented names displace no failures of those that are somebody's.
        self._attempts = {True: Attempts(clock), False: Attempts(clock)}
        self._writing = threading.Lock()
        self._checking = threading.BoundedSemaphore(_CHECKS_AT_ONCE)
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)

    def _add(self, user: User) -> None:
        username = _normalize(user.username)
        if username == TOKEN_USERNAME:
            raise ConfigError(f"the username {username!r} stands for tokens; rename that user")
        if username in self._accounts:
            raise ConfigError(f"the username {username!r} is given to two users; rename one of them")
        principal = Principal(username, user.permission, user.projects)
        configured = self._mask(username, hashlib.sha256(user.password.encode()).digest())
        if _is_usable_hash(user):
            self._accounts[username] = _Account(principal, configured, hashed=user.password)
        else:
            digest = self._digest(_normalize(user.password))
            self._accounts[username] = _Account(principal, configured, digest)

    def authenticate(self, authorization: str | None, address: str = "") -> Principal | None:
        """Return who sent this value of an Authorization header (as WSGI gives it: bytes read as latin-1).

        None where the credentials are missing, malformed or wrong. Raise UnavailableError where more of them wait to be
        checked than should hold a thread each, or a token cannot be looked up, and TooManyAttemptsError where too many
        wrong passwords came from the client's `address`; those that were checked before never wait.
        """
        if authorization is None or len(authorization) > _LONGEST_HEADER or "\0" in authorization:
            return None
        seen = self._digest(authorization)
        principal = self._right.get(seen)
        if principal is not None:
            return principal
        answer = self._answer(seen)
        if answer is not None or seen in self._wrong:
            return answer and answer[0]
        credentials = list(_read_credentials(authorization))
        if any(username == TOKEN_USERNAME for username, _ in credentials):
            began = self._clock()
            return self._remember_token(seen, self._find_token([password for _, password in credentials]), began)
        with self._in_turn():
            # Clients open several connections at once: what waited here for its twin need not be checked again.
            principal = self._right.get(seen)
            if principal is None and seen not in self._wrong:
                principal = self._check_any(credentials, address)
                # Apart from each other, so that a flood of wrong credentials displaces no right ones.
                self._keep(self._wrong if principal is None else self._right, seen, principal)
            return principal

    def sign_in(self, username: str, password: str, address: str = "") -> Principal | None:
        """Return whose password, or whose token, this is; None where it is nobody's. Raise as `authenticate` does."""
        username, password = _normalize(username.strip()), _normalize(password)
        if username == TOKEN_USERNAME or is_token(password.strip()):
            return self._find_token([password.strip()])
        with self._in_turn():
            return self._check_any([(username, password)], address)

    def session_key(self, secret: bytes) -> bytes:
        """Return what signs sessions: made of a secret and of all passwords that are configured.

        So whoever knows one of both cannot sign in, and whoever changes a password ends all sessions. The same in all
        processes with the same configuration and secret.
        """
        digests = [
            name.encode() + b"\0" + self._mask(name, account.configured)
            for name, account in sorted(self._accounts.items())
        ]
        return hmac.digest(secret, b"\0".join(digests), "sha256")

    def find_user(self, username: str) -> Principal | None:
        """Return a user of the configuration."""
        return self._accounts.get(username, _NOBODY).principal

    def find_token(self, token_id: str) -> Principal | None:
        """Return whom a token stands for that was shown before; None where it is gone. Raise UnavailableError."""
        seen = self._digest(f"\0token\0{token_id}")
        answer, began = self._answer(seen), self._clock()
        if answer is not None:
            return answer[0]
        try:
            token = None if self._tokens is None else self._tokens.get(token_id)
        except NotFoundError:
            token = None
        return self._remember_token(seen, self._stand_for(token), began)

    def tellable_username(self, authorization: str) -> str:
        """Return the username in a header with wrong credentials if it is somebody's: another may be a password."""
        tried = (username for username, _ in _read_credentials(authorization[:_LONGEST_HEADER]))
        return next((username for username in tried if self.is_known(username)), "")

    def is_known(self, username: str) -> bool:
        """Whether a username is somebody's, or stands for tokens."""
        return username == TOKEN_USERNAME or username in self._accounts

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if not self._waiting.acquire(blocking=False):
            raise UnavailableError("too many sign-ins are being checked just now; try again in a moment")
        try:
            with self._checking:
                yield
        finally:
            self._waiting.release()

    def _answer(self, seen: bytes) -> tuple[Principal | None, float] | None:
        """Return what was found out of a token, as long as it holds."""
        answer = self._shown.get(seen) or self._gone.get(seen)
        return answer if answer is not None and answer[1] > self._clock() else None

    def _remember_token(self, seen: bytes, principal: Principal | None, began: float) -> Principal | None:
        """Remember whom a token stands for that was looked up at a time: from then on, however long that took."""
        seconds = TOKEN_SECONDS
        if principal is not None and principal.token is not None and principal.token.expires is not None:
            seconds = min(seconds, principal.token.expires.timestamp() - time.time())
        self._keep(self._gone if principal is None else self._shown, seen, (principal, began + seconds))
        return principal

    def _keep(self, memory: dict[bytes, _T], seen: bytes, what: _T) -> None:
        with self._writing:
            memory.pop(seen, None)
            if len(memory) >= _REMEMBERED:
                del memory[next(iter(memory))]
            memory[seen] = what

    def _find_token(self, secrets_shown: Iterable[str]) -> Principal | None:
        if self._tokens is None:
            return None
        found = (self._tokens.find(secret) for secret in secrets_shown)
        return self._stand_for(next((token for token in found if token is not None), None))

    def _stand_for(self, token: Token | None) -> Principal | None:
        """Return whom a token stands for: a user, as long as there is one, who can do no more by it than without."""
        if token is None:
            return None
        credential = f"token {token.id}"
        if token.owner is None:
            return Principal(f"token:{token.name}", token.permission, token.projects, ("*",), credential, token)
        owner = self.find_user(token.owner)
        if owner is None:
            return None
        permission = token.permission if owner.permission.includes(token.permission) else owner.permission
        return replace(
            owner,
            permission=permission,
            projects=token.projects,
            limits=owner.projects,
            credential=credential,
            token=token,
        )

    def _check_any(self, credentials: Iterable[tuple[str, str]], address: str) -> Principal | None:
        for username, password in credentials:
            attempts = self._attempts[username in self._accounts]
            attempt = self._digest(f"attempt\0{username}\0{network_of(address)}")
            attempts.check(attempt)
            principal = self._check(username, password)
            if principal is not None:
                attempts.forget(attempt)
                return principal
            attempts.count(attempt)
        return None

    def _check(self, username: str, password: str) -> Principal | None:
        account = self._accounts.get(username, _NOBODY)
        if hmac.compare_digest(self._digest(password), account.digest):
            return account.principal
        # Where any user has a hash, every refusal costs a slow check: its time must not tell which names exist.
        hashed = account.hashed or self._decoy
        right = hashed is not None and self._check_hash(hashed, password)
        return account.principal if right and account.hashed else None

    def _mask(self, username: str, digest: bytes) -> bytes:
        """Mask a digest that is the same in all processes, or take the mask off again: memory alone tells nothing."""
        mask = self._digest(f"mask\0{username}")
        return bytes(left ^ right for left, right in zip(digest, mask, strict=True))

    def _digest(self, text: str) -> bytes:
        """Return a digest of fixed length, so that comparing two tells nothing about either text."""
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32, key=self._key).digest()


def _is_usable_hash(user: User) -> bool:
    try:
        return is_hash(user.password)
    except ValueError as error:
        raise ConfigError(
            f"the password of the user {user.username!r} {error}; make one with 'elasticpypi hash-password'"
        ) from error


def _read_credentials(authorization: str) -> Iterator[tuple[str, str]]:
    """Yield what username and password may be, composed (NFC); nothing where this is no basic authentication.

    The header does not tell its encoding: browsers, uv, pdm and hatch send UTF-8, what is built on requests
    (pip, twine, poetry) latin-1.
    """
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return
    encoded = encoded.strip(" ")
    try:
        # Padding may be missing, as in other schemes; everything else has to be as RFC 4648 says.
        credentials = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True)
    except ValueError:
        return
    for text in _decode(credentials):
        username, colon, password = text.partition(":")  # a password may contain colons, a username may not
        # RFC 7617 bans control characters; and scrypt takes "secret" and "secret\0" for the same (HMAC pads its key).
        if colon and not any(unicodedata.category(character) == "Cc" for character in text):
            yield _normalize(username), _normalize(password)


def _decode(credentials: bytes) -> Iterator[str]:
    with suppress(UnicodeDecodeError):
        yield credentials.decode("utf-8")
    if not credentials.isascii():
        yield credentials.decode("latin-1")
