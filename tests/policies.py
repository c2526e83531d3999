"""What IAM's policies allow: as much of their evaluation as ours use, and an error for the rest.

Source: IAM user guide, "Policy evaluation logic", "IAM JSON policy elements".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}
_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, pattern: value == pattern,
    "StringLike": lambda value, pattern: _matches(pattern, value),
    "ArnEquals": lambda value, pattern: _matches(pattern, value),
    "ArnLike": lambda value, pattern: _matches(pattern, value),
}
# They hold where the request lacks the key, too.
_NEGATED = {"StringNotEquals": "StringEquals"}


def is_allowed(
    statements: Sequence[Mapping[str, Any]],
    action: str,
    resource: str,
    context: Mapping[str, str] | None = None,
) -> bool:
    """Whether statements of a role allow an action: one does, and none denies it.

    `context` has the condition keys of the request; a condition on another one does not hold.
    """
    effects = {each["Effect"] for each in statements if _applies(each, action, resource, context or {})}
    return "Allow" in effects and "Deny" not in effects


def _applies(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    unknown = set(statement) - _ELEMENTS
    assert not unknown, f"what {unknown} means is not known here"
    return (
        any(_matches(pattern.lower(), action.lower()) for pattern in _list(statement["Action"]))
        and any(_matches(pattern, resource) for pattern in _list(statement["Resource"]))
        and all(
            _holds(operator, key, _list(patterns), context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, patterns in keys.items()
        )
    )


def _holds(operator: str, key: str, patterns: Sequence[str], context: Mapping[str, str]) -> bool:
    if operator in _NEGATED:
        return not _holds(_NEGATED[operator], key, patterns, context)
    return key in context and any(_OPERATORS[operator](context[key], pattern) for pattern in patterns)


def _matches(pattern: str, text: str) -> bool:
    """Whether a text is what a pattern with `*` and `?` means; brackets mean themselves."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL) is not None


def _list(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
