"""The real corpus: what this project itself is made of, published to an index of ours and installed from it alone."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.tags import sys_tags
from packaging.utils import NormalizedName, canonicalize_name, parse_wheel_filename
from pypi_simple import ACCEPT_HTML_ONLY, ACCEPT_JSON_ONLY, PYPI_SIMPLE_ENDPOINT, DistributionPackage, PyPISimple
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.clients import UPLOADERS, Account, Desk, account, core_metadata_of, facts_of, facts_on, wait_until
from tests.running import run_command, serving

REPOSITORY = Path(__file__).parent.parent.parent
CACHE = REPOSITORY / ".cache" / "corpus"
REQUIREMENTS = ("requirements.txt", "requirements-local.txt", "test-requirements.txt")
FORMS = (ACCEPT_JSON_ONLY, ACCEPT_HTML_ONLY)
DOWNLOADS_AT_ONCE = 8
TWINE_RUNS = 3


@dataclass(frozen=True, slots=True)
class Pin:
    """A line of a requirements file that holds for this environment."""

    project: NormalizedName
    version: str
    sha256s: frozenset[str]


def index_of_pip() -> str:
    """Return the index that pip is configured for here, by variable or file."""
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return os.environ.get("PIP_INDEX_URL") or told or PYPI_SIMPLE_ENDPOINT


def read_pins() -> list[Pin]:
    pins = []
    for file in REQUIREMENTS:
        text = (REPOSITORY / file).read_text().replace("\\\n", " ")
        for line in text.splitlines():
            words, *hashes = line.partition("#")[0].split("--hash=sha256:")
            if not words.strip():
                continue
            requirement = Requirement(words.strip())
            if requirement.marker is None or requirement.marker.evaluate():
                (pin,) = requirement.specifier
                sha256s = frozenset(each.strip() for each in hashes)
                pins.append(Pin(canonicalize_name(requirement.name), pin.version, sha256s))
    return pins


# The corpus ----------------------------------------------------------------------------------------------------------


def download_corpus(pins: list[Pin]) -> dict[NormalizedName, list[Path]]:
    """Return, for each project, the best wheel for this platform and the sdists; they are kept from run to run."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as threads:
        return dict(zip((pin.project for pin in pins), threads.map(download_pin, pins), strict=True))


def download_pin(pin: Pin) -> list[Path]:
    listing = CACHE / f"{pin.project}-{pin.version}.txt"
    if listing.exists():
        paths = [CACHE / name for name in listing.read_text().split()]
        if all(path.exists() and sha256(path) in pin.sha256s for path in paths):
            return paths
    with PyPISimple(index_of_pip(), session=retrying_session()) as index:
        packages = index.get_project_page(pin.project).packages
        listed = [package for package in packages if package.digests.get("sha256") in pin.sha256s]
        chosen = [*best_wheel(listed), *(package for package in listed if package.package_type == "sdist")]
        paths = [download(index, package) for package in chosen]
    assert paths, f"{pin} is not to be had"
    listing.write_text("".join(f"{path.name}\n" for path in paths))
    return paths


def best_wheel(packages: Iterable[DistributionPackage]) -> list[DistributionPackage]:
    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    rated = [
        (min(ranks.get(tag, len(ranks)) for tag in parse_wheel_filename(package.filename)[3]), package)
        for package in packages
        if package.package_type == "wheel"
    ]
    fitting = sorted((pair for pair in rated if pair[0] < len(ranks)), key=lambda pair: pair[0])
    return [package for _, package in fitting[:1]]


def download(index: PyPISimple, package: DistributionPackage) -> Path:
    path = CACHE / package.filename
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    index.download_package(package, draft, verify=True)
    return draft.replace(path)


def retrying_session() -> requests.Session:
    session = requests.Session()
    session.mount("https://", HTTPAdapter(max_retries=Retry(5, backoff_factor=0.5, status_forcelist=(429, 502, 503))))
    return session


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# The index -----------------------------------------------------------------------------------------------------------


