"""Indexes of which `elasticpypi build` has made static files, set up and served as docs/static-site.md has it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import NormalizedName, canonicalize_name

from tests import dists
from tests.aws import REGION, Cloud
from tests.clients import INSTALLERS, Account, Desk
from tests.running import bare_environment
from tests.site import Site, open_cloud_site, open_site
from tests.static_serving import EXAMPLES, Bucket, CloudFront, Website, function, listening, nginx, with_replaced
from tests.test_clients_install import ASKED_FOR, INSTALLED, decide, fill

PAGE = (EXAMPLES.parent / "static-site.md").read_text()
EPOCH = "acme_epoch-1!2.0-py3-none-any.whl"
LOCAL = "acme_local-1.0+local.1-py3-none-any.whl"
_PATH = f"{Path(sys.executable).parent}:{Path(__file__).parent.parent / '.peers' / 'bin'}:{os.environ['PATH']}"


@dataclass(frozen=True, slots=True)
class Shop:
    """An index, its files as they were put there, and what was built of it in a directory."""

    site: Site
    files: Path
    output: Path

    def names(self) -> list[NormalizedName]:
        """Return the projects, sorted."""
        return [project.name for project in self.site.index.root().projects]


def fill_canonically(files: Path) -> None:
    """Put the projects of the tests of clients where uploads put them, and some odd ones."""
    fill(files)
    dists.make_wheel(files, "acme-epoch", "1!2.0")
    dists.make_wheel(files, "acme-deprecated", "1.0")
    for file in [path for path in files.iterdir() if path.is_file()]:
        project = canonicalize_name(file.name.split("-")[0])
        (files / project).mkdir(exist_ok=True)
        file.rename(files / project / file.name)
    decide(files, "acme-deprecated", {"status": "deprecated", "status-reason": "use <b>acme</b> & friends"})


def install(desk: Desk, client: str, url: str) -> None:
    """Install everything with a client, from an index that asks for no credentials."""
    outcome = INSTALLERS[client](desk, Account(url, "any", "any"), *ASKED_FOR, "acme-epoch", "acme-deprecated")
    assert outcome.succeeded, outcome.output
    assert desk.installed() == INSTALLED | {"acme-epoch": "1!2.0", "acme-deprecated": "1.0"}


def build(site: Site, place: str | Path, *options: str) -> None:
    """Run `elasticpypi build`."""
    done = site.run("build", "--output", str(place), *options)
    assert done.exit_code == 0, done.output


def code_blocks(language: str, heading: str) -> list[str]:
    """Return the blocks of code in the documentation below a heading, up to the next one of its level."""
    found = PAGE.partition(f"\n{heading}\n")[2]
    section = re.split(rf"^{heading.split(' ')[0]} ", found, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def run_script(script: str, directory: Path, extra: dict[str, str]) -> str:
    """Run commands of the documentation to their end, and return what they have printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env=bare_environment(directory / "home", extra) | {"PATH": _PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# In a directory ------------------------------------------------------------------------------------------------------


@contextmanager
def shop_in_directory(root: Path) -> Iterator[Shop]:
    """Make an index in a directory, and build it into another one."""
    fill_canonically(root / "data" / "files")
    site = open_site(root / "data")
    try:
        report = site.index.sync(patience_seconds=20)
        assert (report.failed, report.unsettled) == ({}, [])
        build(site, root / "output")
        yield Shop(site, root / "data" / "files", root / "output")
    finally:
        site.index.close()


@contextmanager
def nginx_below_prefix(shop: Shop, directory: Path) -> Iterator[str]:
    """Serve it as the documentation has it for a site that is below a path; yield its URL."""
    (before,) = code_blocks("nginx", "## nginx")
    with nginx(shop.output, shop.site.data, directory, before=before) as url:
        yield f"{url}/pypi"


# On AWS --------------------------------------------------------------------------------------------------------------


@contextmanager
def shop_in_bucket(cloud: Cloud, root: Path) -> Iterator[Shop]:
    """Make an index in a bucket and a table; nothing is built yet."""
    fill_canonically(root / "files")
    site = open_cloud_site(cloud)
    try:
        for path in (root / "files").rglob("*"):
            if path.is_file():
                site.place.put(path.relative_to(root / "files").as_posix(), path.read_bytes())
        assert site.index.sync().failed == {}
        yield Shop(site, root / "files", root / "nowhere")
    finally:
        site.index.close()


@contextmanager
def s3_website(cloud: Cloud, shop: Shop, directory: Path) -> Iterator[tuple[str, Bucket, Bucket]]:
    """Do what the documentation says, and serve the site as S3 does; yield its URL and both buckets."""
    pages, files = Bucket(cloud, cloud.make_bucket()), Bucket(cloud, _bucket_of(shop))
    names = {"acme-pypi-pages": pages.name, "acme-pypi-files": files.name}
    (script,) = code_blocks("sh", "## S3 as a website")
    examples = directory / "docs" / "examples"
    shutil.copytree(EXAMPLES, examples)
    for path in examples.glob("s3-*.json"):
        path.write_text(_renamed(path.read_text(), names))
    with listening(files) as files_url, listening(Website(pages)) as url:
        script = script.replace(f"https://acme-pypi-files.s3.{REGION}.amazonaws.com", files_url)
        assert files_url in script
        run_script(_renamed(script, names), directory, shop.site.place.environment)
        yield url, pages, files


@contextmanager
def cloudfront(cloud: Cloud, shop: Shop, directory: Path, *, digests: Sequence[str] = ()) -> Iterator[str]:
    """Build the site into a bucket, and serve it and the files through the function; yield the URL.

    Only who sends a header with one of the digests is let in, everybody if there are none.
    """
    allowed = ("s3:GetObject", "s3:ListBucket")
    pages, files = Bucket(cloud, cloud.make_bucket(), allowed), Bucket(cloud, _bucket_of(shop), allowed)
    build(shop.site, f"s3://{pages.name}")
    code = (EXAMPLES / "cloudfront-function.js").read_text()
    code = with_replaced(code, {"const AUTHORIZATIONS = [];": f"const AUTHORIZATIONS = {json.dumps(list(digests))};"})
    with function(code, directory) as running, listening(CloudFront(running, pages, files)) as url:
        yield url


def _bucket_of(shop: Shop) -> str:
    return shop.site.place.environment["ELASTICPYPI_BUCKET"]


def _renamed(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(old, new)
    return text
