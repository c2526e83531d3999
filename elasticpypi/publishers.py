"""Trusted publishers: CI jobs that may publish some projects without any secret of ours, by showing whose they are.

One document in the storage, `.elasticpypi/publishers.json`: the publishers, and the audience for which a CI system has
to make its ID tokens. Who shows a token of such a job gets an upload token of ours for a quarter of an hour.

Specifications: what GitHub (OpenID Connect reference) and GitLab (ID token authentication) say in their ID tokens.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from elasticpypi.audit import Action, Audit
from elasticpypi.catalog.ledger import Ledger, Record
from elasticpypi.config import Permission, check_projects
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
from elasticpypi.oidc import LEEWAY_SECONDS, IdToken, Verifier, check_issuer
from elasticpypi.storage import Storage
from elasticpypi.tokens import Tokens

KEY = f"{RESERVED_PREFIX}publishers.json"
UPLOAD_TOKEN_SECONDS = 15 * 60
_KIND = "id-token"
_ATTEMPTS = 20
_MOST = 1000  # publishers
_LONGEST_NAME = 100  # characters, of a token
_LONGEST_CLAIM = 200  # characters, of one that we repeat
# uv and twine look for GitLab's token in a variable that is named after the audience, so that it has to fit there.
_AUDIENCE = re.compile(r"elasticpypi-[0-9a-f]{12}", re.ASCII)


class Provider(StrEnum):
    """A kind of CI system, which decides what its tokens say."""

    GITHUB = "github"
    GITLAB = "gitlab"


DEFAULT_ISSUERS: Mapping[Provider, str] = {
    Provider.GITHUB: "https://token.actions.githubusercontent.com",
    Provider.GITLAB: "https://gitlab.com",
}


@dataclass(frozen=True, slots=True)
class Publisher:
    """A workflow of a repository that may publish some projects."""

    id: str  # 8 hexadecimal digits
    provider: Provider
    issuer: str  # of its ID tokens: a URL, without its last slash unless the issuer has one in its own name
    repository: str  # "owner/name", at GitLab "group/subgroup/project"
    workflow: str  # GitHub: the name of a file in .github/workflows; GitLab: the path of one in the repository
    environment: str | None  # None: any, or none at all
    owner_id: str | None  # decimal digits, of the owner (GitHub) or the namespace (GitLab); None: whoever has the name
    projects: tuple[str, ...]  # patterns (fnmatch) of normalised project names

    @property
    def source(self) -> str:
        """Who publishes, as the audit trail has it: "github:acme/widget"."""
        return f"{self.provider}:{self.repository}"


@dataclass(frozen=True, slots=True)
class Registered:
    """The publishers of an index, and for whom ID tokens have to be made."""

    audience: str | None = None  # None: there has never been a publisher
    publishers: Mapping[str, Publisher] = field(default_factory=dict)  # by id, the oldest first


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
            raise IdTokenError(_say_whose(shown.claims), code="invalid-publisher")
        self._use_up(shown)
        return self._mint_for(found)

    def _use_up(self, shown: IdToken) -> None:
        # It is no loss where nothing comes of it afterwards: the job gets another one.
        if not self._ledger.add(Record(_KIND, shown.once, "{}", shown.expires + LEEWAY_SECONDS)):
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
            return _parse(json.loads(document.data)), document.fingerprint
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
                    self._storage.write_document(KEY, _format(after), replacing=fingerprint)
            except (BusyError, ConflictError):
                continue
            return after
        raise BusyError(KEY)


def make_publisher(
    provider: Provider,
    *,
    repository: str,
    workflow: str,
    projects: Iterable[str],
    environment: str | None = None,
    owner_id: str | None = None,
    issuer: str | None = None,
) -> Publisher:
    """Return a publisher with an id of its own, to be registered; InvalidRequestError where it makes no sense."""
    publisher = Publisher(
        id=secrets.token_hex(4),
        provider=provider,
        issuer=DEFAULT_ISSUERS[provider] if issuer is None else issuer,
        repository=repository,
        workflow=workflow,
        environment=environment,
        owner_id=owner_id,
        projects=tuple(projects),
    )
    _check(publisher)
    return publisher


def describe_publisher(publisher: Publisher) -> dict[str, Any]:
    """Return a publisher as it is kept and given to programs."""
    return {
        "id": publisher.id,
        "provider": publisher.provider,
        "issuer": publisher.issuer,
        "repository": publisher.repository,
        "workflow": publisher.workflow,
        "environment": publisher.environment,
        "owner-id": publisher.owner_id,
        "projects": list(publisher.projects),
    }


# Whose job it is -------------------------------------------------------------------------------------------------


def fits(publisher: Publisher, shown: IdToken) -> bool:
    """Whether a token that was verified is that of a job of this publisher."""
    wanted = publisher.environment
    return (
        publisher.issuer == shown.issuer
        and (wanted is None or _same(wanted, _claim(shown.claims, "environment")))
        and _FITS[publisher.provider](publisher, shown.claims)
    )


def _fits_github(publisher: Publisher, claims: Mapping[str, Any]) -> bool:
    repository, _, workflow = _claim(claims, "job_workflow_ref").partition("/.github/workflows/")
    return (
        _same(publisher.repository, _claim(claims, "repository"))
        and publisher.owner_id in (None, _claim(claims, "repository_owner_id"))
        # Whose file runs, and not only in whose name: a workflow may call one that others keep.
        and _same(publisher.repository, repository)
        and workflow in _at_refs(publisher.workflow, claims, "ref", "sha")
        # It runs with the repository's rights on what a stranger proposes.
        and _claim(claims, "event_name") != "pull_request_target"
    )


def _fits_gitlab(publisher: Publisher, claims: Mapping[str, Any]) -> bool:
    place, _, workflow = _claim(claims, "ci_config_ref_uri").partition("//")
    return (
        _same(publisher.repository, _claim(claims, "project_path"))
        and publisher.owner_id in (None, _claim(claims, "namespace_id"))
        and _same(f"{urlsplit(publisher.issuer).netloc}/{publisher.repository}", place)
        and workflow in _at_refs(publisher.workflow, claims, "ref_path", "sha")
    )


_FITS: Mapping[Provider, Callable[[Publisher, Mapping[str, Any]], bool]] = {
    Provider.GITHUB: _fits_github,
    Provider.GITLAB: _fits_gitlab,
}


def _at_refs(workflow: str, claims: Mapping[str, Any], *names: str) -> set[str]:
    """Return how a workflow is named as it was at the commit that is being built."""
    refs = (_claim(claims, name) for name in names)
    return {f"{workflow}@{ref}" for ref in refs if ref}


def _claim(claims: Mapping[str, Any], name: str) -> str:
    """Return a claim; an empty string, which fits nothing, where it is not a string."""
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _same(one: str, other: str) -> bool:
    """Whether two names are one to GitHub and GitLab, neither of which tells "Acme" from "acme"."""
    return one.casefold() == other.casefold() != ""


# What a token is told to say, where nobody is registered who says that.
_TOLD = (
    *("repository", "repository_owner_id", "job_workflow_ref", "event_name"),
    *("project_path", "namespace_id", "ci_config_ref_uri", "environment"),
)


def _say_whose(claims: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name} {_claim(claims, name)[:_LONGEST_CLAIM]!r}" for name in _TOLD if name in claims)
    return f"no trusted publisher of this index fits its job ({told})"


# What makes sense ------------------------------------------------------------------------------------------------

_GITHUB_REPOSITORY = re.compile(r"[A-Za-z0-9_-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}", re.ASCII)
_GITLAB_REPOSITORY = re.compile(r"(?=.{1,255}$)[A-Za-z0-9_.][A-Za-z0-9_.-]*(/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+", re.ASCII)
_GITHUB_WORKFLOW = re.compile(r"(?=.{1,255}$)[^/@\s]+\.ya?ml")
_GITLAB_WORKFLOW = re.compile(r"(?=.{1,255}$)(?!.*//)[^/@\s][^@\s]*\.ya?ml")
_OWNER_ID = re.compile(r"[0-9]{1,20}", re.ASCII)
_LONGEST_ENVIRONMENT = 255


def _check(publisher: Publisher) -> None:
    is_github = publisher.provider is Provider.GITHUB
    for what, value, pattern, example in (
        (
            "repository",
            publisher.repository,
            _GITHUB_REPOSITORY if is_github else _GITLAB_REPOSITORY,
            "acme/widget" if is_github else "acme/tools/widget",
        ),
        (
            "workflow",
            publisher.workflow,
            _GITHUB_WORKFLOW if is_github else _GITLAB_WORKFLOW,
            "release.yml, a file in .github/workflows" if is_github else ".gitlab-ci.yml, a path in the repository",
        ),
        (
            "owner-id",
            "0" if publisher.owner_id is None else publisher.owner_id,
            _OWNER_ID,
            "1234567, a number that never changes",
        ),
    ):
        if not (pattern.fullmatch(value) and value.isprintable()):
            raise InvalidRequestError(f"the {what} is {value[:_LONGEST_CLAIM]!r}, and not such as {example}")
    _check_environment(publisher.environment)
    _check_projects(publisher.projects)
    try:
        check_issuer(publisher.issuer)
    except ValueError as error:
        raise InvalidRequestError(f"the issuer {publisher.issuer[:_LONGEST_CLAIM]!r} {error}") from error


def _check_environment(environment: str | None) -> None:
    if environment is None:
        return
    if not environment.strip() or len(environment) > _LONGEST_ENVIRONMENT or not environment.isprintable():
        raise InvalidRequestError(
            f"the environment is not a name of at most {_LONGEST_ENVIRONMENT} printable characters; "
            "leave it out where the job has none"
        )


def _check_projects(projects: Sequence[str]) -> None:
    try:
        check_projects(list(projects))
    except ValueError as error:
        raise InvalidRequestError(f"'projects' {error}; name those that may be published, as 'acme-*'") from error


# The document ----------------------------------------------------------------------------------------------------


def _find_same(registered: Registered, publisher: Publisher) -> Publisher | None:
    wanted = describe_publisher(publisher) | {"id": None}
    found = (each for each in registered.publishers.values() if describe_publisher(each) | {"id": None} == wanted)
    return next(found, None)


def _details(publisher: Publisher) -> dict[str, str]:
    described = describe_publisher(publisher) | {"projects": ", ".join(publisher.projects)}
    return {name: str(value) for name, value in described.items() if value is not None and name != "id"}


def _parse(document: Any) -> Registered:
    """Read what `_format` writes; raise ValueError, KeyError, TypeError or AttributeError for anything else."""
    audience = document["audience"]
    if not _AUDIENCE.fullmatch(audience):
        raise ValueError("no audience of ours")
    return Registered(audience, {key: _parse_publisher(key, each) for key, each in document["publishers"].items()})


def _parse_publisher(publisher_id: str, fields: Mapping[str, Any]) -> Publisher:
    if not isinstance(fields["projects"], list):
        raise TypeError("no list of patterns")
    publisher = Publisher(
        id=publisher_id,
        provider=Provider(fields["provider"]),
        issuer=fields["issuer"],
        repository=fields["repository"],
        workflow=fields["workflow"],
        environment=fields["environment"],
        owner_id=fields["owner-id"],
        projects=tuple(fields["projects"]),
    )
    try:
        _check(publisher)  # somebody may have edited it by hand
    except InvalidRequestError as error:
        raise ValueError(str(error)) from error
    return publisher


def _format(registered: Registered) -> bytes:
    publishers = {
        key: {name: value for name, value in describe_publisher(each).items() if name != "id"}
        for key, each in registered.publishers.items()
    }
    return json.dumps({"audience": registered.audience, "publishers": publishers}, indent=2).encode() + b"\n"
