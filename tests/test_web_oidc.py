"""`/_/oidc/` and `/api/v1/publishers`: jobs get tokens without credentials, administrators say which; real clients."""

from __future__ import annotations

import itertools
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml  # type: ignore[import-untyped]
from cryptography import x509
from werkzeug.test import TestResponse

from elasticpypi.web.oidc import ENDPOINTS
from tests.clients import Desk
from tests.dists import make_wheel
from tests.issuers import DISCOVERY, Issuer, issuing, send, write_certificate
from tests.programs import require
from tests.running import RunningServer, serving, wait_for
from tests.site import Site, routes_of
from tests.test_running import BIN, Front, nginx
from tests.test_web_api import call

AUDIENCE_PATH, MINT_PATH = "/_/oidc/audience", "/_/oidc/mint-token"
WIDGET = {"provider": "github", "repository": "acme/widget", "workflow": "release.yml", "projects": ["widget"]}
TOOLS = {
    "provider": "gitlab",
    "repository": "acme/tools/widget",
    "workflow": ".gitlab-ci.yml",
    "projects": ["tools-*"],
}
both_worlds = pytest.mark.both_worlds
DOCS = Path(__file__).parent.parent / "docs" / "trusted-publishing.md"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


def register(site: Site, issuer: Issuer, fields: Mapping[str, Any] = WIDGET) -> str:
    """Register a publisher and return the audience."""
    answer = call(site, "POST", "/api/v1/publishers", {**fields, "issuer": issuer.url})
    assert answer.status_code == 201, answer.text
    audience: str = site.get(AUDIENCE_PATH, user=None).json["audience"]  # type: ignore[index]
    return audience


def mint(site: Site, body: object, **headers: str) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return site.client.post(MINT_PATH, data=data, headers=headers, buffered=True)


def refusal(answer: TestResponse) -> tuple[int, str]:
    """Return status and code, of an answer that has PyPI's form."""
    document = answer.json
    assert document is not None
    (error,) = document["errors"]
    assert document == {"message": error["description"], "errors": [error]}
    assert set(error) == {"code", "description"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.status.partition(" ")[2] == error["description"].encode("ascii", "replace").decode()
    return answer.status_code, error["code"]


# Tokens for jobs -------------------------------------------------------------------------------------------------


@both_worlds
def test_a_job_publishes_its_projects_and_no_others(site: Site, issuer: Issuer, tmp_path: Path) -> None:
    audience = register(site, issuer)
    minted = mint(site, {"token": issuer.token(audience)})
    assert (minted.status_code, minted.mimetype, minted.headers["Cache-Control"]) == (
        200,
        "application/json",
        "no-store",
    )
    assert minted.json is not None
    assert (set(minted.json), minted.json["success"]) == ({"success", "token"}, True)
    for name, status in (("widget", 200), ("gadget", 403)):
        wheel = make_wheel(tmp_path, name)
        answer = site.client.post(
            "/legacy/",
            data={
                ":action": "file_upload",
                "name": name,
                "version": "1.0",
                "filetype": "bdist_wheel",
                "content": (wheel.open("rb"), wheel.name),
            },
            auth=("__token__", minted.json["token"]),
        )
        assert answer.status_code == status, answer.text
    shown = site.json("/simple/")["projects"]
    assert [project["name"] for project in shown] == ["widget"]
    (event, *_) = site.index.audit.events(limit=1)
    assert (event.actor.name, event.action, event.project) == ("token:github:acme/widget", "upload", "widget")


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
def test_the_type_of_the_body_does_not_matter(site: Site, issuer: Issuer, content_type: str | None) -> None:
    token = issuer.token(register(site, issuer))
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert mint(site, {"token": token}, **headers).status_code == 200


@both_worlds
def test_an_id_token_is_refused_the_second_time(site: Site, issuer: Issuer) -> None:
    token = issuer.token(register(site, issuer))
    assert mint(site, {"token": token}).status_code == 200
    assert refusal(mint(site, {"token": token})) == (422, "invalid-reuse-token")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'"token"', b'{"token": 1}', b'{"token": null}', b"\xff", b"[" * 60_000, b" " * 70_000],
    ids=range(10),
)
def test_a_body_without_a_token_is_refused(site: Site, body: bytes) -> None:
    assert refusal(mint(site, body)) == (422, "invalid-payload")


