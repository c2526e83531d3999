"""What real clients ask an index for, here and on AWS, and what they do with times, hashes and tags that it answers."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pypi_simple import ACCEPT_HTML_ONLY, ACCEPT_JSON_ONLY, PyPISimple

from tests import dists
from tests.clients import (
    INSTALLERS,
    UPLOADERS,
    Account,
    Desk,
    Exchange,
    Recorder,
    Server,
    account,
    facts_of,
    facts_on,
    recording,
    wait_until,
)
from tests.deployed import Deployment
from tests.loop import IndexOnAws, running_on_aws
from tests.running import serving

pytestmark = pytest.mark.both_worlds
WHEEL = "acme-1.0-py3-none-any.whl"
REASON = 'eats <b>"data"</b> & more'


def fill(files: Path) -> None:
    """Put the projects of this module's tests into a directory."""
    dists.make_wheel(files, "acme", extra_files={"noise.bin": random.Random(0).randbytes(300_000)})
    dists.make_wheel(files, "acme-python", "1.0")
    dists.make_wheel(files, "acme-python", "2.0", requires_python=">=3.99")
    # Every form that a line of a page can have.
    for version in ("1.0", "1.0+local.1", "1.9", "1.10", "2.0rc1"):
        dists.make_wheel(files, "Acme.Forms", version, requires_python=">=3.8, <4,!=3.9.*")
        dists.make_sdist(files, "Acme.Forms", version)
    dists.make_wheel(files, "Acme.Forms", "1.10", tag="py2.py3-none-any")
    dists.make_sdist(files, "Acme.Forms", "0.9", suffix=".zip", requires_python=">=2.7")
    files.joinpath("acme-forms").mkdir()
    decisions = {"status": "deprecated", "status-reason": REASON, "yanked": {"1.9": REASON, "2.0rc1": ""}}
    files.joinpath("acme-forms", "project.json").write_text(json.dumps(decisions))


def wait_until_listed(index: Account) -> None:
    wait_until(lambda: index.get("/simple/").count(b'"name"') == 3, what="all projects are listed")
    wait_until(lambda: len(index.listed("acme-python")) == 2, what="both releases are listed")
    wait_until(lambda: len(index.listed("acme-forms")) == 12, what="all files are listed")
    wait_until(lambda: index.page("acme-forms")["project-status"]["status"] == "deprecated", what="the decisions")


@pytest.fixture(scope="module")
def shop(request: pytest.FixtureRequest) -> Server:
    on_aws = getattr(request, "param", "directory") == "aws"
    server: Server = request.getfixturevalue("shop_on_aws" if on_aws else "shop_here")
    return server


@pytest.fixture(scope="module")
def shop_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("shop")
    with serving(root / "data", home=root / "home") as running:
        fill(running.files)
        wait_until_listed(account(running))
        yield running


