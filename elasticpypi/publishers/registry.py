"""The register of trusted publishers, and what their jobs get for their ID tokens."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from elasticpypi.audit import Action, Audit
from elasticpypi.catalog.ledger import Ledger, Record
from elasticpypi.config import Permission
from elasticpypi.errors import (
    BusyError,
    ConflictError,
    IdTokenError,
    InvalidRequestError,
    NotFoundError,
    ObjectMissingError,
    UnreadableObjectError,
)
from elasticpypi.model import Actor
from elasticpypi.names import RESERVED_PREFIX
from elasticpypi.oidc import LEEWAY_SECONDS, IdToken, Verifier
from elasticpypi.publishers.document import Registered, format_registered, parse_registered
from elasticpypi.publishers.jobs import fits, say_whose
from elasticpypi.publishers.publisher import Publisher, describe_publisher
from elasticpypi.storage import Storage
from elasticpypi.tokens import Tokens

KEY = f"{RESERVED_PREFIX}publishers.json"
UPLOAD_TOKEN_SECONDS = 15 * 60
_KIND = "id-token"
_ATTEMPTS = 20
_MOST = 1000  # publishers
_LONGEST_NAME = 100  # characters, of a token


class Publishers:
    """The trusted publishers of an index. Every method may raise StorageError and CatalogError."""

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        tokens: Tokens,
        audit: Audit,
        *,
        verifier: Verifier | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._tokens = tokens
        self._audit = audit
        self._verifier = Verifier() if verifier is None else verifier
        self._clock = clock

    def registered(self) -> Registered:
        """Return all publishers, and the audience."""
        return self._read()[0]

    def trusted(self) -> Mapping[str, Publisher]:
        """Return the publishers whose jobs are served, by id: none where the document cannot be read."""
        try:
            return self.registered().publishers
        except UnreadableObjectError:
            return {}

    def record_restored(self, before: Mapping[str, Publisher], *, by: Actor) -> None:
        """Write down who is trusted now and was not before: a backup that somebody restored has brought them."""
        for publisher in self.trusted().values():
            if before.get(publisher.id) != publisher:
                details = {**_details(publisher), "from": "backup"}
                self._audit.record(by, Action.ADD_PUBLISHER, target=publisher.id, details=details)

    def audience(self) -> str:
        """Return for whom ID tokens have to be made: the same for as long as the index lives, and nobody else's.

        NotFoundError where no publisher is registered.
        """
        registered = self.registered()
        if registered.audience is None or not registered.publishers:
            raise NotFoundError("this index has no trusted publishers; an administrator registers them")
        return registered.audience

    def add(self, publisher: Publisher, *, by: Actor) -> Publisher:
        """Register a publisher; return it, or the one that says the same and is registered already."""

        def change(registered: Registered) -> Registered:
            if _find_same(registered, publisher) is not None:
                return registered
            if len(registered.publishers) >= _MOST:
                raise InvalidRequestError(f"there are {_MOST} publishers already: remove those of no use")
            audience = registered.audience or f"elasticpypi-{secrets.token_hex(6)}"
            return Registered(audience, {**registered.publishers, publisher.id: publisher})

        found = _find_same(self._change(change), publisher) or publisher
        if found.id == publisher.id:
            self._audit.record(by, Action.ADD_PUBLISHER, target=publisher.id, details=_details(publisher))
        return found

    def remove(self, publisher_id: str, *, by: Actor) -> Publisher:
        """Forget a publisher, whose jobs get no tokens from then on; return it. NotFoundError.

        Tokens that one has got already live for their quarter of an hour.
        """
        removed: list[Publisher] = []

        def change(registered: Registered) -> Registered:
            if publisher_id not in registered.publishers:
                raise NotFoundError(f"there is no publisher {publisher_id[:_LONGEST_NAME]!r}")
            removed[:] = [registered.publishers[publisher_id]]
            left = {key: value for key, value in registered.publishers.items() if key != publisher_id}
            return Registered(registered.audience, left)

        self._change(change)
        self._audit.record(by, Action.REMOVE_PUBLISHER, target=publisher_id, details=_details(removed[0]))
        return removed[0]

    def mint(self, id_token: str) -> str:
        """Return an upload token for the projects of all publishers whose job shows this ID token, once.

        Raise IdTokenError where it is none, is nobody's that is registered, or was shown before, and UnavailableError
        where its issuer cannot be asked.
        """
        registered = self.registered()
        publishers = list(registered.publishers.values())
        if registered.audience is None or not publishers:
            raise IdTokenError("this index has no trusted publishers", code="invalid-publisher")
        issuers = {publisher.issuer for publisher in publishers}
        shown = self._verifier.verify(id_token, issuers=issuers, audience=registered.audience)
        found = [publisher for publisher in publishers if fits(publisher, shown)]
        if not found:
            raise IdTokenError(say_whose(shown.claims), code="invalid-publisher")
        self._use_up(shown)
        return self._mint_for(found)

    def _use_up(self, shown: IdToken) -> None:
        # It is no loss where nothing comes of it afterwards: the job gets another one.
        # Remembered for longer than it is taken, which ends one leeway after `expires`: clocks of ours differ, too.
        if not self._ledger.add(Record(_KIND, shown.once, "{}", shown.expires + 2 * LEEWAY_SECONDS)):
            raise IdTokenError("it was used already, and is good for one upload token", code="invalid-reuse-token")

    def _mint_for(self, found: Sequence[Publisher]) -> str:
        ids = ", ".join(publisher.id for publisher in found)
        projects = dict.fromkeys(pattern for publisher in found for pattern in publisher.projects)
        _, secret = self._tokens.create(
            found[0].source[:_LONGEST_NAME],
            by=Actor(found[0].source, f"trusted publisher {ids}"),
            permission=Permission.UPLOAD,
            projects=tuple(projects),
            expires=datetime.fromtimestamp(int(self._clock()) + UPLOAD_TOKEN_SECONDS, UTC),
        )
        return secret

    def _read(self) -> tuple[Registered, str | None]:
        try:
            document = self._storage.read_document(KEY)
        except ObjectMissingError:
            return Registered(), None
        try:
            return parse_registered(document.data), document.fingerprint
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = "it is not as it was written; restore it, or remove it and register the publishers again"
            raise UnreadableObjectError(KEY, reason) from error

    def _change(self, change: Callable[[Registered], Registered]) -> Registered:
        """Write the document anew, on condition that nobody else has meanwhile; return what it was changed from or to.

        Raise UnreadableObjectError where the present one cannot be read: whom it trusts must not be lost.
        """
        for _ in range(_ATTEMPTS):
            try:
                before, fingerprint = self._read()
                after = change(before)
                if after is not before:
                    self._storage.write_document(KEY, format_registered(after), replacing=fingerprint)
            except (BusyError, ConflictError):
                continue
            return after
        raise BusyError(KEY)


def _find_same(registered: Registered, publisher: Publisher) -> Publisher | None:
    wanted = describe_publisher(publisher) | {"id": None}
    found = (each for each in registered.publishers.values() if describe_publisher(each) | {"id": None} == wanted)
    return next(found, None)


def _details(publisher: Publisher) -> dict[str, str]:
    described = describe_publisher(publisher) | {"projects": ", ".join(publisher.projects)}
    return {name: str(value) for name, value in described.items() if value is not None and name != "id"}
