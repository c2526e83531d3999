"""An index over real adapters, and the application over it, without a server in front."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from werkzeug.datastructures import MultiDict
from werkzeug.test import Client, TestResponse

from elasticpypi.auth import Authenticator
from elasticpypi.config import Permission, Settings, User
from elasticpypi.index import Index, open_index
from elasticpypi.names import parse_filename
from elasticpypi.web.app import create_app

JSON = "application/vnd.pypi.simple.v1+json"
USERS = (
    User("admin", "secret", Permission.ADMIN),
    User("writer", "secret", Permission.UPLOAD),
    User("reader", "secret", Permission.READ),
    User("guest", "secret", Permission.READ, ("acme-*", "acme")),
    User("team", "secret", Permission.UPLOAD, ("acme-*", "acme")),
)
_AS_IT_IS: Mapping[str, str | None] = {}
_FILETYPES = {"wheel": "bdist_wheel", "sdist": "sdist", "egg": "bdist_egg"}


@dataclass(frozen=True, slots=True)
class Site:
    """An index in `data`, and a client of its application."""

    index: Index
    client: Client
    data: Path

    def get(self, path: str, *, user: str | None = "admin", method: str = "GET", **headers: str) -> TestResponse:
        """Ask for a path; keyword arguments are headers, `if_none_match` for If-None-Match."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(path, method=method, headers=_with_user(user, named), buffered=True)

    def json(self, path: str, *, user: str = "admin") -> dict[str, Any]:
        response = self.get(path, user=user, accept=JSON)
        assert response.status_code == 200, response.text
        return cast(dict[str, Any], response.json)

    def send(self, method: str, path: str, body: object = None, *, user: str | None = "admin") -> TestResponse:
        """Send a request with a JSON body, None for no body."""
        return self.client.open(path, method=method, headers=_with_user(user, {}), buffered=True, json=body)

    def drop(self, file: Path, key: str | None = None) -> None:
        """Put a file into the directory by hand, and have it indexed."""
        target = self.data / "files" / (key or file.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            target.unlink()
        target.write_bytes(file.read_bytes())
        self.index.reconcile(target.relative_to(self.data / "files").as_posix())

    def decide(self, project: str, text: str) -> None:
        """Write a project.json by hand, and have it read."""
        path = self.data / "files" / project / "project.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.index.reconcile(f"{project}/project.json")

    def upload(
        self,
        file: Path,
        *,
        user: str | None = "writer",
        path: str = "/legacy/",
        fields: Mapping[str, str | None] = _AS_IT_IS,
    ) -> TestResponse:
        """Upload a file as twine does; `fields` replaces fields of the form, None leaves one out."""
        return self.post(upload_form(file, fields), user=user, path=path)

    def post(
        self, form: Iterable[tuple[str, object]], *, user: str | None = "writer", path: str = "/legacy/"
    ) -> TestResponse:
        response = self.client.post(path, data=MultiDict(form), headers=_with_user(user, {}))
        response.request.environ["wsgi.input"].close()  # a temporary file, where the form is large
        return response


def upload_form(file: Path, fields: Mapping[str, str | None] = _AS_IT_IS) -> list[tuple[str, object]]:
    """Return the form that twine sends for a file, with some fields replaced, or left out where they are None."""
    data = file.read_bytes()
    parsed = parse_filename(file.name)
    form: dict[str, str | None] = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": parsed.project,
        "version": str(parsed.version),
        "filetype": _FILETYPES[parsed.kind],
        "pyversion": "py3",
        "sha256_digest": hashlib.sha256(data).hexdigest(),
        "blake2_256_digest": hashlib.blake2b(data, digest_size=32).hexdigest(),
        **fields,
    }
    given = [(name, value) for name, value in form.items() if value is not None]
    return [*given, ("content", (io.BytesIO(data), file.name))]


def open_site(data: Path, *, overwrite: bool = False) -> Site:
    """Open an index in `data` and complete its catalog."""
    index = open_index(Settings(overwrite=overwrite), data=data)
    index.sync()
    return Site(index, Client(create_app(index, Authenticator(USERS))), data)


def _with_user(user: str | None, headers: dict[str, str]) -> dict[str, str]:
    if user is None:
        return headers
    return headers | {"Authorization": "Basic " + b64encode(f"{user}:secret".encode()).decode()}
