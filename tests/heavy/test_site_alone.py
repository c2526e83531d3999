"""The index as static files, deployed alone: two buckets and one function, no API and no table."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.bundle import HOST, build_bundle, parse_target
from elasticpypi.aws import AWS
from elasticpypi.names import NormalizedName
from tests.aws import REGION, Cloud
from tests.aws_events import s3_event, s3_record
from tests.clients import Desk
from tests.deployed import Deployment, Worker, deployed
from tests.dists import make_wheel
from tests.loop import forget_messages, read_document
from tests.policies import is_allowed
from tests.running import run_command
from tests.static_serving import Bucket, CloudFront, function, listening

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]  # seconds: a run of `sls`, and two dozen of the AWS CLI
ALLOWED = ("s3:GetObject", "s3:ListBucket")  # to CloudFront, on both buckets


@pytest.fixture(scope="module")
def alone(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory, output_bucket = tmp_path_factory.mktemp("alone"), f"{cloud.make_bucket()}-pages"
    with deployed(cloud, directory, table=None, username=None, password=None, output_bucket=output_bucket) as made:
        yield made


@pytest.fixture
def site(alone: Deployment) -> Iterator[Worker]:
    """The only function; what it has asked for, its role has to allow."""
    with alone.worker("site") as worker:
        yield worker
        needed = {permission for call in worker.calls for permission in call.permissions()}
        statements = alone.policy("site")
        assert [each for each in sorted(needed) if not is_allowed(statements, *each)] == []


def put_wheel(alone: Deployment, directory: Path, project: str, version: str = "1.0") -> str:
    wheel = make_wheel(directory, project, version)
    key = f"{project}/{wheel.name}"
    alone.cloud.aws.s3.put_object(Bucket=alone.bucket, Key=key, Body=wheel.read_bytes())
    return key


def listed(alone: Deployment, project: str) -> set[str] | None:
    found = read_document(alone, alone.output_bucket or "", f"simple/{project}/index.json")
    return None if found is None else {file["filename"] for file in json.loads(found)["files"]}


def test_there_is_one_function_and_nothing_else_to_pay_for(alone: Deployment) -> None:
    kinds = {resource["Type"] for resource in alone.template["Resources"].values()}
    assert [kind for kind in kinds if "ApiGateway" in kind or "DynamoDB" in kind] == []
    functions = [each for each in alone.template["Resources"].values() if each["Type"] == "AWS::Lambda::Function"]
    assert [each["Properties"]["Handler"] for each in functions] == ["elasticpypi.handler.site.handle"]
    assert alone.outputs["SiteUrl"].startswith("https://")


def test_a_file_comes_and_goes(alone: Deployment, site: Worker, tmp_path: Path, name: str) -> None:
    first, second = (put_wheel(alone, tmp_path, name, version) for version in ("1.0", "2.0"))
    assert alone.carry(site) >= 2
    assert listed(alone, name) == {key.rpartition("/")[2] for key in (first, second)}
    alone.cloud.aws.s3.delete_object(Bucket=alone.bucket, Key=first)
    assert alone.carry(site) >= 1
    assert listed(alone, name) == {second.rpartition("/")[2]}
    alone.cloud.aws.s3.delete_object(Bucket=alone.bucket, Key=second)
    alone.carry(site)
    assert listed(alone, name) == set()  # the name stays taken


def test_what_people_decide_by_command_is_on_the_page(
    alone: Deployment, site: Worker, tmp_path: Path, name: str
) -> None:
    first, second = (put_wheel(alone, tmp_path, name, version) for version in ("1.0", "2.0"))
    alone.carry(site)
    for decided in (("yank", name, "1.0", "--reason", "broken"), ("delete", name, "2.0", "--yes")):
        ran = run_command(*decided, home=tmp_path / "home", extra=configured(alone))
        assert ran.returncode == 0, ran.stdout + ran.stderr
    alone.carry(site)
    page = read_document(alone, alone.output_bucket or "", f"simple/{name}/index.json") or b""
    assert [(file["filename"], file["yanked"]) for file in json.loads(page)["files"]] == [
        (first.rpartition("/")[2], "broken")
    ]
    assert read_document(alone, alone.bucket, second) is None


def configured(alone: Deployment) -> dict[str, str]:
    """What has a command read the configuration that was deployed."""
    path = alone.project.directory / "elasticpypi" / "config.json"
    return {**alone.cloud.environment, "ELASTICPYPI_CONFIG": str(path), "ELASTICPYPI_REGION": REGION}


def test_doctor_looks_at_what_there_is(alone: Deployment, tmp_path: Path) -> None:
    ran = run_command("doctor", "--json", home=tmp_path / "home", extra=configured(alone))
    findings = {finding["check"]: finding for finding in json.loads(ran.stdout)}
    assert {"bucket", "queue", "sync", "files"} <= set(findings), ran.stdout + ran.stderr
    assert findings.keys().isdisjoint({"table", "API"})
    # moto's queues and buckets lack some of what a deployment sets; nothing is missing that this one should have.
    assert findings["catalog and storage"]["remedy"] is None


def test_the_schedule_finds_what_no_event_has_told(alone: Deployment, site: Worker, tmp_path: Path, name: str) -> None:
    put_wheel(alone, tmp_path, name)
    forget_messages(alone, alone.queue_url)
    found = site.invoke({"source": "aws.events", "detail-type": "Scheduled Event"})
    assert (found["added"], found["partial"], found["site"]["partial"]) == (1, False, False)
    assert listed(alone, name) is not None
    again = site.invoke({"source": "aws.events"})
    assert (again["added"], again["site"]["drift"]) == (0, 0)


def test_an_index_that_is_there_already_is_written_though_one_run_is_too_short(
    alone: Deployment, site: Worker, tmp_path: Path
) -> None:
    for number in range(12):
        put_wheel(alone, tmp_path, f"many-{number}")
    forget_messages(alone, alone.queue_url)
    assert site.invoke({}, seconds=0.2)["partial"] is True  # sent itself on
    for _ in range(30):
        if alone.carry(site) == 0:
            break
    assert [number for number in range(12) if listed(alone, f"many-{number}") is None] == []


def test_pip_installs_without_any_code_running(
    alone: Deployment, site: Worker, desk: Desk, tmp_path: Path, name: str
) -> None:
    put_wheel(alone, tmp_path / "made", name)
    alone.carry(site)
    code = alone.template["Resources"]["SiteRequests"]["Properties"]["FunctionCode"]
    output, source = (Bucket(alone.cloud, bucket or "", ALLOWED) for bucket in (alone.output_bucket, alone.bucket))
    with function(code, tmp_path) as running, listening(CloudFront(running, output, source)) as url:
        installed = desk.pip("install", "--index-url", f"{url}/simple/", name)
    assert installed.succeeded, installed.output
    assert desk.installed()[NormalizedName(name)] == "1.0"


# By hand -------------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
AWS_CLI = ROOT / ".peers" / "bin" / "aws"


def documented_commands(names: Mapping[str, str], directory: Path) -> list[str]:
    """Return what the documentation says to type, by section: to make the function, to update it; with other names."""
    section = (ROOT / "docs" / "aws.md").read_text().partition("\n### By hand\n")[2].partition("\n## ")[0]
    examples = directory / "docs" / "examples"
    examples.mkdir(parents=True)
    for path in (ROOT / "docs" / "examples").glob("site-*.json"):
        (examples / path.name).write_text(renamed(path.read_text(), names))
    found = re.findall(r"^```sh\nmake bundle\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [renamed(text, names) for text in found]


def renamed(text: str, names: Mapping[str, str]) -> str:
    for documented, ours in names.items():
        text = text.replace(documented, ours)
    return text


def test_the_function_is_made_by_hand_as_documented(cloud: Cloud, desk: Desk, tmp_path: Path) -> None:
    assert AWS_CLI.exists(), "`make .peers/installed` installs it"
    names = {"acme-pypi-files": cloud.make_bucket(), "acme-pypi-pages": f"{cloud.make_bucket()}-pages"}
    make, update = documented_commands(names, tmp_path)
    (tmp_path / ".cache").mkdir()
    build_bundle(parse_target(HOST, HOST), tmp_path / ".cache" / "bundle.zip")
    environment = {
        **cloud.environment,
        "PATH": f"{AWS_CLI.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "AWS_PAGER": "",
    }
    for commands in (make, update):
        ran = subprocess.run(
            ["sh", "-e", "-c", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
    files, pages = names.values()
    events = cloud.aws.s3.get_bucket_notification_configuration(Bucket=files)["LambdaFunctionConfigurations"]
    suffixes = {rule["Value"] for each in events for rule in each["Filter"]["Key"]["FilterRules"]}
    assert suffixes == {".whl", ".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".egg", "project.json"}

    with with_environment(cloud) as clients:
        function_ = clients.client("lambda").get_function_configuration(FunctionName="acme-pypi-site")
        policy = clients.client("iam").get_role_policy(RoleName="acme-pypi-site", PolicyName="site")["PolicyDocument"]
    code = tmp_path / "code"
    with zipfile.ZipFile(tmp_path / ".cache" / "bundle.zip") as archive:
        archive.extractall(code)
    variables = {
        **function_["Environment"]["Variables"],
        **cloud.environment,
        "AWS_LAMBDA_FUNCTION_NAME": function_["FunctionName"],
        "AWS_REGION": REGION,
    }
    wheel = make_wheel(tmp_path / "made", "acme-by-hand")
    key = f"acme-by-hand/{wheel.name}"
    worker = Worker(code, function_["Handler"], variables, tmp_path / "log", float(function_["Timeout"]))
    try:
        worker.start()
        worker.invoke(None)  # the first look at everything
        cloud.aws.s3.put_object(Bucket=files, Key=key, Body=wheel.read_bytes())
        worker.invoke(s3_event(s3_record(key, bucket=files)))
    finally:
        worker.stop()
    needed = {permission for call in worker.calls for permission in call.permissions()}
    assert [each for each in sorted(needed) if not is_allowed(policy["Statement"], *each)] == []

    viewer_request = (ROOT / "docs" / "examples" / "cloudfront-function.js").read_text()
    output, source = (Bucket(cloud, bucket, ALLOWED) for bucket in (pages, files))
    with function(viewer_request, tmp_path) as running, listening(CloudFront(running, output, source)) as url:
        installed = desk.pip("install", "--index-url", f"{url}/simple/", "acme-by-hand")
    assert installed.succeeded, installed.output


@contextmanager
def with_environment(cloud: Cloud) -> Iterator[AWS]:
    """Clients for services that only a deployment uses."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        yield cloud.aws
