"""The users beside the main one."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from elasticpypi.config.given import Given, read_choice, read_password, read_projects, read_username, unknown_key
from elasticpypi.config.settings import Permission, Settings, User

_USER_KEYS = ("username", "password", "permission", "projects")


def read_users(given: Given) -> tuple[User, ...]:
    """Read a list of users."""
    if not isinstance(given.value, list):
        raise given.error("is not a list of users")
    return tuple(
        _read_user(Given(f"{given.key}[{number}]", entry, given.source)) for number, entry in enumerate(given.value)
    )


def _read_user(given: Given) -> User:
    if not isinstance(given.value, dict):
        raise given.error("is not an object")
    for key in given.value:
        if key not in _USER_KEYS:
            raise unknown_key(key, list(_USER_KEYS), what=f"key in {given.key!r} in {given.source}")
    fields = {key: Given(f"{given.key}.{key}", value, given.source) for key, value in given.value.items()}
    for key in ("username", "password"):
        if key not in fields:
            raise Given(f"{given.key}.{key}", None, given.source).error("is missing")
    return User(**{key: _READERS_OF_USER[key](value) for key, value in fields.items()})


def _read_permission(given: Given) -> Permission:
    return Permission(read_choice(given, list(Permission)))


_READERS_OF_USER: Mapping[str, Callable[[Given], Any]] = {
    "username": read_username,
    "password": read_password,
    "permission": _read_permission,
    "projects": read_projects,
}


def check_usernames_differ(settings: Settings, given: Mapping[str, Given]) -> None:
    """Raise ConfigError where two users have the same name."""
    seen = {unicodedata.normalize("NFC", settings.username)} if settings.username else set()
    for number, user in enumerate(settings.users):
        username = unicodedata.normalize("NFC", user.username)
        if username in seen:
            place = Given(f"users[{number}].username", None, given["users"].source)
            raise place.error(f"is {username!r}, which another user has already")
        seen.add(username)
