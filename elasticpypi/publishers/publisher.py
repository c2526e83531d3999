"""What a trusted publisher is, and which ones make sense."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from elasticpypi.config import check_projects
from elasticpypi.errors import InvalidRequestError
from elasticpypi.oidc import check_issuer

_LONGEST_TOLD = 200  # characters, of what we repeat of a value that makes no sense
_GITHUB_REPOSITORY = re.compile(r"[A-Za-z0-9_-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}", re.ASCII)
_GITLAB_REPOSITORY = re.compile(r"(?=.{1,255}$)[A-Za-z0-9_.][A-Za-z0-9_.-]*(/[A-Za-z0-9_.][A-Za-z0-9_.-]*)+", re.ASCII)
_GITHUB_WORKFLOW = re.compile(r"(?=.{1,255}$)[^/@\s]+\.ya?ml")
_GITLAB_WORKFLOW = re.compile(r"(?=.{1,255}$)(?!.*//)[^/@\s][^@\s]*\.ya?ml")
_OWNER_ID = re.compile(r"[0-9]{1,20}", re.ASCII)
_LONGEST_ENVIRONMENT = 255


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
    check_publisher(publisher)
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


def check_publisher(publisher: Publisher) -> None:
    """Raise InvalidRequestError, with the field as `describe_publisher` calls it, where a publisher makes no sense."""
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
            raise InvalidRequestError(f"the {what} is {value[:_LONGEST_TOLD]!r}, and not such as {example}", field=what)
    _check_environment(publisher.environment)
    _check_projects(publisher.projects)
    try:
        check_issuer(publisher.issuer)
    except ValueError as error:
        raise InvalidRequestError(f"the issuer {publisher.issuer[:_LONGEST_TOLD]!r} {error}", field="issuer") from error


def _check_environment(environment: str | None) -> None:
    if environment is None:
        return
    if not environment.strip() or len(environment) > _LONGEST_ENVIRONMENT or not environment.isprintable():
        raise InvalidRequestError(
            f"the environment is not a name of at most {_LONGEST_ENVIRONMENT} printable characters; "
            "leave it out where the job has none",
            field="environment",
        )


def _check_projects(projects: Sequence[str]) -> None:
    try:
        check_projects(list(projects))
    except ValueError as error:
        message = f"'projects' {error}; name those that may be published, as 'acme-*'"
        raise InvalidRequestError(message, field="projects") from error
