"""An index over real adapters, and the application over it, without a server in front."""

from __future__ import annotations

import hashlib
import io
import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import requests
from click.testing import CliRunner, Result
from flask import Blueprint, Flask
from werkzeug.datastructures import MultiDict
from werkzeug.test import Client, TestResponse

from elasticpypi.auth import Authenticator
from elasticpypi.catalog import Catalog
from elasticpypi.catalog.dynamodb import DynamoDBCatalog, DynamoDBLedger
from elasticpypi.catalog.sqlite import SqliteCatalog
from elasticpypi.cli.main import main
from elasticpypi.config import Permission, Settings, Upstream, User
from elasticpypi.handler.copying import Copies, read_keep_request
from elasticpypi.handler.gateway import LARGEST_ANSWER
from elasticpypi.handler.logs import Lines
from elasticpypi.index import Index, open_index
from elasticpypi.names import parse_filename
from elasticpypi.storage import Storage
from elasticpypi.storage.filesystem import FilesystemStorage
from elasticpypi.storage.s3 import S3Storage
from elasticpypi.upstream.fetching import Limits
from elasticpypi.upstream.pages import Upstreams
from elasticpypi.web.app import create_app
from elasticpypi.web.pages import Pages
from elasticpypi.web.routes import route
from elasticpypi.web.sessions import Sessions
from tests.aws import Cloud
from tests.running import PATIENCE_SECONDS

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


class Place(Protocol):
    """Where an index lies, for those who do not go through it."""

    @property
    def arguments(self) -> list[str]:
        """What a command is told, to find it."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables of such a command."""

    @property
    def catalog_type(self) -> type[Catalog]:
        """The class of its catalog, for tests that come in between."""

    @property
    def storage_type(self) -> type[Storage]:
        """The class of its storage, for the same."""

    def open(self, *, overwrite: bool) -> Index:
        """Open the index."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object, as somebody does who knows nothing of an index."""

    def read(self, key: str) -> bytes:
        """Read an object."""

    def remove(self, key: str) -> None:
        """Remove an object."""

    def list_keys(self) -> set[str]:
        """Return the keys of all objects, our own included."""

    def lose_catalog(self) -> None:
        """Take the catalog away, or put an empty one in its place."""


@dataclass(frozen=True, slots=True)
class Directory:
    """An index in a directory and SQLite."""

    data: Path

    @property
    def arguments(self) -> list[str]:
        return ["--data", str(self.data)]

    @property
    def environment(self) -> dict[str, str]:
        return {}

    @property
    def catalog_type(self) -> type[Catalog]:
        return SqliteCatalog

    @property
    def storage_type(self) -> type[Storage]:
        return FilesystemStorage

    def open(self, *, overwrite: bool) -> Index:
        return open_index(Settings(overwrite=overwrite), data=self.data)

    def put(self, key: str, data: bytes) -> None:
        path = self.data / "files" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.unlink()
        path.write_bytes(data)

    def read(self, key: str) -> bytes:
        return (self.data / "files" / key).read_bytes()

    def remove(self, key: str) -> None:
        (self.data / "files" / key).unlink()

    def list_keys(self) -> set[str]:
        root = self.data / "files"
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    def lose_catalog(self) -> None:
        for path in self.data.glob("catalog.sqlite*"):
            path.unlink()


@dataclass(frozen=True, slots=True)
class Account:
    """An index in S3 and DynamoDB."""

    cloud: Cloud
    bucket: str
    table: str

    @property
    def arguments(self) -> list[str]:
        return []

    @property
    def environment(self) -> dict[str, str]:
        named = {"BUCKET": self.bucket, "TABLE": self.table, "USERNAME": "admin", "PASSWORD": "secret"}
        return {f"ELASTICPYPI_{key}": value for key, value in named.items()} | self.cloud.environment

    @property
    def catalog_type(self) -> type[Catalog]:
        return DynamoDBCatalog

    @property
    def storage_type(self) -> type[Storage]:
        return S3Storage

    def open(self, *, overwrite: bool) -> Index:
        aws = self.cloud.aws  # whose clients take a while to be made
        return Index(
            DynamoDBCatalog(aws, self.table),
            S3Storage(aws, self.bucket),
            ledger=DynamoDBLedger(aws, self.table),
            overwrite=overwrite,
        )

    def put(self, key: str, data: bytes) -> None:
        self.cloud.aws.s3.put_object(Bucket=self.bucket, Key=key, Body=data)

    def read(self, key: str) -> bytes:
        with self.cloud.aws.s3.get_object(Bucket=self.bucket, Key=key)["Body"] as body:
            return body.read()

    def remove(self, key: str) -> None:
        self.cloud.aws.s3.delete_object(Bucket=self.bucket, Key=key)

    def list_keys(self) -> set[str]:
        pages = self.cloud.aws.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {found["Key"] for page in pages for found in page.get("Contents", [])}

    def lose_catalog(self) -> None:
        dynamodb = self.cloud.aws.dynamodb
        made = dynamodb.describe_table(TableName=self.table)["Table"]
        dynamodb.delete_table(TableName=self.table)
        dynamodb.create_table(
            TableName=self.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=made["AttributeDefinitions"],
            KeySchema=made["KeySchema"],
        )


@dataclass(slots=True)
class Clock:
    """A clock that tests turn."""

    now: float = 1_800_000_000.0  # seconds since 1970: in January 2027

    def __call__(self) -> float:
        return self.now

    def turn(self, *, seconds: float = 0, days: float = 0) -> None:
        self.now += seconds + days * 86_400


