"""A page that has more than 6 MB even compressed, which no gateway carries, and real installers that ask for it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from elasticpypi.catalog import Catalog
from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.config import Settings
from elasticpypi.handler.gateway import GatewayHandler
from elasticpypi.handler.logs import Lines
from elasticpypi.index import Index
from elasticpypi.model import Entry, File, ProjectSnapshot
from elasticpypi.names import NormalizedName
from elasticpypi.simple import Form
from elasticpypi.storage.s3 import S3Storage
from tests.aws import Cloud, counting
from tests.clients import INSTALLERS, Account, Desk
from tests.dists import make_wheel
from tests.gateway import HttpGateway, RestGateway
from tests.site import USERS

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
FILES = 70_000
ACME = NormalizedName("acme")


class Padded:
    """A catalog that knows many more files of one project than it has rows: indexing so many takes an hour here."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def project(self, name: NormalizedName) -> ProjectSnapshot | None:
        snapshot = self._catalog.project(name)
        assert snapshot is not None
        return replace(snapshot, entries=tuple(pad(snapshot.entries[0])))


def pad(entry: Entry) -> list[Entry]:
    file = entry.content
    assert isinstance(file, File)
    entries = [entry]
    for number in range(FILES):
        version = f"0.{number}"
        filename = f"acme-{version}-py3-none-any.whl"
        digests = [hashlib.sha256(f"{kind}{number}".encode()).hexdigest() for kind in ("file", "metadata")]
        content = replace(file, filename=filename, version=version, sha256=digests[0], core_metadata_sha256=digests[1])
        entries.append(replace(entry, key=f"acme/{filename}", content=content))
    return entries


@pytest.mark.parametrize("kind", ["rest", "http"])
def test_installers_follow_to_a_page_of_more_than_six_megabytes(cloud: Cloud, tmp_path: Path, kind: str) -> None:
    bucket, table = cloud.make_bucket(), cloud.make_table()
    wheel = make_wheel(tmp_path, "acme", "1.0")
    cloud.aws.s3.put_object(Bucket=bucket, Key=f"acme/{wheel.name}", Body=wheel.read_bytes())
    catalog = cast("Catalog", Padded(DynamoDBCatalog(cloud.aws, table)))
    index = Index(catalog, S3Storage(cloud.aws, bucket))
    index.sync()
    handler = GatewayHandler(
        index, Settings(users=USERS), lines=Lines(service="tests", stage="dev", stream=io.StringIO())
    )
    make = {"rest": RestGateway, "http": HttpGateway}[kind]
    with make(handler, seconds=200) as gateway:  # the first who asks waits for seconds, on a busy machine for many
        for client in ("pip", "uv"):
            desk = Desk(tmp_path / client)
            outcome = INSTALLERS[client](desk, Account(gateway.url, "admin", "secret"), "acme")
            assert outcome.succeeded, outcome.output
            assert desk.installed()[ACME] == "1.0"
        assert [answer.status for _, answer in gateway.seen if answer.status not in (200, 302)] == []
    (kept,) = cloud.aws.s3.list_objects_v2(Bucket=bucket, Prefix=".elasticpypi/pages/")["Contents"]
    assert kept["Size"] > 6 * 2**20
    with counting(cloud.aws.s3) as s3, counting(cloud.aws.dynamodb) as dynamodb:
        assert index.project_page(ACME, Form.JSON, index.project_revision(ACME), at_most=10).body is None
    assert s3.total() + dynamodb.total() == 2  # the revision, and that the page lies elsewhere
