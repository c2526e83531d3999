"""docs/examples/cloudfront-function.js, run in Node: what becomes of a request."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.static_serving import EXAMPLES, Function, function, with_replaced
from tests.test_site_serving import ACCEPTED, PIP, preferred_form

CODE = (EXAMPLES / "cloudfront-function.js").read_text()
NO_HEADERS: Mapping[str, str] = {}
LOCKED = 'const AUTHORIZATIONS = ["{}"];'
OPEN = "const AUTHORIZATIONS = [];"
NO_PREFIX = 'const PREFIX = "";'


@pytest.fixture(scope="module")
def viewer_request(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    with function(CODE, tmp_path_factory.mktemp("function")) as running:
        yield running


def outcome(answer: Mapping[str, Any]) -> str:
    """Return the path that the origin is asked for, or the status, with the place where a redirect leads."""
    if "statusCode" not in answer:
        uri: str = answer["uri"]
        return uri
    location = answer.get("headers", {}).get("location")
    return str(answer["statusCode"]) if location is None else f"{answer['statusCode']} {location['value']}"


WHEEL = "acme-1.0%2Blocal.1-py3-none-any.whl"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/", "/index.html"),
        ("/index.html", "/index.html"),
        ("/simple", "301 simple/"),
        ("/simple/", "/simple/index.json"),
        ("/simple/index.html", "/simple/index.html"),
        ("/simple/index.json", "/simple/index.json"),
        ("/simple/acme", "301 acme/"),
        ("/simple/acme/", "/simple/acme/index.json"),
        ("/simple/acme/index.json", "/simple/acme/index.json"),
        ("/simple/Acme._-Tools/", "301 ../acme-tools/"),
        ("/simple/Acme._-Tools", "301 acme-tools/"),
        ("/simple/acme--tools/", "301 ../acme-tools/"),
        ("/simple/a%63me/", "/simple/a%63me/index.json"),
        ("/simple/acme%20tools/", "/simple/acme%20tools/index.html"),  # nothing lies there
        ("/simple/acme%0d%0aX-Header:%20x", "/simple/acme%0d%0aX-Header:%20x"),
        ("/simple/%ff/", "404"),
        ("/project/acme", "301 acme/"),
        ("/project/Acme/", "301 ../acme/"),
        ("/project/acme/", "/project/acme/index.html"),
        ("/changelog", "301 changelog/"),
        ("/changelog/", "/changelog/index.html"),
        ("/changelog/page1.html", "/changelog/page1.html"),
        ("/pypi/acme/json", "/pypi/acme/json"),
        ("/pypi/Acme_Tools/json", "301 ../acme-tools/json"),
        ("/pypi/acme/1!2.0+local.1/json", "/pypi/acme/1!2.0%2Blocal.1/json"),
        ("/pypi/Acme/1.0+local.1/json", "301 ../../acme/1.0%2Blocal.1/json"),
        ("/pypi/simple/json", "/pypi/simple/json"),
        (f"/packages/acme/{WHEEL}", f"/acme/{WHEEL}"),
        (f"/packages/acme/{WHEEL.replace('%2B', '+')}", f"/acme/{WHEEL}"),
        (f"/packages/acme/{WHEEL}.metadata", f"/packages/acme/{WHEEL}.metadata"),
        ("/packages/acme-1.0.tar.gz", "/acme-1.0.tar.gz"),
        ("/packages/acme/project.json", "404"),
        ("/packages/acme/", "404"),
        ("/packages/", "404"),
        ("/packages", "/packages"),
        ("/packages/.elasticpypi/uploads/token", "404"),
        ("/packages/%2eelasticpypi/acme-1.0.tar.gz", "404"),
        ("/packages/acme%2F.elasticpypi%2Facme-1.0.tar.gz", "404"),
        ("/packages%2Facme/acme-1.0.tar.gz", "404"),
        ("/%70ackages/acme/acme-1.0.tar.gz", "404"),
        ("/%70ackages/acme/acme-1.0.tar.gz.metadata", "404"),
        ("/packages/acme%2Facme-1.0.tar.gz", "/acme%2Facme-1.0.tar.gz"),
        ("/.elasticpypi/site.json", "404"),
        ("/simple/../.elasticpypi/site.json", "404"),
    ],
)
def test_what_is_asked_of_the_origin(viewer_request: Function, uri: str, expected: str) -> None:
    assert outcome(viewer_request.call("GET", uri, {"Accept": PIP})) == expected


@pytest.mark.parametrize("accept", ACCEPTED)
def test_the_form_is_that_of_the_dynamic_index(viewer_request: Function, accept: str | None) -> None:
    headers = NO_HEADERS if accept is None else {"Accept": accept}
    uri = viewer_request.call("GET", "/simple/acme/", headers)["uri"]
    assert uri == f"/simple/acme/index.{preferred_form(accept)}"


def test_everything_else_of_a_request_stays_as_it_is(viewer_request: Function) -> None:
    changed = viewer_request.call("HEAD", "/simple/", {"Accept": PIP, "If-None-Match": '"tag"'})
    assert (changed["method"], changed["headers"]["if-none-match"]) == ("HEAD", {"value": '"tag"'})


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/dev", "301 dev/"),
        ("/dev/", "/index.html"),
        ("/dev/simple/Acme/", "301 ../acme/"),
        ("/dev/simple/acme/", "/simple/acme/index.html"),
        (f"/dev/packages/acme/{WHEEL}", f"/acme/{WHEEL}"),
        (f"/dev/packages/acme/{WHEEL}.metadata", f"/packages/acme/{WHEEL}.metadata"),
        ("/simple/acme/", "404"),
        ("/developers/", "404"),
    ],
)
def test_a_prefix_is_taken_away(tmp_path: Path, uri: str, expected: str) -> None:
    with function(with_replaced(CODE, {NO_PREFIX: 'const PREFIX = "/dev";'}), tmp_path) as running:
        assert outcome(running.call("GET", uri, NO_HEADERS)) == expected


def basic(password: str) -> str:
    return "Basic " + b64encode(f"admin:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Authorization": basic("pä:ss")}, "/simple/index.html"),
        ({"Authorization": basic("wrong")}, "401"),
        ({"Authorization": ""}, "401"),
        (NO_HEADERS, "401"),
    ],
)
def test_only_who_is_known_is_let_in(tmp_path: Path, headers: Mapping[str, str], expected: str) -> None:
    known = hashlib.sha256(basic("pä:ss").encode()).hexdigest()
    with function(with_replaced(CODE, {OPEN: LOCKED.format(known)}), tmp_path) as running:
        answer = running.call("GET", "/simple/", headers)
        unknown_place = running.call("GET", "/nowhere", NO_HEADERS)
    assert (outcome(answer), outcome(unknown_place)) == (expected, "401")
    if expected == "401":
        assert answer["headers"]["www-authenticate"] == {"value": 'Basic realm="elasticpypi"'}
        assert answer["headers"]["cache-control"] == {"value": "no-store"}


# What ECMAScript 5.1 does not have but const and let; of later editions the runtime knows a part.
LATER = (
    r"=>",
    r"`",
    r"\.\.\.",
    r"\?\.",
    r"\?\?",
    r"\b(?:class|async|await|import|export|yield)\b",
    r"\bof\b",
    r"(?:const|let|var)\s*[\[{]",
    r"\b(?:fetch|setTimeout|setInterval|eval|process|Buffer|globalThis)\b",
    r"\.(?:includes|startsWith|endsWith|replaceAll|padStart|at|flat|flatMap|entries|values|matchAll)\(",
    r"\(\?<",
)


@pytest.mark.parametrize("later", LATER)
def test_it_needs_nothing_that_the_runtime_may_lack(later: str) -> None:
    code = "\n".join(line.partition("//")[0] for line in CODE.splitlines())
    assert re.search(later, code) is None


def test_it_is_small_enough() -> None:
    assert len(CODE.encode()) < 10_240 - 4_096  # what CloudFront takes, with room for fifty digests
