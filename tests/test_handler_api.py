"""The Lambda function behind API Gateway, asked through both kinds of gateway and by events of its own."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import requests

from elasticpypi.catalog.dynamodb import DynamoDBCatalog
from elasticpypi.config import Settings, write_upstream
from elasticpypi.errors import CatalogError, InvalidRequestError, StorageError
from elasticpypi.handler.gateway import LARGEST_ANSWER, GatewayHandler
from elasticpypi.handler.logs import Lines
from elasticpypi.index import Index
from elasticpypi.names import NormalizedName
from elasticpypi.storage.s3 import S3Storage
from tests.aws import Cloud, counting
from tests.clients import INSTALLERS, UPLOADERS, Account, Desk
from tests.dists import make_core_metadata, make_sdist, make_wheel
from tests.gateway import (
    LAMBDA_BYTES,
    GatewayResponse,
    HttpGateway,
    RestGateway,
    http_event,
    read_gateway_responses,
    rest_event,
)
from tests.running import bare_environment, upload_form
from tests.site import JSON, USERS, Site
from tests.upstreams import running_upstream

HTML = "application/vnd.pypi.simple.v1+html"
CREDENTIALS = ("Authorization", "Basic " + base64.b64encode(b"admin:secret").decode())
KINDS = ("rest", "http")
Make = Callable[..., dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Front:
    """An index behind a gateway."""

    gateway: RestGateway | HttpGateway
    log: io.StringIO

    @property
    def account(self) -> Account:
        return Account(self.gateway.url, "admin", "secret")

    def ask(self, path: str, *, method: str = "GET", user: str | None = "admin", **options: Any) -> requests.Response:
        """Ask as the clients do, on a connection of its own; redirects are not followed."""
        with requests.Session() as session:
            session.trust_env = False
            options["headers"] = {"Connection": "close", **options.get("headers", {})}
            credentials = None if user is None else (user, "secret")
            return session.request(
                method, self.gateway.url + path, auth=credentials, timeout=60, allow_redirects=False, **options
            )

    def upload(self, file: Path) -> requests.Response:
        form, files = upload_form(file.name), {"content": (file.name, file.read_bytes())}
        return self.ask("/legacy/", method="POST", data=form, files=files)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def make_handler(index: Index, *, log: io.StringIO | None = None, **options: Any) -> GatewayHandler:
    settings = Settings(users=USERS, url=options.pop("url", None))
    lines = Lines(service="tests", stage="dev", stream=io.StringIO() if log is None else log)
    return GatewayHandler(index, settings, lines=lines, **options)


@contextmanager
def fronted(kind: str, index: Index, **options: Any) -> Iterator[Front]:
    log = io.StringIO()
    with {"rest": RestGateway, "http": HttpGateway}[kind](make_handler(index, log=log, **options)) as gateway:
        yield Front(gateway, log)


@pytest.fixture(params=KINDS)
def front(request: pytest.FixtureRequest, site: Site) -> Iterator[Front]:
    """The index of `site` behind a gateway of each kind."""
    with fronted(request.param, site.index) as opened:
        yield opened


# Paths, headers and bodies on their way through ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "url", "base"),
    [
        (rest_event(path="/pypi/acme/json"), None, "https://abc.execute-api.eu-central-1.amazonaws.com/dev/"),
        (rest_event(path="/pypi/acme/json", domain="localhost:3000"), None, "https://localhost:3000/dev/"),
        (
            rest_event(path="/pypi/acme/json", domain="pypi.acme.org", whole_path="/pypi/acme/json"),
            None,
            "https://pypi.acme.org/",
        ),
        (
            rest_event(path="/own/pypi/acme/json", domain="acme.org", whole_path="/own/pypi/acme/json"),
            "https://acme.org/own/",
            "https://acme.org/own/",
        ),
        (rest_event(path="/pypi/acme/json"), "https://acme.org/own/", "https://acme.org/own/"),
        (http_event(path="/pypi/acme/json"), None, "https://abc.execute-api.eu-central-1.amazonaws.com/"),
        (
            http_event(path="/v1/pypi/acme/json", stage="v1"),
            None,
            "https://abc.execute-api.eu-central-1.amazonaws.com/v1/",
        ),
        (http_event(path="/own/pypi/acme/json"), "https://acme.org/own", "https://acme.org/own/"),
    ],
)
def test_the_application_knows_where_it_is_mounted(
    site: Site, tmp_path: Path, event: dict[str, Any], url: str | None, base: str
) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    site.drop(wheel)
    host = event["requestContext"]["domainName"].replace("abcdef1234", "abc")
    for headers in filter(None, (event["headers"], event.get("multiValueHeaders"))):
        several = headers is event.get("multiValueHeaders")
        headers |= {
            "Host": [host] if several else host,
            "Authorization": [CREDENTIALS[1]] if several else CREDENTIALS[1],
        }
    answer = make_handler(site.index, url=url)(event, None)
    assert answer["statusCode"] == 200, answer
    assert [file["url"] for file in json.loads(answer["body"])["urls"]] == [f"{base}packages/acme/{wheel.name}"]


@pytest.mark.parametrize(
    ("event", "location"),
    [
        (rest_event(path="/", whole_path="/dev"), "dev/"),
        (rest_event(path="/simple"), "simple/"),
        (rest_event(path="/simple/Acme/"), "../acme/"),
        (http_event(path="/simple/a%2Ecme"), "a-cme/"),
    ],
)
def test_redirects_are_relative(site: Site, event: dict[str, Any], location: str) -> None:
    event["headers"]["Authorization"] = CREDENTIALS[1]
    if "multiValueHeaders" in event:
        event["multiValueHeaders"]["Authorization"] = [CREDENTIALS[1]]
    answer = make_handler(site.index)(event, None)
    assert (answer.get("multiValueHeaders") or answer["headers"])["Location"] in (location, [location])


@pytest.mark.parametrize("quoted", ["acme-1.0%2Blocal.1-py3-none-any.whl", "acme-1.0+local.1-py3-none-any.whl"])
def test_paths_are_decoded_once_and_bytes_come_through_as_they_are(front: Front, tmp_path: Path, quoted: str) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0+local.1", extra_files={"all": bytes(range(256)) * 50})
    assert front.upload(wheel).status_code == 200
    assert front.ask(f"/packages/acme/{quoted}").content == wheel.read_bytes()
    part = front.ask(f"/packages/acme/{quoted}", headers={"Range": "bytes=10-99"})
    assert (part.status_code, part.content) == (206, wheel.read_bytes()[10:100])


def test_core_metadata_comes_through_byte_for_byte_even_if_it_is_not_utf_8(front: Front, tmp_path: Path) -> None:
    core_metadata = make_core_metadata("acme", "1.0", description="\ufeffä\r\n") + b"\xff\xfe\x00"
    wheel = make_wheel(tmp_path, "acme", "1.0", core_metadata=core_metadata)
    assert front.upload(wheel).status_code == 200
    assert front.ask(f"/packages/acme/{wheel.name}.metadata").content == core_metadata


@pytest.mark.parametrize("accept", [JSON, HTML, "text/html"])
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_pages_are_the_same_as_without_a_gateway(
    site: Site, front: Front, tmp_path: Path, accept: str, encoding: str
) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    site.decide("acme", json.dumps({"yanked": {"1.0": 'ä "quoted" \u2028 <reason> \x1f'}}))
    for path in ("/simple/", "/simple/acme/"):
        direct = site.get(path, accept=accept, accept_encoding=encoding)
        headers = {"Accept": accept, "Accept-Encoding": encoding}
        through = front.ask(path, headers=headers)
        assert through.content == (gzip.decompress(direct.data) if encoding == "gzip" else direct.data)
        for name in ("Content-Type", "Content-Encoding", "ETag", "Vary", "Cache-Control"):
            assert through.headers.get(name) == direct.headers.get(name)
        unchanged = front.ask(path, headers=headers | {"If-None-Match": direct.headers["ETag"]})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        head = front.ask(path, method="HEAD", headers=headers)
        assert (head.status_code, head.headers["ETag"], head.content) == (200, direct.headers["ETag"], b"")


def test_only_what_is_not_text_is_made_a_third_longer(site: Site, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    site.drop(wheel)
    for path, headers, is_encoded in (
        ("/simple/acme/", [("Accept", JSON)], False),
        ("/simple/acme/", [("Accept", HTML)], False),
        ("/simple/acme/", [("Accept", "text/html")], False),
        ("/simple/acme/", [("Accept", JSON), ("Accept-Encoding", "gzip")], True),
        ("/pypi/acme/json", [], False),
        ("/api/v1/projects", [], False),
        (f"/packages/acme/{wheel.name}", [], True),
        (f"/packages/acme/{wheel.name}.metadata", [], True),
    ):
        for event in (
            rest_event(path=path, headers=[CREDENTIALS, *headers]),
            http_event(path=path, headers=[CREDENTIALS, *headers]),
        ):
            answer = make_handler(site.index)(event, None)
            assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, is_encoded), (path, headers)


def test_who_gives_no_credentials_is_asked_for_them(front: Front) -> None:
    answer = front.ask("/simple/", user=None)
    name = "WWW-Authenticate" if isinstance(front.gateway, HttpGateway) else "x-amzn-Remapped-WWW-Authenticate"
    assert (answer.status_code, answer.headers[name]) == (401, 'Basic realm="elasticpypi", charset="UTF-8"')
    assert front.ask("/health", user=None).status_code == 200


# What is no request, and what breaks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"source": "aws.events"},
        {"_serverless-wsgi": {"command": "exec", "data": "print('mine')"}},
        {"Records": [{"eventSource": "aws:s3"}]},
        {"requestPath": "/simple/", "method": "GET", "headers": {}},
        {"requestContext": {"elb": {}}, "httpMethod": "GET", "path": "/simple/", "headers": {}},
        {"version": "2.0", "requestContext": {"connectionId": "a"}},
    ],
)
def test_what_is_no_request_is_refused_in_words(site: Site, event: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="through API Gateway"):
        make_handler(site.index)(event, None)


class Failing:
    """A catalog or storage of which one method fails."""

    def __init__(self, adapter: object, method: str, error: Exception) -> None:
        self._adapter, self._method, self._error = adapter, method, error

    def __getattr__(self, name: str) -> Any:
        if name != self._method:
            return getattr(self._adapter, name)

        def fail(*_: object, **__: object) -> Any:
            raise self._error

        return fail


def test_an_error_that_nobody_has_thought_of_tells_strangers_nothing(site: Site) -> None:
    catalog = Failing(site.index._catalog, "revision", RuntimeError("secret"))  # noqa: SLF001
    log = io.StringIO()
    handler = make_handler(Index(cast(Any, catalog), site.index._storage), log=log)  # noqa: SLF001
    with RestGateway(handler) as gateway:
        answer = Front(gateway, log).ask("/simple/acme/")
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    assert "log of the index" in answer.text
    assert json.loads(log.getvalue())["status"] == 500


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("port", "method", "path"),
    [
        ("catalog", "revision", "/simple/acme/"),
        ("catalog", "page", "/simple/acme/"),
        ("catalog", "project", "/simple/acme/"),
        ("catalog", "root_revision", "/simple/"),
        ("catalog", "root", "/simple/"),
        ("catalog", "is_complete", "/simple/nothing/"),
        ("catalog", "entries_named", "/packages/acme/acme-1.0-py3-none-any.whl"),
        ("catalog", "core_metadata", "/packages/acme/acme-1.0-py3-none-any.whl.metadata"),
        ("storage", "download", "/packages/acme/acme-1.0-py3-none-any.whl"),
        ("catalog", "project", "/pypi/acme/json"),
        ("catalog", "check", "/health"),
    ],
)
def test_what_fails_is_asked_for_again_later(
    site: Site, tmp_path: Path, kind: str, port: str, method: str, path: str
) -> None:
    site.drop(make_wheel(tmp_path, "acme", "1.0"))
    catalog, storage = cast(Any, site.index._catalog), cast(Any, site.index._storage)  # noqa: SLF001
    if port == "catalog":
        catalog = Failing(catalog, method, CatalogError("throttled at 10.0.0.7"))
    else:
        storage = Failing(storage, method, StorageError("throttled at 10.0.0.7"))
    with fronted(kind, Index(catalog, storage)) as front:
        answer = front.ask(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "10.0.0.7" not in answer.text


def test_an_upload_that_meets_a_storage_which_fails_is_sent_again(site: Site, tmp_path: Path) -> None:
    storage = Failing(site.index._storage, "receive", StorageError("throttled"))  # noqa: SLF001
    with fronted("rest", Index(site.index._catalog, cast(Any, storage))) as front:  # noqa: SLF001
        answer = front.upload(make_wheel(tmp_path, "acme", "1.0"))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert site.json("/simple/")["projects"] == []


def test_each_request_leaves_one_line(front: Front) -> None:
    front.ask("/simple/?token=secret", headers={"Accept": JSON})
    front.ask("/simple/n%C3%B6thing%0A/", user="reader")
    front.ask("/simple/", user=None)
    lines = front.lines()
    seen = [(line["method"], line["path"], line["status"], line.get("principal")) for line in lines]
    path = "/simple/n\u00c3\u00b6thing\n/"
    assert seen == [("GET", "/simple/", 200, "admin"), ("GET", path, 404, "reader"), ("GET", "/simple/", 401, None)]
    assert all(line["request_id"] and line["seconds"] >= 0 for line in lines)
    assert "secret" not in front.log.getvalue()
    assert front.log.getvalue().count("\n") == 3


def test_wrong_credentials_are_counted_where_they_were_sent(front: Front) -> None:
    front.ask("/simple/", user="hunter2")
    with requests.Session() as session:
        session.trust_env = False
        session.get(f"{front.gateway.url}/simple/", auth=("admin", "hunter2"), headers={"Connection": "close"})
    front.ask("/simple/", user=None)
    told = [[line.get(name) for name in ("FailedSignIns", "address", "username")] for line in front.lines()]
    address = told[0][1]
    assert told == [[1, address, None], [1, address, "admin"], [None, None, None]]
    assert address not in (None, "", "-")
    assert "hunter2" not in front.log.getvalue()


# Limits ---------------------------------------------------------------------------------------------------------------


def test_an_upload_that_a_rest_api_does_not_carry_is_told_what_does(site: Site, tmp_path: Path) -> None:
    sentence = "use elasticpypi upload"
    template = {
        "Resources": {
            "TooLarge": {
                "Type": "AWS::ApiGateway::GatewayResponse",
                "Properties": {
                    "ResponseType": "REQUEST_TOO_LARGE",
                    "StatusCode": "413",
                    "ResponseTemplates": {"text/plain": sentence},
                },
            },
            "Slow": {
                "Type": "AWS::ApiGateway::GatewayResponse",
                "Properties": {
                    "ResponseType": "INTEGRATION_TIMEOUT",
                    "StatusCode": "503",
                    "ResponseParameters": {"gatewayresponse.header.Retry-After": "'5'"},
                },
            },
        }
    }
    responses = read_gateway_responses(template)
    assert responses["INTEGRATION_TIMEOUT"] == GatewayResponse(503, {"Retry-After": "5"})
    small = make_wheel(tmp_path, "acme", "1.0", extra_files={"data": incompressible(4_300_000)})
    with RestGateway(make_handler(site.index), responses=responses) as gateway:
        front = Front(gateway, io.StringIO())
        assert front.upload(small).status_code == 200
        for size in (5_000_000, 11_000_000):
            answer = front.ask("/legacy/", method="POST", data=b"x" * size)
            assert (answer.status_code, answer.headers["Content-Type"], answer.text) == (413, "text/plain", sentence)
        gateway.to_fail.append("INTEGRATION_TIMEOUT")
        slow = front.ask("/simple/")
        assert (slow.status_code, slow.headers["Retry-After"]) == (503, "5")
    with fronted("http", site.index) as front:
        answer = front.ask("/legacy/", method="POST", data=b"x" * 5_000_000)
        assert (answer.status_code, answer.json()) == (413, {"message": "Request Entity Too Large"})


def incompressible(size: int) -> bytes:
    return random.Random(7).randbytes(size)


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_answer_is_one_that_comes_through(kind: str) -> None:
    def answering(body: str, *, encoded: bool) -> Callable[..., dict[str, Any]]:
        headers = {"Content-Type": "text/plain", "X": "x" * 8000}
        return lambda *_: {"statusCode": 200, "headers": headers, "body": body, "isBase64Encoded": encoded}

    most = base64.b64encode(bytes(LARGEST_ANSWER // 4 * 3)).decode()
    make = {"rest": RestGateway, "http": HttpGateway}[kind]
    for body, encoded, status in (
        (most, True, 200),
        ("x" * LARGEST_ANSWER, False, 200),
        ("x" * LAMBDA_BYTES, False, 502 if kind == "rest" else 500),
    ):
        with make(answering(body, encoded=encoded)) as gateway:
            assert Front(gateway, io.StringIO()).ask("/").status_code == status


def fill(site: Site, directory: Path, count: int) -> None:
    for number in range(count):
        site.drop(make_wheel(directory, "acme", f"1.{number}", description="words " * 100))


def test_what_is_too_large_goes_compressed_or_is_refused_in_words(site: Site, tmp_path: Path) -> None:
    fill(site, tmp_path, 20)
    with fronted("http", site.index, url="http://localhost/", largest_answer=6000) as front:
        whole = site.get("/pypi/acme/json")
        assert len(whole.data) > 6000
        answer = front.ask("/pypi/acme/json", headers={"Accept-Encoding": "gzip"})
        assert (answer.status_code, answer.headers["Content-Encoding"], answer.json()) == (200, "gzip", whole.json)
        assert answer.headers["ETag"] == f"W/{whole.headers['ETag']}"
        unchanged = front.ask(
            "/pypi/acme/json", headers={"Accept-Encoding": "gzip", "If-None-Match": answer.headers["ETag"]}
        )
        assert unchanged.status_code == 304
        refused = front.ask("/api/v1/projects/acme", headers={"Accept-Encoding": "identity"})
        assert (refused.status_code, refused.json()["error"]) == (501, "answer-too-large")
        assert "elasticpypi serve" in refused.json()["message"]


# Pages that are too large ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CloudSite:
    """An index on S3 and DynamoDB."""

    index: Index
    cloud: Cloud
    bucket: str
    table: str

    def index_of_another_process(self, *, largest_page: int | None = None) -> Index:
        return open_cloud(self.cloud, self.bucket, self.table, largest_page=largest_page)

    def drop(self, file: Path, project: str = "acme") -> None:
        key = f"{project}/{file.name}"
        self.cloud.aws.s3.put_object(Bucket=self.bucket, Key=key, Body=file.read_bytes(), ChecksumAlgorithm="SHA256")
        self.index.reconcile(key)

    def kept(self) -> list[str]:
        found = self.cloud.aws.s3.list_objects_v2(Bucket=self.bucket, Prefix=".elasticpypi/pages/")
        return [each["Key"] for each in found.get("Contents", [])]


def open_cloud(cloud: Cloud, bucket: str, table: str, *, largest_page: int | None = None) -> Index:
    catalog = DynamoDBCatalog(cloud.aws, table)
    if largest_page is not None:
        catalog.largest_page = largest_page
    return Index(catalog, S3Storage(cloud.aws, bucket))


@pytest.fixture
def cloud_site(cloud: Cloud) -> CloudSite:
    bucket, table = cloud.make_bucket(), cloud.make_table()
    index = open_cloud(cloud, bucket, table)
    index.sync()
    return CloudSite(index, cloud, bucket, table)


def fetch(redirect: requests.Response) -> requests.Response:
    """Get what an answer redirects to, as a stranger."""
    with requests.Session() as session:
        session.trust_env = False
        return session.get(redirect.headers["Location"], headers={"Connection": "close"}, timeout=60)


def test_who_asks_for_a_page_that_is_too_large_is_sent_to_where_it_lies(cloud_site: CloudSite, tmp_path: Path) -> None:
    for number in range(20):
        cloud_site.drop(make_wheel(tmp_path, "acme", f"1.{number}"))
    with fronted("rest", cloud_site.index, largest_answer=1500) as front:
        for accept, encoding in ((JSON, "gzip"), (JSON, "identity"), (HTML, "gzip"), ("text/html", "gzip")):
            headers = {"Accept": accept, "Accept-Encoding": encoding}
            answer = front.ask("/simple/acme/", headers=headers)
            assert (answer.status_code, answer.headers["Cache-Control"], answer.content) == (302, "no-store", b"")
            page = fetch(answer)
            assert page.headers["Content-Type"].partition(";")[0] == accept
            assert page.text.count(f"{front.gateway.url}/packages/acme/acme-1.") == 20
            head = front.ask("/simple/acme/", method="HEAD", headers=headers)
            assert (head.status_code, head.headers["Content-Type"].partition(";")[0]) == (200, accept)
            headers["If-None-Match"] = head.headers["ETag"]
            assert front.ask("/simple/acme/", headers=headers).status_code == 304
        assert front.ask("/simple/acme/", user="guest").status_code == 302
        assert front.ask("/simple/acme/", user=None).status_code == 401
    assert len(cloud_site.kept()) == 3  # of whom takes it compressed and of whom does not, it is the same one


def test_a_root_that_is_too_large_is_filtered_for_each_who_asks(cloud_site: CloudSite, tmp_path: Path) -> None:
    for name in ("acme", "acme-tools", "bolt"):
        cloud_site.drop(make_wheel(tmp_path, name, "1.0"), name)
    for accept, visible in ((JSON, '"name":"{}"'), (HTML, "/simple/{}/")):
        with fronted("http", cloud_site.index, largest_answer=10) as front:
            for user, names in (("admin", ["acme", "acme-tools", "bolt"]), ("guest", ["acme", "acme-tools"])):
                answer = front.ask("/simple/", user=user, headers={"Accept": accept})
                page = fetch(answer).text
                assert [name for name in ("acme", "acme-tools", "bolt") if visible.format(name) in page] == names
                assert (f'"{front.gateway.url}/simple/acme/"' in page) is (accept == HTML)


def test_a_page_that_was_removed_from_the_storage_is_made_again(cloud_site: CloudSite, tmp_path: Path) -> None:
    cloud_site.drop(make_wheel(tmp_path, "acme", "1.0"))
    for _ in range(2):
        with fronted("rest", cloud_site.index_of_another_process(), largest_answer=10) as front:
            page = fetch(front.ask("/simple/acme/"))
            assert (page.status_code, "acme-1.0" in page.text) == (200, True)
        for key in cloud_site.kept():
            cloud_site.cloud.aws.s3.delete_object(Bucket=cloud_site.bucket, Key=key)


@pytest.mark.parametrize("largest_page", [5, 1000])  # where only a mark is kept in the catalog, and where the page is
def test_a_page_that_is_kept_elsewhere_costs_three_calls_at_most(
    cloud_site: CloudSite, tmp_path: Path, largest_page: int
) -> None:
    cloud_site.drop(make_wheel(tmp_path, "acme", "1.0"))
    aws = cloud_site.cloud.aws
    index = cloud_site.index_of_another_process(largest_page=largest_page)
    with fronted("rest", index, largest_answer=10) as front:
        assert front.ask("/simple/acme/").status_code == 302
    gateway_url = front.gateway.url
    handler = make_handler(cloud_site.index_of_another_process(largest_page=largest_page), largest_answer=10)
    event = rest_event(path="/simple/acme/", headers=[CREDENTIALS, ("Host", gateway_url.split("/")[2])])
    event["multiValueHeaders"]["X-Forwarded-Proto"] = ["http"]
    for calls in (3, 1):
        with counting(aws.s3) as s3, counting(aws.dynamodb) as dynamodb:
            assert handler(event, None)["statusCode"] == 302
        assert s3.total() + dynamodb.total() == calls, (s3, dynamodb)


def test_a_page_that_was_too_large_is_rendered_once_when_it_changes(cloud_site: CloudSite, tmp_path: Path) -> None:
    cloud_site.drop(make_wheel(tmp_path, "acme", "1.0"))
    event = rest_event(path="/simple/acme/", headers=[CREDENTIALS, ("Accept", JSON)])
    for version, queries in (("1.1", 2), ("1.2", 1)):  # at first its size is found out
        cloud_site.drop(make_wheel(tmp_path, "acme", version))
        handler = make_handler(cloud_site.index_of_another_process(largest_page=5), largest_answer=10)
        with counting(cloud_site.cloud.aws.dynamodb) as dynamodb:
            answer = handler(event, None)
        assert (answer["statusCode"], dynamodb["Query"]) == (302, queries)


def test_a_page_between_both_limits_is_kept_in_the_storage_and_sent(cloud_site: CloudSite, tmp_path: Path) -> None:
    cloud_site.drop(make_wheel(tmp_path, "acme", "1.0"))
    aws = cloud_site.cloud.aws
    seen = []
    for calls in (None, 3):
        index = cloud_site.index_of_another_process(largest_page=10)
        with counting(aws.s3) as s3, counting(aws.dynamodb) as dynamodb:
            answer = make_handler(index)(rest_event(path="/simple/acme/", headers=[CREDENTIALS]), None)
        seen.append(answer["body"])
        assert calls is None or s3.total() + dynamodb.total() == calls, (s3, dynamodb)
    assert seen[0] == seen[1]
    assert len(cloud_site.kept()) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", ["pip", "uv"])
def test_installers_follow_to_a_page_that_is_too_large(
    cloud_site: CloudSite, tmp_path: Path, kind: str, client: str
) -> None:
    for number in range(10):
        cloud_site.drop(make_wheel(tmp_path, "acme", f"1.{number}+local.1"))
    with fronted(kind, cloud_site.index, largest_answer=600) as front:
        desk = Desk(tmp_path / "desk")
        outcome = INSTALLERS[client](desk, front.account, "acme")
        assert outcome.succeeded, outcome.output
        assert desk.installed()[NormalizedName("acme")] == "1.9+local.1"
        redirected = [request.path for request, answer in front.gateway.seen if answer.status == 302]
    assert any(path.endswith("/simple/acme/") for path in redirected)
    assert any("/packages/acme/" in path for path in redirected)


@pytest.mark.parametrize("kind", KINDS)
def test_twine_uploads_through_a_gateway_and_pip_installs_at_once(
    cloud_site: CloudSite, tmp_path: Path, kind: str
) -> None:
    with fronted(kind, cloud_site.index) as front:
        desk = Desk(tmp_path / "desk")
        files = [make_wheel(desk.dist, "acme", "1.0"), make_sdist(desk.dist, "acme", "1.0")]
        for path in ("/legacy/", "/simple/", "/legacy"):  # the second and the third change nothing
            outcome = UPLOADERS["twine"](desk, front.account, path, files)
            assert outcome.succeeded, outcome.output
        assert set(front.account.listed("acme")) == {file.name for file in files}
        assert INSTALLERS["pip"](desk, front.account, "acme").succeeded
        assert desk.installed()[NormalizedName("acme")] == "1.0"


# The function itself --------------------------------------------------------------------------------------------------

NOT_NEEDED = ("sqlite3", "prometheus_client", "requests", "granian", "watchfiles", "boto3", "s3transfer")
RUN = """
import json, sys
from elasticpypi.handler.api import handle
answers = [handle(event, None) for event in json.load(sys.stdin)]
print(json.dumps([answers, [name for name in {named!r} if name in sys.modules]]))
"""


def run_function(
    cloud_site: CloudSite,
    home: Path,
    events: list[dict[str, Any]],
    *,
    named: Sequence[str] = NOT_NEEDED,
    **extra: str,
) -> list[Any]:
    """Have events answered by the function in a process of its own; return the answers, and which it has loaded of
    the modules that are named.
    """
    environment = bare_environment(
        home,
        {
            **cloud_site.cloud.environment,
            "ELASTICPYPI_BUCKET": cloud_site.bucket,
            "ELASTICPYPI_TABLE": cloud_site.table,
            "ELASTICPYPI_USERNAME": "admin",
            "ELASTICPYPI_PASSWORD": "secret",
            **extra,
        },
    )
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(named=tuple(named))],
        cwd=Path(__file__).parents[1],
        env=environment,
        input=json.dumps(events),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_function_is_told_everything_by_variables_and_loads_what_it_needs(
    cloud_site: CloudSite, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    cloud_site.drop(wheel)
    paths = ("/simple/", "/simple/acme/", f"/packages/acme/{wheel.name}", "/health")
    events = [rest_event(path=path, headers=[CREDENTIALS, ("Accept", JSON)]) for path in paths]
    answers, loaded = run_function(cloud_site, tmp_path / "home", events)
    assert [answer["statusCode"] for answer in answers] == [200, 200, 302, 200]
    assert json.loads(answers[1]["body"])["files"][0]["filename"] == wheel.name
    assert loaded == []


ROUTES = {"elasticpypi.web.routes", "flask", "jinja2"}
OF_UPSTREAMS = {"elasticpypi.upstream.connecting", "pypi_simple"}
FOR_OTHERS = (*ROUTES, *OF_UPSTREAMS, "elasticpypi.metadata", "tarfile")
STARTS = [
    ("on-demand", "/simple/acme/", 200, set()),  # nothing but what a page needs
    ("on-demand", "/simple/Acme/", 301, ROUTES),  # what the routes need
    ("snap-start", "/simple/acme/", 200, ROUTES),  # as a snapshot has it
]


@pytest.mark.parametrize(("kind", "path", "status", "expected"), STARTS)
def test_a_page_does_not_wait_for_what_other_requests_need(
    cloud_site: CloudSite, tmp_path: Path, kind: str, path: str, status: int, expected: set[str]
) -> None:
    cloud_site.drop(make_wheel(tmp_path, "acme", "1.0"))
    events = [rest_event(path=path, headers=[CREDENTIALS, ("Accept", JSON)])]
    (answer,), loaded = run_function(
        cloud_site, tmp_path / "home", events, named=FOR_OTHERS, AWS_LAMBDA_INITIALIZATION_TYPE=kind
    )
    assert answer["statusCode"] == status
    assert set(loaded) == expected


@pytest.mark.parametrize("kind", ["on-demand", "snap-start"])
def test_what_reads_pages_of_upstreams_is_loaded_with_the_first_of_them(
    cloud_site: CloudSite, tmp_path: Path, kind: str
) -> None:
    cloud_site.drop(make_wheel(tmp_path, "acme", "1.0"))
    with running_upstream() as upstream:
        upstream.add(make_wheel(tmp_path, "spam", "1.0"))
        variables = {
            "ELASTICPYPI_UPSTREAMS": json.dumps([write_upstream(upstream.configured())]),
            "ELASTICPYPI_OWN_NAMES": '["own-*"]',
            "AWS_LAMBDA_INITIALIZATION_TYPE": kind,
        }
        for paths, statuses, expected in (
            (("/simple/acme/", "/simple/own-name/"), [200, 404], set()),
            (("/simple/spam/",), [200], OF_UPSTREAMS),
        ):
            events = [rest_event(path=path, headers=[CREDENTIALS, ("Accept", JSON)]) for path in paths]
            answers, loaded = run_function(cloud_site, tmp_path / "home", events, named=[*OF_UPSTREAMS], **variables)
            assert [answer["statusCode"] for answer in answers] == statuses
            assert set(loaded) == expected


def test_a_function_collects_garbage_once_it_has_started(cloud_site: CloudSite, tmp_path: Path) -> None:
    program = "import gc, elasticpypi.handler.events; print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    variables = {
        **cloud_site.cloud.environment,
        "ELASTICPYPI_BUCKET": cloud_site.bucket,
        "ELASTICPYPI_TABLE": cloud_site.table,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        env=bare_environment(tmp_path / "home", variables),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "True"]


def test_an_upload_that_takes_long_is_put_into_the_queue(cloud_site: CloudSite, tmp_path: Path) -> None:
    sqs = cloud_site.cloud.aws.sqs
    queue = sqs.create_queue(QueueName=cloud_site.bucket)["QueueUrl"]
    sdist = make_sdist(tmp_path, "acme", "1.0", extra_files={"data": incompressible(70 * 2**20)})
    data = sdist.read_bytes()
    slot = {"filename": sdist.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    handler = make_handler(cloud_site.index)
    headers = [CREDENTIALS, ("Content-Type", "application/json")]
    begun = handler(
        rest_event(method="POST", path="/api/v1/uploads", headers=headers, body=json.dumps(slot).encode()), None
    )
    described = json.loads(begun["body"])
    for put in described["puts"]:
        with requests.Session() as session:
            session.trust_env = False
            put_headers = {"Connection": "close", **put["headers"]}
            assert session.put(put["url"], data=data, headers=put_headers, timeout=60).status_code == 200
    finish = rest_event(method="POST", path=f"/api/v1/{described['finish-url']}", headers=[CREDENTIALS])
    (answer,), _ = run_function(cloud_site, tmp_path / "home", [finish], QUEUE_URL=queue)
    assert answer["statusCode"] == 202, answer
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    cloud_site.index.finish_upload(json.loads(message["Body"])["finish"])
    assert sdist.name in json.dumps(cloud_site.index.describe(NormalizedName("acme")))