def test_what_is_wrong_with_a_token_is_said_without_it(site: Site, issuer: Issuer) -> None:
    audience = register(site, issuer)
    for token, code in (
        (issuer.token("pypi"), "invalid-token"),
        (issuer.token(audience, exp=1), "invalid-token"),
        (issuer.token(audience, iss="https://stranger.example"), "invalid-token"),
        (issuer.token(audience, repository="<b>evil</b>\r\nx: y/ü"), "invalid-publisher"),
        ("x", "invalid-token"),
    ):
        answer = mint(site, {"token": token})
        assert refusal(answer) == (422, code)
        assert token == "x" or token.split(".")[1] not in answer.text


def test_an_issuer_that_does_not_answer_makes_it_503(site: Site, issuer: Issuer) -> None:
    token = issuer.token(register(site, issuer))
    issuer.behaviours[DISCOVERY] = lambda handler: send(handler, {}, status=500)
    answer = mint(site, {"token": token})
    assert refusal(answer) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0


@both_worlds
def test_without_publishers_there_is_no_audience(site: Site) -> None:
    assert refusal(site.get(AUDIENCE_PATH, user=None)) == (404, "not-enabled")
    assert refusal(mint(site, {"token": "x"})) == (422, "invalid-publisher")


def test_the_audience_is_not_what_a_client_makes_of_it(site: Site, issuer: Issuer) -> None:
    audience = register(site, issuer)
    answer = site.get(AUDIENCE_PATH, user=None, host="evil.example", x_forwarded_host="evil.example")
    assert answer.json == {"audience": audience}
    assert re.fullmatch(r"elasticpypi-[0-9a-f]{12}", audience)


def test_the_route_that_has_no_csrf_token_is_the_one_that_is_meant(site: Site) -> None:
    rules = {rule.endpoint: rule.rule for rule in routes_of(site.index).url_map.iter_rules()}
    assert [rules[endpoint] for endpoint in ENDPOINTS] == [MINT_PATH]


# Administrators --------------------------------------------------------------------------------------------------


@both_worlds
def test_administrators_register_list_and_remove(site: Site) -> None:
    assert call(site, "GET", "/api/v1/publishers").json == {"audience": None, "publishers": []}
    added = call(site, "POST", "/api/v1/publishers", {**WIDGET, "environment": "pypi", "owner-id": "4711"})
    assert added.json is not None
    assert (added.status_code, added.json) == (
        201,
        {
            **WIDGET,
            "id": added.json["id"],
            "issuer": "https://token.actions.githubusercontent.com",
            "environment": "pypi",
            "owner-id": "4711",
        },
    )
    listed = call(site, "GET", "/api/v1/publishers").json
    assert listed == {"audience": site.index.publishers.audience(), "publishers": [added.json]}
    path = f"/api/v1/publishers/{added.json['id']}"
    removed = call(site, "DELETE", path)
    assert (removed.status_code, removed.json) == (200, added.json)
    assert call(site, "DELETE", path).status_code == 404
    events = [(event.actor.name, event.action, event.target) for event in site.index.audit.events(limit=9)]
    assert events == [("admin", "remove-publisher", added.json["id"]), ("admin", "add-publisher", added.json["id"])]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provider": "circleci"}, "'provider' is 'circleci', not one of github, gitlab"),
        ({"provider": None}, "'provider' is 'None'"),
        ({"repository": None}, "the repository is ''"),
        ({"repository": 1}, "'repository' is not a string"),
        ({"owner-id": 4711}, "'owner-id' is not a string"),
        ({"projects": "widget"}, "'projects' is not a list of patterns"),
        ({"projects": [1]}, "'projects' has '1'"),
        ({"projects": []}, "'projects' is not a list"),
        ({"issuer": "http://127.0.0.1.example"}, "the issuer 'http://127.0.0.1.example' is not an https URL"),
    ],
)
def test_a_publisher_that_makes_no_sense_is_refused(site: Site, changes: dict[str, Any], message: str) -> None:
    answer = call(site, "POST", "/api/v1/publishers", {**WIDGET, **changes})
    assert answer.json is not None
    assert (answer.status_code, answer.json["error"]) == (400, "invalid-request")
    assert message in answer.json["message"]


