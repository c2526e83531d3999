"""`/upload`: the page, its plain form, the script's own SHA-256. What a browser makes of it: heavy/test_browser.py."""

from __future__ import annotations

import hashlib
import html
import io
import json
import random
import re
import subprocess
from pathlib import Path

import pytest
from werkzeug.datastructures import MultiDict
from werkzeug.test import Client, TestResponse

from elasticpypi.audit import Action
from elasticpypi.auth import Authenticator
from elasticpypi.model import Actor
from elasticpypi.presenting import read_asset
from elasticpypi.web.app import create_app
from tests.aws import Cloud
from tests.dists import make_wheel
from tests.programs import require
from tests.signing_in import BROWSER, Visitor, read_forms
from tests.site import USERS, Account, Site

WHEEL = "acme-1.0-py3-none-any.whl"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path, "acme", "1.0")


@pytest.fixture
def writer(site: Site) -> Visitor:
    """Somebody who has signed in and may upload."""
    visitor = Visitor(site.client)
    assert visitor.sign_in("writer").status_code == 303
    return visitor


def send(visitor: Visitor, filename: str, data: bytes, *, csrf: str | None = None) -> TestResponse:
    """Send the plain form as a browser does: its fields in their order, the file last."""
    token = read_forms(visitor.get("/upload").text)["upload"]["csrf"] if csrf is None else csrf
    form = MultiDict([("csrf", token), ("content", (io.BytesIO(data), filename))])
    answer = visitor.client.post("/upload", data=form, headers=BROWSER)
    answer.request.environ["wsgi.input"].close()
    return answer


def filenames(site: Site, project: str = "acme") -> list[str]:
    answer = site.get(f"/simple/{project}/", accept="application/vnd.pypi.simple.v1+json")
    return [file["filename"] for file in answer.json["files"]] if answer.json is not None else []


