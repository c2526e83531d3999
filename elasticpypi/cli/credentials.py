"""The credentials that a local index makes for itself on its first start, when no configuration names any."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from elasticpypi.config import Settings
from elasticpypi.errors import ConfigError

_FILENAME = "credentials.json"
_USERNAME = "admin"
_SECRET_BYTES = 16  # hex digits, which need no quoting in a URL or a shell


def with_credentials(settings: Settings, data: Path) -> tuple[Settings, bool]:
    """Return the settings with a main user, and whether its credentials were made just now.

    They lie in `credentials.json` in the data directory, readable by its owner alone. Several processes may start at
    once: all of them end up with the same ones.
    """
    if settings.username is not None:
        return settings, False
    path = data / _FILENAME
    made = not path.exists() and _make(path)
    username, password = _read(path)
    return replace(settings, username=username, password=password), made


def has_credentials(data: Path) -> bool:
    """Whether a local index has made credentials for itself."""
    return (data / _FILENAME).exists()


def _make(path: Path) -> bool:
    """Write new credentials, whole from the first moment; tell whether they are ours."""
    document = {"username": _USERNAME, "password": secrets.token_hex(_SECRET_BYTES)}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".credentials-") as directory:
        draft = Path(directory, _FILENAME)
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(document) + "\n")
        with suppress(FileExistsError):
            os.link(draft, path)
            return True
    return False


def _read(path: Path) -> tuple[str, str]:
    try:
        document = json.loads(path.read_text())
        username, password = document["username"], document["password"]
        if not (isinstance(username, str) and username and isinstance(password, str) and password):
            raise ValueError("username or password is empty or no string")
        return username, password
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read as credentials ({error}): mend it, or remove it and have new ones made"
        ) from error
