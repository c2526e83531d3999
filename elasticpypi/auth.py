"""Who is asking, and what they may do: credentials to principal.

Specifications: basic authentication (RFC 7617); project names (PEP 503).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import secrets
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from werkzeug.security import check_password_hash, generate_password_hash

from elasticpypi.config import Permission, User
from elasticpypi.errors import ConfigError, ForbiddenError, UnavailableError
from elasticpypi.names import NormalizedName
from elasticpypi.passwords import is_hash

_REMEMBERED = 1024  # headers, of right and of wrong ones each
_LONGEST_HEADER = 8192  # characters; about what servers accept
_CHECKS_AT_ONCE = 2  # 32 MB each where the password is a scrypt hash with the default parameters
_MOST_WAITING = 64  # for a check; a flood of wrong passwords must not hold every thread of the server


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, and what they may do."""

    name: str
    permission: Permission
    projects: tuple[str, ...] = ("*",)  # patterns (fnmatch) of normalised project names

    @property
    def sees_everything(self) -> bool:
        """Whether there is no project that is hidden from this principal."""
        return "*" in self.projects

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
                f"only for {', '.join(self.projects)}"
            )

    def _covers(self, project: NormalizedName) -> bool:
        return self.sees_everything or any(fnmatchcase(project, pattern) for pattern in self.projects)


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
    digest: bytes = field(default=b"", repr=False)  # of a plain password
    hashed: str | None = field(default=None, repr=False)  # a configured hash


_NOBODY = _Account(None)


class Authenticator:
    """Tells from an Authorization header who is asking; thread-safe, and cheap but for the first time.

    Neither headers nor plain passwords are kept, only digests of them under a key that lives as long as the process.
    """

    def __init__(self, users: Iterable[User], *, check_hash: Callable[[str, str], bool] = check_password_hash) -> None:
        """Raise ConfigError for a hash that cannot be used and for a username given twice.

        `check_hash(hashed, password)` is the slow check; one may pass another in order to watch it.
        """
        self._key = secrets.token_bytes(32)
        self._check_hash = check_hash
        self._accounts: dict[str, _Account] = {}
        for user in users:
            self._add(user)
        self._decoy = next((account.hashed for account in self._accounts.values() if account.hashed), None)
        self._right: dict[bytes, Principal | None] = {}
        self._wrong: dict[bytes, Principal | None] = {}
        self._writing = threading.Lock()
        self._checking = threading.BoundedSemaphore(_CHECKS_AT_ONCE)
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)

    def _add(self, user: User) -> None:
        username = _normalize(user.username)
        if username in self._accounts:
            raise ConfigError(f"the username {username!r} is given to two users; rename one of them")
        principal = Principal(username, user.permission, user.projects)
        if _is_usable_hash(user):
            self._accounts[username] = _Account(principal, hashed=user.password)
        else:
            self._accounts[username] = _Account(principal, digest=self._digest(_normalize(user.password)))

    def authenticate(self, authorization: str | None) -> Principal | None:
        """Return who sent this value of an Authorization header (as WSGI gives it: bytes read as latin-1).

        None where the credentials are missing, malformed or wrong. Raise UnavailableError where more of them wait to be
        checked than should hold a thread each; those that were checked before never wait.
        """
        if authorization is None or len(authorization) > _LONGEST_HEADER:
            return None
        seen = self._digest(authorization)
        principal = self._right.get(seen)
        if principal is not None or seen in self._wrong:
            return principal
        if not self._waiting.acquire(blocking=False):
            raise UnavailableError("too many sign-ins are being checked just now; try again in a moment")
        try:
            return self._identify_once(authorization, seen)
        finally:
            self._waiting.release()

    def _identify_once(self, authorization: str, seen: bytes) -> Principal | None:
        with self._checking:
            # Clients open several connections at once: what waited here for its twin need not be checked again.
            principal = self._right.get(seen)
            if principal is None and seen not in self._wrong:
                principal = self._identify(authorization)
                self._remember(seen, principal)
            return principal

    def _remember(self, seen: bytes, principal: Principal | None) -> None:
        # Apart from each other, so that a flood of wrong credentials displaces no right ones.
        memory = self._wrong if principal is None else self._right
        with self._writing:
            if len(memory) >= _REMEMBERED:
                del memory[next(iter(memory))]
            memory[seen] = principal

    def _identify(self, authorization: str) -> Principal | None:
        for username, password in _read_credentials(authorization):
            principal = self._check(username, password)
            if principal is not None:
                return principal
        return None

    def _check(self, username: str, password: str) -> Principal | None:
        account = self._accounts.get(username, _NOBODY)
        if hmac.compare_digest(self._digest(password), account.digest):
            return account.principal
        # Where any user has a hash, every refusal costs a slow check: its time must not tell which names exist.
        hashed = account.hashed or self._decoy
        right = hashed is not None and self._check_hash(hashed, password)
        return account.principal if right and account.hashed else None

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