@pytest.mark.both_worlds
def test_the_plain_form_stores_a_file_and_says_so(site: Site, writer: Visitor, wheel: Path) -> None:
    first, again = (send(writer, WHEEL, wheel.read_bytes()) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert f"{WHEEL} is stored and listed." in first.text
    assert f"{WHEEL} was there already with the same bytes; nothing has changed." in again.text
    assert 'href="project/acme/"' in first.text
    assert site.download(f"/packages/acme/{WHEEL}") == wheel.read_bytes()
    (event,) = site.index.audit.events(limit=10)
    assert (event.actor.name, event.action, event.target) == ("writer", Action.UPLOAD, WHEEL)


def test_a_program_needs_no_csrf_token(site: Site, wheel: Path) -> None:
    answer = site.post([("content", (io.BytesIO(wheel.read_bytes()), WHEEL))], path="/upload")
    assert (answer.status_code, filenames(site)) == (200, [WHEEL])
    (event,) = site.index.audit.events(limit=10)
    assert event.actor == Actor("writer", "password")


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_without_the_csrf_token_nothing_is_stored(site: Site, writer: Visitor, wheel: Path, token: str) -> None:
    answer = send(writer, WHEEL, wheel.read_bytes(), csrf=token)
    assert (answer.status_code, "form is out of date" in answer.text) == (403, True)
    assert site.get("/simple/acme/").status_code == 404
    assert site.place.list_keys() == set()


def problem(answer: TestResponse) -> str:
    """Return what the page has as an alert."""
    (found,) = re.findall(r'<p class="banner" role="alert">([^<]*)</p>', answer.text)
    return html.unescape(found)


OVERWRITE = "raise the version, or set 'overwrite' in the configuration"
NO_ARCHIVE = "it is corrupt or of another format than its name says: Not a gzipped file (b'x'); build the file again"
NO_FILE = "Choose a file first, with the name of a wheel, a source distribution or an egg."


def test_a_refused_file_leaves_the_form_and_the_reason(site: Site, writer: Visitor, wheel: Path) -> None:
    assert send(writer, WHEEL, wheel.read_bytes()).status_code == 200
    other = make_wheel(None, "acme", "1.0", description="other").read_bytes()
    answers = [
        send(writer, WHEEL, other),
        send(writer, "acme-2.0.tar.gz", b"x"),
        send(writer, "<script>.exe", b"x"),
        send(writer, "", b""),
    ]
    assert [(answer.status_code, problem(answer)) for answer in answers] == [
        (409, f"Refused: File already exists: {WHEEL} is taken by other bytes; {OVERWRITE}."),
        (400, f"Refused: acme-2.0.tar.gz: {NO_ARCHIVE}."),
        (400, NO_FILE),
        (400, NO_FILE),
    ]
    assert ["upload" in read_forms(answer.text) for answer in answers] == [True] * 4
    assert filenames(site) == [WHEEL]


def test_who_may_not_upload_gets_a_page_that_says_so(site: Site, wheel: Path) -> None:
    reader, team = Visitor(site.client), Visitor(site.client)
    reader.sign_in("reader")
    team.sign_in("team")
    for answer in (reader.get("/upload"), send(reader, WHEEL, wheel.read_bytes(), csrf=reader.csrf)):
        assert (answer.status_code, answer.mimetype) == (403, "text/html")
        assert "but this needs" in answer.text
        assert "upload" not in read_forms(answer.text)
    bolt = make_wheel(None, "bolt", "1.0")
    answer = send(team, bolt.name, bolt.read_bytes())
    assert (answer.status_code, "has no permission" in answer.text) == (403, True)
    assert site.place.list_keys() == set()


@pytest.mark.both_worlds
def test_the_page_may_send_to_the_storage_and_to_nobody_else(site: Site, writer: Visitor) -> None:
    policy = writer.get("/upload").headers["Content-Security-Policy"]
    origin = f" {site.place.cloud.url}" if isinstance(site.place, Account) else ""
    assert f"connect-src 'self'{origin};" in policy


def test_a_page_loads_one_script(site: Site, writer: Visitor) -> None:
    pages = {path: re.findall(r"assets/(\w+\.js)\?", writer.get(path).text) for path in ("/upload", "/account", "/")}
    assert pages == {"/upload": ["upload.js"], "/account": ["site.js"], "/": ["site.js"]}
    assert read_asset("upload.js").startswith(read_asset("site.js"))  # what every page does
    script = site.get("/assets/upload.js", user=None)
    assert (script.status_code, script.mimetype, script.data) == (200, "text/javascript", read_asset("upload.js"))


def test_only_behind_a_gateway_the_plain_form_has_a_bound(site: Site, writer: Visitor) -> None:
    app = create_app(site.index, Authenticator(USERS), largest_answer=6_000_000)
    behind = Visitor(Client(app))
    behind.sign_in("writer")
    assert ["4.4 MB" in visitor.get("/upload").text for visitor in (writer, behind)] == [False, True]


def test_only_where_files_are_never_replaced_the_page_says_so(site: Site) -> None:
    said = []
    for overwrite in (False, True):
        opened = site.reopen(overwrite=overwrite)
        visitor = Visitor(opened.client)
        visitor.sign_in("writer")
        said.append("keeps its name" in visitor.get("/upload").text)
        opened.index.close()
    assert said == [True, False]


def test_s3_is_told_by_the_index(cloud: Cloud) -> None:
    index = Account(cloud, cloud.make_bucket(), cloud.make_table()).open(overwrite=False)
    assert index.upload_origin == cloud.url


# The script's own SHA-256 -------------------------------------------------------------------------------------------

# Takes the script and files, and prints their digests, read in pieces of several sizes.
HARNESS = """
const fs = require("fs"), vm = require("vm");
const [script, ...files] = process.argv.slice(1);
const context = vm.createContext({
  document: { querySelector: () => null, querySelectorAll: () => [], createElement: () => ({}), addEventListener() {} },
  navigator: {},
});
const Sha256 = vm.runInContext(fs.readFileSync(script, "utf8") + "; Sha256", context);
const found = files.map((file) => [2 ** 20, 1000, 64, 63].map((step) => {
  const data = fs.readFileSync(file), hash = new Sha256();
  for (let at = 0; at < data.length; at += step) hash.update(data.subarray(at, at + step));
  return hash.hex();
}));
console.log(JSON.stringify(found));
"""
SIZES = (0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 2**20 + 1)


def test_the_script_s_sha256_is_that_of_everybody(tmp_path: Path) -> None:
    script = tmp_path / "upload.js"
    script.write_bytes(read_asset("upload.js"))
    files = [tmp_path / str(size) for size in SIZES]
    for file in files:
        file.write_bytes(random.Random(file.name).randbytes(int(file.name)))
    run = subprocess.run(
        [require("node"), "-e", HARNESS, script, *files], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [[hashlib.sha256(file.read_bytes()).hexdigest()] * 4 for file in files]