def test_nobody_else_may(site: Site) -> None:
    made = call(site, "POST", "/api/v1/publishers", WIDGET).json
    for method, path in (
        ("GET", "/api/v1/publishers"),
        ("POST", "/api/v1/publishers"),
        ("DELETE", f"/api/v1/publishers/{made['id']}"),  # type: ignore[index]
    ):
        for user, status in (("writer", 403), ("reader", 403), ("team", 403), (None, 401)):
            assert call(site, method, path, TOOLS, user=user).status_code == status
    assert [each.repository for each in site.index.publishers.registered().publishers.values()] == ["acme/widget"]


@pytest.mark.parametrize(("projects", "statuses"), [(["*"], (200, 403, 200)), (["acme-*"], (403, 403, 403))])
def test_a_token_registers_nobody(site: Site, projects: list[str], statuses: tuple[int, ...]) -> None:
    made = call(site, "POST", "/api/v1/publishers", WIDGET).json
    document = {"name": "ours", "permission": "admin", "projects": projects}
    secret = site.send("POST", "/api/v1/tokens", document).json["token"]  # type: ignore[index]
    auth = ("__token__", secret)
    answers = (
        site.client.get("/api/v1/publishers", auth=auth),
        site.client.post("/api/v1/publishers", json=TOOLS, auth=auth),
        site.client.delete(f"/api/v1/publishers/{made['id']}", auth=auth),  # type: ignore[index]
    )
    assert tuple(answer.status_code for answer in answers) == statuses


# The command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [WIDGET, TOOLS], ids=["github", "gitlab"])
def test_the_command_prints_what_the_documentation_shows(site: Site, fields: dict[str, Any]) -> None:
    environment = ("--environment", "pypi") if fields is WIDGET else ()
    done = site.run(
        "publisher", "add", fields["provider"], "--repository", fields["repository"],
        "--workflow", fields["workflow"], "--project", fields["projects"][0], *environment,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    audience = site.index.publishers.audience()
    printed = done.stdout.replace(audience, "elasticpypi-0123456789ab")
    printed = printed.replace(audience.upper().replace("-", "_"), "ELASTICPYPI_0123456789AB")
    assert yaml.safe_load(printed) == yaml.safe_load(documented(fields["workflow"]))
    (made,) = site.index.publishers.registered().publishers
    assert made in done.stderr
    (event,) = site.index.audit.events(limit=9)
    assert (event.actor.credential, event.action, event.target) == ("command line", "add-publisher", made)


@both_worlds
def test_the_command_lists_and_removes(site: Site) -> None:
    words = ("--repository", "acme/widget", "--workflow", "release.yml", "--project", "widget", "--project", "acme-*")
    more = ("--environment", 'a "b"', "--owner-id", "4711", "--issuer", "https://ghe.example/_services/token")
    added = site.run("publisher", "add", "github", *words, *more, "--json")
    made = json.loads(added.stdout)
    audience = made.pop("audience")
    assert made["environment"] == 'a "b"'
    listed = json.loads(site.run("publisher", "list", "--json").stdout)
    assert listed == {"audience": audience, "publishers": [made]}
    assert site.run("publisher", "list").stdout == (
        f'{made["id"]}  github:acme/widget  (release.yml, environment a "b", owner 4711, '
        "from https://ghe.example/_services/token, publishes widget acme-*)\n"
    )
    assert site.run("publisher", "remove", made["id"]).stdout == f"removed: {made['id']}  github:acme/widget\n"
    again = site.run("publisher", "remove", made["id"], "--json")
    sentence = f"there is no publisher '{made['id']}' (`elasticpypi publisher list` names them)"
    assert (again.exit_code, again.stdout, again.stderr) == (1, "", f"Error: {sentence}\n")
    assert site.run("publisher", "list").stdout == ""


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--repository", "x", "the repository is 'x', and not such as acme/widget."),
        ("--workflow", "a", "the workflow is 'a', and not such as release.yml, a file in .github/workflows."),
        ("--environment", " ", "the environment is not a name of at most 255 printable characters; "),
        ("--owner-id", "acme", "the owner-id is 'acme', and not such as 1234567, a number that never changes."),
        ("--issuer", "http://x.example", "the issuer 'http://x.example' is not an https URL "),
        ("--project", "Acme", "'projects' has 'Acme'"),
    ],
)
def test_the_command_names_the_option_that_makes_no_sense(site: Site, option: str, value: str, says: str) -> None:
    words = {"--repository": "acme/widget", "--workflow": "a.yml", "--project": "x"} | {option: value}
    done = site.run("publisher", "add", "github", *itertools.chain.from_iterable(words.items()))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"Error: Invalid value for {option}: {says}" in done.stderr
    assert site.index.publishers.registered().publishers == {}


