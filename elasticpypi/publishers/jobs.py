"""Whose job it is that shows an ID token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from elasticpypi.oidc import IdToken
from elasticpypi.publishers.publisher import Provider, Publisher

_LONGEST_CLAIM = 200  # characters, of one that we repeat


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
        and not _is_merge_request(claims)
    )


def _is_merge_request(claims: Mapping[str, Any]) -> bool:
    """Whether a job at GitLab is about what somebody proposes: also a fork's, which members run in the parent project.

    Child pipelines have another source, and still its ref.
    """
    refs = (_claim(claims, name) for name in ("ref", "ref_path"))
    is_its_ref = any(ref.startswith("refs/merge-requests/") for ref in refs)
    return is_its_ref or _claim(claims, "pipeline_source") == "merge_request_event"


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
    *("project_path", "namespace_id", "ci_config_ref_uri", "pipeline_source", "environment"),
)


def say_whose(claims: Mapping[str, Any]) -> str:
    """Return the sentence that tells a job why nobody fits: with what its token says of it."""
    told = ", ".join(f"{name} {_claim(claims, name)[:_LONGEST_CLAIM]!r}" for name in _TOLD if name in claims)
    return f"no trusted publisher of this index fits its job ({told})"