@pytest.fixture(scope="module")
def shop_on_aws(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_on_aws(deployment, tmp_path_factory.mktemp("shop-on-aws")) as running:
        fill(running.files)
        running.put_files()
        wait_until_listed(account(running))
        yield running


@pytest.fixture
def recorder(shop: Server) -> Iterator[Recorder]:
    with recording(shop.url) as recorder:
        yield recorder


def through(recorder: Recorder, shop: Server) -> Account:
    """Return the account whose requests are recorded."""
    return Account(recorder.url, shop.username, shop.password)


def asked(exchanges: list[Exchange]) -> list[tuple[str, str, int]]:
    return sorted((each.path, each.method, each.status) for each in exchanges)


# What is asked for ---------------------------------------------------------------------------------------------------

PAGE = ("/simple/acme/", "GET", 200)
UNCHANGED_PAGE = ("/simple/acme/", "GET", 304)
CORE_METADATA = (f"/packages/acme/{WHEEL}.metadata", "GET", 200)
FILE = (f"/packages/acme/{WHEEL}", "GET", 200)

# On AWS the file comes from S3, by a redirect that no cache may keep.
FILE_ELSEWHERE = (f"/packages/acme/{WHEEL}", "GET", 302)

# Client -> what it asks for the first time, and what again in another environment.
ASKED = {
    "pip": ([FILE, CORE_METADATA, PAGE], [UNCHANGED_PAGE]),
    "uv": ([FILE, CORE_METADATA, PAGE], [UNCHANGED_PAGE]),
    "poetry": ([FILE, CORE_METADATA, PAGE], [UNCHANGED_PAGE]),
    "pdm": ([FILE, CORE_METADATA, PAGE], [FILE, PAGE]),  # its cache keeps nothing that is "private"
}
# Client -> what it asks for again, where that is not the same on AWS.
ASKED_AGAIN_ON_AWS = {"pip": [FILE_ELSEWHERE, UNCHANGED_PAGE]}  # its cache goes by the URL, which leads elsewhere
# Over plain HTTP pip has a cache only for hosts that it is told to trust.
TRUSTING = {"pip": ("--trusted-host", "127.0.0.1")}


@pytest.mark.parametrize(("client", "first", "again"), [(client, *asked) for client, asked in ASKED.items()])
def test_each_byte_is_fetched_once(
    shop: Server,
    recorder: Recorder,
    tmp_path: Path,
    client: str,
    first: list[tuple[str, str, int]],
    again: list[tuple[str, str, int]],
) -> None:
    index = through(recorder, shop)
    if isinstance(shop, IndexOnAws):
        again = ASKED_AGAIN_ON_AWS.get(client, again)
        first, again = ([FILE_ELSEWHERE if each == FILE else each for each in several] for several in (first, again))
    desks = [Desk(tmp_path, project_name=name) for name in ("one", "two")]
    seen = []
    for desk in desks:
        outcome = INSTALLERS[client](desk, index, *TRUSTING.get(client, ()), "acme")
        assert outcome.succeeded, outcome.output
        assert desk.installed() == {"acme": "1.0"}
        seen.append(recorder.take())

    assert [sorted(set(asked(each))) for each in seen] == [sorted(first), sorted(again)]
    (page,) = {each.response["content-type"] for each in seen[0] if each.path == PAGE[0]}
    assert page == "application/vnd.pypi.simple.v1+json"
    assert {each.response.get("content-encoding") for each in seen[0] if each.path == PAGE[0]} == {"gzip"}


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_releases_for_another_python_are_passed_over_unread(
    shop: Server, recorder: Recorder, desk: Desk, client: str
) -> None:
    outcome = INSTALLERS[client](desk, through(recorder, shop), "acme-python")

    assert outcome.succeeded, outcome.output
    wheel = "/packages/acme-python/acme_python-1.0-py3-none-any.whl"
    assert {each.path for each in recorder.take()} == {"/simple/acme-python/", f"{wheel}.metadata", wheel}


@pytest.mark.only_in_a_directory("S3 answers for the files")
def test_pip_takes_up_a_download_that_broke_off(shop: Server, recorder: Recorder, desk: Desk) -> None:
    recorder.to_cut.add(FILE[0])

    outcome = INSTALLERS["pip"](desk, through(recorder, shop), "acme")

    assert outcome.succeeded, outcome.output
    assert desk.installed() == {"acme": "1.0"}
    whole, rest = [each for each in recorder.take() if each.path == FILE[0]]
    size = int(whole.response["content-length"])
    start = int(rest.request["range"].removeprefix("bytes=").removesuffix("-"))
    assert rest.status == 206
    assert rest.request["if-range"] == whole.response["etag"]
    assert (rest.response["content-range"], 0 < start < size) == (f"bytes {start}-{size - 1}/{size}", True)


# Times and hashes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aged(shop: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Upload two releases of a project, acme-aged, and return when the second came."""
    index = account(shop)
    desk = Desk(tmp_path_factory.mktemp("aged"))
    for version in ("1.0", "2.0"):
        assert UPLOADERS["uv"](desk, index, "/legacy/", [dists.make_wheel(desk.dist, "acme-aged", version)]).succeeded
        second = int(time.time())  # S3 counts in whole ones
        wait_until(lambda: int(time.time()) > second, what="the next second")  # noqa: B023
    first, last = (file["upload-time"] for file in index.page("acme-aged")["files"])
    assert first < last
    return str(last)


AGES = {"pip": "--uploaded-prior-to", "uv": "--exclude-newer"}


@pytest.mark.parametrize(("client", "option"), AGES.items())
def test_what_is_too_new_is_not_installed(shop: Server, aged: str, desk: Desk, client: str, option: str) -> None:
    outcome = INSTALLERS[client](desk, account(shop), f"{option}={aged}", "acme-aged")

    assert outcome.succeeded, outcome.output
    assert desk.installed() == {"acme-aged": "1.0"}


@pytest.mark.usefixtures("aged")
@pytest.mark.parametrize(("client", "option"), AGES.items())
def test_what_is_old_enough_is_installed(shop: Server, desk: Desk, client: str, option: str) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)

    outcome = INSTALLERS[client](desk, account(shop), f"{option}={tomorrow:%Y-%m-%dT%H:%M:%SZ}", "acme-aged")

    assert outcome.succeeded, outcome.output
    assert desk.installed() == {"acme-aged": "2.0"}