def test_the_command_names_the_configured_address_or_says_that_it_is_a_placeholder(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("publisher", "add", "github", "--repository", "a/b", "--workflow", "a.yml", "--project", "x")
    said = "https://pypi.example.com/ stands for the address of your index, as nothing has configured its `url`.\n"
    without = site.run(*words)
    assert without.stderr.endswith(said)
    assert "--publish-url https://pypi.example.com/legacy/\n" in without.stdout
    monkeypatch.setenv("ELASTICPYPI_URL", "https://acme.example/pypi/")
    configured = site.run(*words)
    assert "example.com" not in configured.output
    assert "--publish-url https://acme.example/pypi/legacy/\n" in configured.stdout


def documented(workflow: str) -> str:
    """Return the first example of a workflow in the documentation."""
    found = re.search(rf"^```yaml\n(# \S*{re.escape(workflow)}\n.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


# Real clients ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shop:
    """A server behind nginx, with the publishers above, and the issuer of their tokens."""

    front: Front
    issuer: Issuer
    audience: str

    @property
    def server(self) -> RunningServer:
        return self.front.server

    @property
    def publish_url(self) -> str:
        return f"{self.front.url}/legacy/"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("shop")
    proxy = root / "proxy"
    proxy.mkdir()
    proxy.chmod(0o755)
    with (
        issuing() as issuer,
        serving(root / "data", "--behind-proxy", home=root / "home") as server,
        nginx(server, proxy) as front,
    ):
        for fields in (WIDGET, TOOLS):
            added = requests.post(
                f"{server.url}/api/v1/publishers",
                json={**fields, "issuer": issuer.url},
                auth=(server.username, server.password),
                timeout=60,
            )
            assert added.status_code == 201, added.text
        audience = requests.get(f"{server.url}{AUDIENCE_PATH}", timeout=60).json()["audience"]
        yield Shop(front, issuer, audience)


def publish(shop: Shop, desk: Desk, wheel: Path, *command: str | Path, extra: Mapping[str, str]) -> None:
    """Run a command that publishes a wheel with a token that it was given for it."""
    before = len(minted(shop))
    outcome = desk.run(*command, extra=extra)
    assert outcome.succeeded, outcome.output
    project = wheel.name.split("-")[0].replace("_", "-")
    assert wheel.name in (shop.server.listing(project) or {})
    wait_for(lambda: len(minted(shop)), lambda count: count == before + 1)  # the log comes a little later
    assert re.findall(r"epypi_\w|eyJ[\w-]+\.", shop.server.output()) == []


def minted(shop: Shop) -> list[str]:
    return [line for line in shop.server.output().splitlines() if f"{MINT_PATH} 200" in line]


def uv_publish(shop: Shop) -> tuple[str | Path, ...]:
    return BIN / "uv", "publish", "--trusted-publishing", "always", "--publish-url", shop.publish_url


def test_uv_publishes_from_github(shop: Shop, desk: Desk) -> None:
    wheel = make_wheel(desk.dist, "widget", "1.0")
    publish(shop, desk, wheel, *uv_publish(shop), extra={**shop.front.trusted, **shop.issuer.github_actions})


def test_uv_is_told_why_it_may_not(shop: Shop, desk: Desk) -> None:
    make_wheel(desk.dist, "gadget", "1.0")
    variables = shop.issuer.gitlab_ci(shop.audience, project_path="acme/other")
    outcome = desk.run(*uv_publish(shop), extra={**shop.front.trusted, **variables})
    assert not outcome.succeeded
    assert outcome.says("no trusted publisher of this index fits its job (project_path 'acme/other'"), outcome.output


def test_uv_publishes_from_gitlab_once(shop: Shop, desk: Desk) -> None:
    wheel = make_wheel(desk.dist, "tools-a", "1.0")
    variables = {**shop.front.trusted, **shop.issuer.gitlab_ci(shop.audience)}
    publish(shop, desk, wheel, *uv_publish(shop), extra=variables)
    again = desk.run(*uv_publish(shop), extra=variables)
    assert not again.succeeded
    assert again.says("it was used already"), again.output


def test_twine_publishes_from_gitlab_as_the_documentation_has_it(shop: Shop, desk: Desk) -> None:
    require("curl")
    wheel = make_wheel(desk.dist, "tools-b", "1.0")
    (found,) = re.findall(r"^```yaml\n(  script:\n.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -e", *yaml.safe_load(found)["script"]])
    script = script.replace("https://pypi.example.com/_/", f"{shop.front.url.removesuffix('/pypi')}/_/")
    script = script.replace("https://pypi.example.com/legacy/", shop.publish_url)
    script = script.replace("ELASTICPYPI_0123456789AB", shop.audience.upper().replace("-", "_"))
    variables = {**shop.front.trusted, **shop.issuer.gitlab_ci(shop.audience)}
    variables["CURL_CA_BUNDLE"] = shop.front.trusted["SSL_CERT_FILE"]
    variables["PATH"] = f"{BIN}:/usr/bin:/bin"
    publish(shop, desk, wheel, "/bin/bash", "-c", script, extra=variables)


@pytest.mark.heavy
def test_pdm_publishes_from_github(shop: Shop, desk: Desk) -> None:
    wheel = make_wheel(desk.dist, "widget", "3.0")
    desk.make_environment()
    project = '[project]\nname = "widget"\nversion = "3.0"\nrequires-python = ">=3.11"\n'
    desk.project.joinpath("pyproject.toml").write_text(project)
    command = (BIN / "pdm", "publish", "--no-build", "-r", shop.publish_url)
    publish(shop, desk, wheel, *command, extra={**shop.front.trusted, **shop.issuer.github_actions})


def test_twine_itself_asks_as_we_answer(shop: Shop, desk: Desk, tmp_path: Path) -> None:
    """As of 7.0 it asks pypi.org and nobody else: so somebody on the way has to answer in its place."""
    wheel = make_wheel(desk.dist, "widget", "2.0")
    command = (BIN / "twine", "upload", "--non-interactive", "--disable-progress-bar", wheel)
    with posing_as("upload.pypi.org", shop.server.port, tmp_path) as variables:
        publish(shop, desk, wheel, *command, extra={**shop.issuer.github_actions, **variables})


@contextmanager
def posing_as(host: str, port: int, directory: Path) -> Iterator[dict[str, str]]:
    """Run a proxy that takes every connection for one to a host, and a server on loopback for that host.

    Yields the variables that make clients of requests use and trust it.
    """
    certificate = write_certificate(x509.DNSName(host), directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=accept, args=(listening, context, port))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            yield {"HTTPS_PROXY": url, "https_proxy": url, "REQUESTS_CA_BUNDLE": str(certificate)}
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    handlers = []
    with suppress(OSError):  # when it is shut down
        while True:
            connection, _ = listening.accept()
            handlers.append(threading.Thread(target=hand_on, args=(connection, context, port)))
            handlers[-1].start()
    for handler in handlers:
        handler.join()


def hand_on(connection: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Hand one request on, and its answer back."""
    with connection:
        connection.settimeout(30)
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with (
            context.wrap_socket(connection, server_side=True) as client,
            socket.create_connection(("127.0.0.1", port), timeout=30) as server,
        ):
            head, _, body = read_until(client, b"\r\n\r\n")
            length = int((re.search(rb"(?i)content-length: (\d+)", head) or [b"", b"0"])[1])
            while len(body) < length:
                body += client.recv(65536)
            head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)
            server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            while data := server.recv(65536):
                client.sendall(data)


def read_until(stream: socket.socket, end: bytes) -> tuple[bytes, bytes, bytes]:
    data = b""
    while end not in data:
        received = stream.recv(65536)
        assert received, data
        data += received
    return data.partition(end)