@dataclass(frozen=True, slots=True)
class Outside:
    """Whom an index asks for names that are not its own, and how."""

    upstreams: Sequence[Upstream] = ()
    own_names: Sequence[str] = ()
    limits: Limits | None = None  # None: the usual ones
    clock: Callable[[], float] = time.time


NOBODY = Outside()


@dataclass(frozen=True, slots=True)
class Site:
    """An index, and a client of its application."""

    index: Index
    client: Client
    place: Place

    @property
    def data(self) -> Path:
        """The directory, for tests of what is so in a directory alone."""
        assert isinstance(self.place, Directory), "this test is of a directory: mark it as such"
        return self.place.data

    def get(self, path: str, *, user: str | None = "admin", method: str = "GET", **headers: str) -> TestResponse:
        """Ask for a path; keyword arguments are headers, `if_none_match` for If-None-Match."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(path, method=method, headers=_with_user(user, named), buffered=True)

    def download(self, path: str) -> bytes:
        """Return a file's bytes, from wherever the application sends us for them."""
        answer = self.get(path)
        if answer.status_code != 302:
            assert answer.status_code == 200, answer.text
            sent: bytes = answer.data
            return sent
        with requests.Session() as session:
            session.trust_env = False
            with session.get(answer.headers["Location"], timeout=60) as found:
                found.raise_for_status()
                data: bytes = found.content
                return data

    def json(self, path: str, *, user: str = "admin") -> dict[str, Any]:
        response = self.get(path, user=user, accept=JSON)
        assert response.status_code == 200, response.text
        return cast(dict[str, Any], response.json)

    def reopen(self, *, overwrite: bool = False, outside: Outside = NOBODY, complete: bool = True) -> Site:
        """Open the same index once more, otherwise configured; its catalog is only completed where it is said so."""
        return _open(self.place, overwrite=overwrite, outside=outside, complete=complete)

    def run(self, *arguments: str, text: str | None = None) -> Result:
        """Run a command on the index, in this process."""
        return CliRunner().invoke(main, [*arguments, *self.place.arguments], input=text, env=self.place.environment)

    def send(self, method: str, path: str, body: object = None, *, user: str | None = "admin") -> TestResponse:
        """Send a request with a JSON body, None for no body."""
        return self.client.open(path, method=method, headers=_with_user(user, {}), buffered=True, json=body)

    def drop(self, file: Path, key: str | None = None) -> None:
        """Put a file there by hand, and have it indexed."""
        self.place.put(key or file.name, file.read_bytes())
        self.index.reconcile(key or file.name)

    def decide(self, project: str, text: str) -> None:
        """Write a project.json by hand, and have it read."""
        self.place.put(f"{project}/project.json", text.encode())
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


def open_site(data: Path, *, overwrite: bool = False, outside: Outside = NOBODY) -> Site:
    """Open an index in `data` and complete its catalog."""
    return _open(Directory(data), overwrite=overwrite, outside=outside)


def open_cloud_site(cloud: Cloud, *, overwrite: bool = False, outside: Outside = NOBODY) -> Site:
    """Open an index in a new bucket and a new table, and complete its catalog."""
    return _open(Account(cloud, cloud.make_bucket(), cloud.make_table()), overwrite=overwrite, outside=outside)


def _open(place: Place, *, overwrite: bool, outside: Outside, complete: bool = True) -> Site:
    index = place.open(overwrite=overwrite)
    if complete:
        index.sync(patience_seconds=PATIENCE_SECONDS)  # files that were written just now are looked at, too
    behind: Mapping[str, Any] = {}
    if outside is not NOBODY:
        index = _with_upstreams(index, outside)
        if isinstance(place, Account):  # a gateway, and a queue: nothing is sent while it is made
            behind = {"largest_answer": LARGEST_ANSWER, "keep_later": partial(_keep, index)}
    return Site(index, Client(create_app(index, Authenticator(USERS, tokens=index.tokens), **behind)), place)


def _keep(index: Index, request: Mapping[str, Any]) -> None:
    """Copy a file of an upstream at once, as the other function does when it hears of it."""
    read = read_keep_request(json.loads(json.dumps(request)))
    assert read is not None
    lines = Lines(service="acme", stage="dev", stream=io.StringIO())
    Copies(index, lines, pauses=()).bring(read, time.monotonic() + PATIENCE_SECONDS)


def _with_upstreams(index: Index, outside: Outside) -> Index:
    """Return an index that asks others, which `open_index` would do by the real time."""
    catalog, storage = index._catalog, index._storage  # noqa: SLF001
    upstreams = Upstreams(
        catalog,
        storage,
        outside.upstreams,
        own_names=outside.own_names,
        limits=outside.limits,
        clock=outside.clock,
    )
    ledger = index._ledger  # noqa: SLF001
    return Index(catalog, storage, ledger=ledger, overwrite=index.overwrite, upstreams=upstreams)


def routes_of(index: Index, *, metrics: Blueprint | None = None) -> Flask:
    """Return the routes alone, with nothing before them."""
    authenticator = Authenticator(USERS, tokens=index.tokens)
    return route(index, Pages(index), authenticator, Sessions(authenticator, index), metrics=metrics)


def _with_user(user: str | None, headers: dict[str, str]) -> dict[str, str]:
    if user is None:
        return headers
    return headers | {"Authorization": "Basic " + b64encode(f"{user}:secret".encode()).decode()}