def twine_takes(file: Path) -> bool:
    """Whether the core metadata is valid, which twine insists on and installers do not."""
    try:
        Metadata.from_email(core_metadata_of(file))
    except ExceptionGroup:
        return False
    return True


def upload(desk: Desk, index: Account, files: list[Path]) -> None:
    for run in range(TWINE_RUNS):
        outcome = UPLOADERS["twine --verbose"](desk, index, "/legacy/", files[run::TWINE_RUNS])
        assert outcome.succeeded, outcome.output


def check_pages(index: Account, files_of: Mapping[NormalizedName, list[Path]]) -> None:
    """Hold each page, in both forms, against the files themselves."""
    expected = {project: {file.name: facts_of(file) for file in files} for project, files in files_of.items()}
    for accept in FORMS:
        with PyPISimple(f"{index.url}/simple/", auth=(index.username, index.password), accept=accept) as reader:
            assert reader.get_index_page().projects == sorted(expected)
            seen = {project: facts_on(reader.get_project_page(project)) for project in expected}
        if accept == ACCEPT_HTML_ONLY:  # which has no sizes
            assert seen == {
                project: {name: replace(fact, size=None) for name, fact in facts.items()}
                for project, facts in expected.items()
            }
        else:
            assert seen == expected


def all_pages(index: Account, projects: Iterable[str]) -> dict[tuple[str, str], bytes]:
    paths = ["/simple/", *(f"/simple/{project}/" for project in projects)]
    # Without the serials, which no rebuilt catalog repeats.
    return {
        (path, accept): re.sub(rb'"_last-serial":\d+', b"", index.get(path, accept))
        for path in paths
        for accept in FORMS
    }


@pytest.mark.heavy
@pytest.mark.timeout(900)  # the first time, all of the corpus has to be downloaded
def test_the_corpus_is_published_and_installed_and_survives_the_loss_of_the_catalog(tmp_path: Path) -> None:
    pins = read_pins()
    files_of = download_corpus(pins)
    corpus = sorted(file for files in files_of.values() for file in files)
    by_twine = [file for file in corpus if twine_takes(file)][: len(corpus) // 2]
    data, home = tmp_path / "data", tmp_path / "home"

    with serving(data, home=home) as server:
        index = account(server)
        for file in set(corpus) - set(by_twine):
            shutil.copyfile(file, server.files / file.name)
        upload(Desk(tmp_path, "upload"), index, by_twine)
        for project, files in files_of.items():
            expected = {file.name for file in files}
            wait_until(lambda: index.listed(project).keys() == expected, seconds=60, what=f"{project} is listed")  # noqa: B023
        check_pages(index, files_of)
        install_with_pip(Desk(tmp_path, "pip"), index, pins)
        install_with_uv(Desk(tmp_path, "uv"), index, pins)
        before = all_pages(index, files_of)

    for file in data.glob("catalog.sqlite*"):
        file.unlink()
    rebuilt = run_command("sync", "--data", data, home=home)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert [line for line in rebuilt.stderr.splitlines() if " files so far, " not in line] == []
    assert f"0 unchanged, {len(corpus)} added, 0 changed, 0 removed" in rebuilt.stdout
    with serving(data, home=home) as server:
        assert all_pages(account(server), files_of) == before


def requirement_options() -> list[str]:
    return [option for file in REQUIREMENTS for option in ("--requirement", str(REPOSITORY / file))]


def install_with_pip(desk: Desk, index: Account, pins: Iterable[Pin]) -> None:
    only = ("--index-url", index.index_url, "--only-binary", ":all:", "--require-hashes", "--no-compile")
    outcome = desk.pip("install", "--quiet", *only, *requirement_options())
    assert outcome.succeeded, outcome.output
    assert desk.installed() == {pin.project: pin.version for pin in pins}


def install_with_uv(desk: Desk, index: Account, pins: Iterable[Pin]) -> None:
    only = ("--default-index", index.index_url, "--only-binary", ":all:", "--require-hashes")
    outcome = desk.uv("pip", "install", "--quiet", *only, *requirement_options())
    assert outcome.succeeded, outcome.output
    assert desk.installed() == {pin.project: pin.version for pin in pins}
