"""The README: every command and example in it works, and nothing that it should name is missing."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from elasticpypi.archives.source import MAX_RATIO, MAX_ZIP_MEMBERS
from elasticpypi.config import load_settings
from elasticpypi.handler.gateway import LARGEST_ANSWER
from elasticpypi.model import parse_decisions
from elasticpypi.names import MAX_NAME
from elasticpypi.storage.s3.bucket import MAX_KEY_BYTES
from elasticpypi.web.carried import most_binary_bytes
from elasticpypi.web.files import DOWNLOADS
from tests.aws import CREDENTIALS, Cloud
from tests.clients import Account
from tests.deployed import FOR_THIS_MACHINE, Deployment, Project, make_project
from tests.dists import make_sdist, make_wheel
from tests.health import answering
from tests.loop import deployed_places, running_on_aws
from tests.running import RunningServer, bare_environment, free_port, wait_for

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ON_AWS = README.partition("\n## On AWS\n")[2].partition("\n## ")[0]


def blocks(language: str, text: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_first_screen_shows_both_commands() -> None:
    first_screen = README.splitlines()[:12]
    assert any(line.startswith("make serve") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)


@pytest.mark.timeout(300)
def test_the_commands_run_as_they_stand_there(server: RunningServer, tmp_path: Path) -> None:
    work = server.data.parent  # so that `data` is the directory of the running server
    make_wheel(work / "dist", "acme", "1.0")
    make_sdist(work / "dist", "acme", "1.0")
    script = "\n".join(block for block in blocks("sh", README.replace(ON_AWS, "")) if "make serve" not in block)
    real = f"export INDEX={server.url_with_credentials}"
    script, replaced = re.subn(r"^export INDEX=.*$", real, script, flags=re.MULTILINE)
    assert replaced == 1
    # uv wants a virtual environment to install into
    environment = bare_environment(tmp_path / "home", {"VIRTUAL_ENV": str(work / "venv")})
    subprocess.run([sys.executable, "-m", "venv", work / "venv"], env=environment, check=True)
    environment["PATH"] = f"{work / 'venv' / 'bin'}:{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Successfully installed acme-1.0" in done.stdout
    assert sorted(path.name for path in (work / "data" / "files").glob("acme-*")) == [
        "acme-1.0-py3-none-any.whl",
        "acme-1.0.tar.gz",
    ]


def test_make_serve_serves(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    environment = bare_environment(tmp_path / "home")
    command = ["make", "--no-print-directory", "serve", f"PORT={port}", f"DATA={tmp_path / 'data'}"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: _answers(port))
    finally:
        process.terminate()
        process.wait(60)
    assert f"serves http://127.0.0.1:{port}/simple/" in log.read_text()
    commands = [line.split("http")[0] for line in log.read_text().splitlines() if line.endswith(("PROJECT", "dist/*"))]
    assert len(commands) == 3
    assert [command for command in commands if command not in README] == []


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


JSON_BLOCKS = blocks("json", README.replace(ON_AWS, ""))


@pytest.mark.parametrize("block", [block for block in JSON_BLOCKS if "yanked" in block])
def test_the_decisions_are_valid(block: str) -> None:
    assert parse_decisions(block.encode()).yanked == json.loads(block)["yanked"]


@pytest.mark.parametrize("block", [block for block in JSON_BLOCKS if "yanked" not in block])
def test_the_configuration_is_valid(block: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(block, encoding="utf-8")
    settings = load_settings(environ={}, default_path=path)
    assert {key: getattr(settings, key) for key in json.loads(block)}


@pytest.mark.parametrize("limit", [MAX_ZIP_MEMBERS, MAX_NAME, DOWNLOADS, MAX_RATIO])
def test_the_limits_are_those_of_the_code(limit: int) -> None:
    limits = README.partition("## Limits")[2].partition("## How")[0]
    assert re.search(rf"\b{limit:,}\b", limits)


def test_the_limits_on_aws_are_those_of_the_code() -> None:
    assert f"of more than {most_binary_bytes(LARGEST_ANSWER) / 1e6:.1f} MB, compressed" in ON_AWS
    assert f"| {MAX_KEY_BYTES:,} bytes;" in ON_AWS


def test_every_linked_page_exists() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    missing = [
        (page.name, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert missing == []


# On AWS ---------------------------------------------------------------------------------------------------------------

PASSWORD = "tr0ub4dor"
# What is done elsewhere (`npm ci` would empty the checkout's own directory, to which there is a link), needs a network,
# or is not installed; all else runs as it stands there.
STANDING_IN = """
make() { test "$*" = .venv/installed; }
npm() { test "$*" = ci; }
git() { test "$*" = pull; }
npx() { if test "$1 $2" = "sls deploy"; then command npx "$@" $FOR_THIS_MACHINE; else command npx "$@"; fi; }
elasticpypi() { $PYTHON -m elasticpypi "$@"; }
aws() { $PYTHON -c "$AWS_S3_CP" "$@"; }
"""
AWS_S3_CP = """
import os, pathlib, sys
from botocore.session import Session
s3, cp, source, destination, recursive = sys.argv[1:]
assert (s3, cp, recursive) == ("s3", "cp", "--recursive")
bucket, _, prefix = destination.removeprefix("s3://").partition("/")
client = Session().create_client("s3")
for path in pathlib.Path(source).iterdir():
    client.put_object(Bucket=bucket, Key=prefix + path.name, Body=path.read_bytes())