def test_uv_compiles_pins_as_they_were(shop: Server, aged: str, desk: Desk) -> None:
    index = account(shop)
    requirements = desk.project / "requirements.in"
    requirements.write_text("acme-aged\n")

    outcome = desk.uv(
        *("pip", "compile", "--quiet", "--no-header", "--no-annotate", "--generate-hashes"),
        *("--default-index", index.index_url, "--exclude-newer", aged, requirements),
    )

    sha256 = index.listed("acme-aged")["acme_aged-1.0-py3-none-any.whl"]
    assert outcome.succeeded, outcome.output
    assert outcome.output == f"acme-aged==1.0 \\\n    --hash=sha256:{sha256}\n"


def test_pip_downloads_what_has_the_required_hash(shop: Server, desk: Desk) -> None:
    index = account(shop)
    pins = desk.project / "requirements.txt"
    pins.write_text(f"acme==1.0 --hash=sha256:{index.listed('acme')[WHEEL]}\n")

    outcome = desk.pip("download", "--index-url", index.index_url, "--require-hashes", "--requirement", pins)

    assert outcome.succeeded, outcome.output
    assert desk.project.joinpath(WHEEL).read_bytes() == shop.files.joinpath(WHEEL).read_bytes()


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_what_has_another_hash_is_not_installed(shop: Server, desk: Desk, client: str) -> None:
    index = account(shop)
    pins = desk.project / "requirements.txt"
    pins.write_text(f"acme==1.0 --hash=sha256:{index.listed('acme')[WHEEL][::-1]}\n")

    outcome = INSTALLERS[client](desk, index, "--require-hashes", "--requirement", str(pins))

    assert not outcome.succeeded
    assert "hash" in outcome.output.lower()
    assert desk.installed() == {}


# A second reader -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [ACCEPT_JSON_ONLY, ACCEPT_HTML_ONLY])
def test_pypi_simple_reads_what_the_files_say(shop: Server, tmp_path: Path, accept: str) -> None:
    with PyPISimple(f"{shop.url}/simple/", auth=(shop.username, shop.password), accept=accept) as reader:
        page = reader.get_project_page("acme-forms")
        core_metadata = {
            package.filename: reader.get_package_metadata_bytes(package)
            for package in page.packages
            if package.has_metadata
        }
        for package in page.packages:
            reader.download_package(package, tmp_path / package.filename, verify=True)

    expected = {file.name: facts_of(file) for file in tmp_path.iterdir()}
    if accept == ACCEPT_HTML_ONLY:  # which has no sizes
        expected = {name: replace(facts, size=None) for name, facts in expected.items()}
    assert facts_on(page) == expected
    assert expected.keys() == {file.name for file in shop.files.glob("acme_forms*")}
    assert core_metadata.keys() == {name for name in expected if name.endswith(".whl")}
    assert {package.filename: package.yanked_reason or "" for package in page.packages if package.is_yanked} == {
        "acme_forms-1.9-py3-none-any.whl": REASON,
        "acme_forms-1.9.tar.gz": REASON,
        "acme_forms-2.0rc1-py3-none-any.whl": "",
        "acme_forms-2.0rc1.tar.gz": "",
    }
    assert (page.project, page.repository_version, page.status, page.status_reason) == (
        "acme-forms",
        "1.4",
        "deprecated",
        REASON,
    )
    if accept == ACCEPT_JSON_ONLY:
        assert page.versions == ["0.9", "1.0", "1.0+local.1", "1.9", "1.10", "2.0rc1"]
        assert all(package.upload_time is not None for package in page.packages)


@pytest.mark.parametrize("accept", [ACCEPT_JSON_ONLY, ACCEPT_HTML_ONLY])
def test_pypi_simple_reads_the_root(shop: Server, accept: str) -> None:
    with PyPISimple(f"{shop.url}/simple/", auth=(shop.username, shop.password), accept=accept) as reader:
        page = reader.get_index_page()

    assert {"acme", "acme-forms", "acme-python"} <= set(page.projects)
    assert page.repository_version == "1.4"
