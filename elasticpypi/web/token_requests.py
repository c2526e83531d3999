"""What somebody may do about tokens: make those that allow no more than they may themselves, and revoke their own.

Administrators of the whole index see and revoke everybody's. A token makes no others: one that has leaked would live on
in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from elasticpypi.auth import Principal
from elasticpypi.config import Permission, check_projects
from elasticpypi.errors import ForbiddenError, InvalidRequestError
from elasticpypi.index import Index, Token

_MOST_DAYS = 3650


def may_create_tokens(principal: Principal) -> bool:
    """Whether somebody may make tokens: who has shown a password."""
    return principal.token is None


def find_tokens(index: Index, principal: Principal) -> list[Token]:
    """Return those tokens that somebody may know of, the oldest first."""
    if _sees_all(principal):
        return index.tokens.find_all()
    if principal.token is not None:
        return [principal.token]
    return index.tokens.find_all(principal.name)


def create_token(index: Index, principal: Principal, document: Mapping[str, object]) -> tuple[Token, str]:
    """Make a token of somebody's own; return what is known of it, and the token itself.

    Raise ForbiddenError for what they may not do themselves, InvalidRequestError.
    """
    if not may_create_tokens(principal):
        raise ForbiddenError("a token can make no other tokens: sign in with a password")
    name, projects = document.get("name"), document.get("projects", ["*"])
    if not isinstance(name, str):
        raise InvalidRequestError("'name' is missing or not a string: it says what the token is for", field="name")
    permission = _read_permission(document.get("permission"))
    principal.require(permission)
    try:
        patterns = check_projects(projects)
    except ValueError as error:
        raise InvalidRequestError(f"'projects' {error}", field="projects") from error
    return index.tokens.create(
        name,
        by=principal.actor,
        permission=permission,
        projects=patterns,
        owner=principal.name,
        expires=_read_expiry(document.get("days")),
    )


def revoke_token(index: Index, principal: Principal, token_id: str) -> Token:
    """Revoke a token; NotFoundError, ForbiddenError for somebody else's."""
    token = index.tokens.get(token_id)
    is_own = token.owner == principal.name if principal.token is None else principal.token.id == token.id
    if not is_own and not _sees_all(principal):
        raise ForbiddenError("only its owner and administrators may revoke a token")
    return index.tokens.revoke(token_id, by=principal.actor)


def _sees_all(principal: Principal) -> bool:
    return principal.may(Permission.ADMIN) and principal.sees_everything


def _read_permission(given: object) -> Permission:
    if given not in list(Permission):
        message = f"'permission' is {str(given)[:20]!r}, not one of {', '.join(Permission)}"
        raise InvalidRequestError(message, field="permission")
    return Permission(str(given))


def _read_expiry(days: object) -> datetime | None:
    if days is None:
        return None
    if isinstance(days, bool) or not isinstance(days, int) or not 0 < days <= _MOST_DAYS:
        raise InvalidRequestError(f"'days' is not a whole number from 1 to {_MOST_DAYS}", field="days")
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