"""


def run(project: Project, script: str, environment: Mapping[str, str]) -> str:
    """Run a block in the copy of the checkout, and return what it prints."""
    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", STANDING_IN + script],
        cwd=project.directory,
        env=with_stand_ins(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def with_stand_ins(environment: Mapping[str, str]) -> dict[str, str]:
    shell = {"PYTHON": sys.executable, "AWS_S3_CP": AWS_S3_CP, "FOR_THIS_MACHINE": " ".join(FOR_THIS_MACHINE)}
    return {**environment, **shell}


def keep_credentials(home: Path) -> dict[str, str]:
    """Write what `aws configure` writes, and return the variables that say where it is."""
    path = home / "credentials"
    path.write_text(
        "[default]\n" + "".join(f"{name.lower()} = {CREDENTIALS[name]}\n" for name in list(CREDENTIALS)[:2])
    )
    return {"AWS_SHARED_CREDENTIALS_FILE": str(path)}


def unpack(project: Project, code: Path) -> Deployment:
    """Unpack the zip that was deployed."""
    deployment = Deployment(project, code, project.template())
    s3, bucket = project.cloud.aws.s3, deployment.outputs["ServerlessDeploymentBucketName"]
    zips = [stored for stored in s3.list_objects_v2(Bucket=bucket)["Contents"] if stored["Key"].endswith(".zip")]
    newest = max(zips, key=lambda stored: stored["LastModified"])["Key"]
    with zipfile.ZipFile(io.BytesIO(s3.get_object(Bucket=bucket, Key=newest)["Body"].read())) as archive:
        archive.extractall(code)
    return deployment


@contextmanager
def running(project: Project, command: str, environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Let a command run until the context ends; all that it has started ends with it."""
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", STANDING_IN + command],
            cwd=project.directory,
            env=with_stand_ins(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_the_page_on_aws_runs_as_it_stands_there(cloud: Cloud, tmp_path: Path) -> None:
    configure, deploy, use, serve, check, update, remove, take_over = blocks("sh", ON_AWS)
    (configuration,) = blocks("json", ON_AWS)
    project = make_project(tmp_path / "project", cloud)
    config = project.directory / "elasticpypi" / "config.json"
    config.unlink()
    environment = project.environment(keep_credentials(tmp_path))
    for name in CREDENTIALS:  # from the profile, and the region from the configuration
        del environment[name]

    run(project, configure, environment)
    document = {**json.loads(configuration), "password": PASSWORD}
    assert json.loads(config.read_text()).keys() <= document.keys()
    config.write_text(json.dumps(document))
    said = run(project, deploy, environment)
    assert re.search(r"https://\S+\.eu-central-1\.amazonaws\.com/dev", said)

    deployment = unpack(Project(project.directory, cloud, document), tmp_path / "code")
    with running_on_aws(deployment, tmp_path, places=deployed_places(deployment)) as on_aws:
        index = Account(on_aws.url, "standard", PASSWORD)
        use_it(project, use, index, tmp_path)
        wait_for(lambda: index.listed("bolt"))
        port = free_port()
        with running(project, f"{serve.strip()} --port {port}", environment, tmp_path / "serve.log"):
            wait_for(lambda: _answers(port), seconds=90)
            here = Account(f"http://localhost:{port}", "standard", PASSWORD)
            assert here.listed("acme") == index.listed("acme")
        on_aws.settle()
        assert "ok       sync: catalog and storage agree" in run(project, check, at(on_aws.url, environment))

    assert "No changes to deploy" in run(project, update, environment)
    run(project, remove, environment)
    assert cloud.aws.s3.list_objects_v2(Bucket=deployment.bucket, Prefix="acme/")["KeyCount"] > 0
    config.write_text(json.dumps({**document, "take_over": True}))
    cloud.aws.s3.put_bucket_notification_configuration(Bucket=deployment.bucket, NotificationConfiguration={})
    with answering() as url:  # nothing does any more
        assert "mended   notifications" in run(project, take_over, at(url, environment))
        assert "ok       notifications" in run(project, check, at(url, environment))


def at(url: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Say where the API is: the host that a stack on moto names for it is nobody's."""
    return {**environment, "ELASTICPYPI_URL": url}


def use_it(project: Project, script: str, index: Account, directory: Path) -> None:
    """Run the block that publishes and installs, with the address that it leaves open."""
    make_wheel(project.directory / "dist", "acme", "1.0")
    make_sdist(project.directory / "dist", "acme", "1.0")
    make_wheel(project.directory / "wheelhouse", "bolt", "2.0")
    real = f"export INDEX={index.index_url.removesuffix('/simple/')}"
    script, replaced = re.subn(r"^export INDEX=\S+$", real, script, flags=re.MULTILINE)
    assert replaced == 1
    extra = {**project.cloud.environment, "VIRTUAL_ENV": str(directory / "venv")}
    environment = bare_environment(directory / "home", extra)
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], env=environment, check=True)
    environment["PATH"] = f"{directory / 'venv' / 'bin'}:{Path(sys.executable).parent}:{environment['PATH']}"
    said = run(project, script, environment)
    assert "Successfully installed acme-1.0" in said
    assert len(index.listed("acme")) == 2
