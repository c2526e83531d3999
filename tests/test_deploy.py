"""`sls` with our serverless.yml: what it packages, and what it really deploys, updates and removes."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.security import generate_password_hash

from deploy.settings import function_environment, resolve
from elasticpypi.aws import AWS
from elasticpypi.config import Settings, load_settings
from elasticpypi.errors import ConfigError
from elasticpypi.handler.logs import Lines
from tests.aws import REGION, Cloud
from tests.clients import Account, Desk
from tests.deployed import ACCOUNT, FOR_THIS_MACHINE, FUNCTIONS, Deployment, Project, deploy, deployed, make_project
from tests.dists import make_wheel
from tests.gateway import HttpGateway, RestGateway, read_gateway_responses
from tests.policies import is_allowed
from tests.running import free_port, process_tree, run_command, wait_for

pytestmark = pytest.mark.timeout(600)  # seconds: Node, moto and CloudFormation take their time
ROOT = Path(__file__).parents[1]
TOPIC = f"arn:aws:sns:{REGION}:123456789012:operations"
SECRET = "tr0ub4dor&3 ${self:service} ${env:NOPE} ${file(./serverless.yml):service}"
CONFIGURATION: dict[str, Any] = {
    "service": "acme-pypi",
    "stage": "/dev",
    "bucket": "acme-pypi-files",
    "table": "acme-pypi",
    "profile": None,
    "username": "standard",
    "password": SECRET,
    "overwrite": False,
}
WITH_PASSWORD: dict[str, Any] = {
    "url": "https://pypi.example.org/simple/",
    "mode": "proxy",
    "username": "reader",
    "password": "of-the-upstream",
    "keep": True,
}


# The settings that serverless.yml takes -------------------------------------------------------------------------------


def resolved(path: Path, document: Mapping[str, Any], **environ: str) -> dict[str, Any]:
    path.write_text(json.dumps(document))
    given = {"ELASTICPYPI_CONFIG": str(path), "AWS_CONFIG_FILE": os.devnull, "AWS_REGION": REGION, **environ}
    return resolve(given)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def test_the_api_reads_the_settings_that_were_deployed(path: Path) -> None:
    users = [{"username": "ci", "password": "ünï", "permission": "upload", "projects": ["acme-*"]}]
    looks = {"title": "Acme", "audit_days": 30, "count_downloads": True, "own_names": ["acme-*"]}
    upstreams = [WITH_PASSWORD, {"url": "https://pypi.org/simple/", "mode": "proxy", "min-age": 7, "undated": "old"}]
    more = {"users": users, "upstreams": upstreams, "url": "https://pypi.example.org/", "gateway": "http"}
    document = {**CONFIGURATION, **looks, **more}
    environ = {"ELASTICPYPI_OVERWRITE": "true", "ELASTICPYPI_STAGE": "prod"}  # overrides reach the functions, too
    environment = resolved(path, document, **environ)["environment"]["api"]
    told = load_settings(environ=environment, default_path=path.with_name("none.json"))
    assert told == load_settings(environ={"ELASTICPYPI_CONFIG": str(path), **environ}, default_path=path)
    assert told.overwrite


@pytest.mark.parametrize("function", ["events", "sync", "site"])
def test_who_nobody_logs_in_to_is_told_no_password(path: Path, function: str) -> None:
    environment = resolved(path, CONFIGURATION)["environment"][function]
    assert SECRET not in json.dumps(environment)
    told = load_settings(environ=environment, default_path=path.with_name("none.json"), serving=False)
    assert (told.bucket, told.table, told.service) == ("acme-pypi-files", "acme-pypi", "acme-pypi")


def test_who_asks_upstreams_is_told_of_them_and_of_nobody_else_s_passwords(path: Path) -> None:
    document = {**CONFIGURATION, "upstreams": [WITH_PASSWORD], "own_names": ["acme-*"]}
    environment = resolved(path, document)["environment"]
    environ = {"ELASTICPYPI_CONFIG": str(path)}
    whole = load_settings(environ=environ, default_path=path)
    for function, variables in environment.items():
        told = load_settings(environ=variables, default_path=path.with_name("none.json"), serving=False)
        asks = function in ("api", "events")
        assert (told.upstreams, told.own_names) == ((whole.upstreams, whole.own_names) if asks else ((), ()))
        assert ("of-the-upstream" in json.dumps(variables)) == asks
        assert (SECRET in variables.values()) == (function == "api")


def test_defaults_take_no_room() -> None:
    assert set(function_environment(Settings(bucket="b", table="t"))) == {
        "ELASTICPYPI_SERVICE",
        "ELASTICPYPI_STAGE",
        "ELASTICPYPI_BUCKET",
        "ELASTICPYPI_TABLE",
        "ELASTICPYPI_GATEWAY",
        "ELASTICPYPI_OVERWRITE",
    }


AWS_CONFIG = """
[default]
region = eu-west-1
[profile acme]
region = eu-north-1
[profile nowhere]
output = json
"""
REGIONS = [
    ({"region": "ap-south-1"}, {"AWS_REGION": "eu-west-3"}, "ap-south-1"),
    ({}, {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-3"),
    ({}, {"AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
    ({}, {}, "eu-west-1"),
    ({"profile": "acme"}, {}, "eu-north-1"),
    ({}, {"AWS_PROFILE": "acme"}, "eu-north-1"),
    ({"profile": "nowhere"}, {}, None),
]


@pytest.mark.parametrize(("changes", "environ", "expected"), REGIONS)
def test_the_region_is_the_one_that_every_command_uses(
    path: Path, changes: dict[str, str], environ: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = path.with_name("aws-config")
    config.write_text(AWS_CONFIG)
    path.write_text(json.dumps({**CONFIGURATION, **changes}))
    for name in (name for name in os.environ if name.startswith("AWS_")):
        monkeypatch.delenv(name)
    variables = {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **environ}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    given = {"ELASTICPYPI_CONFIG": str(path), **variables}
    settings = load_settings(environ=given, default_path=path)
    if expected is None:
        for ask in (lambda: resolve(given), lambda: AWS(profile=settings.profile, region=settings.region)):
            with pytest.raises(ConfigError, match=r'no region is named.*"region": "eu-central-1"'):
                ask()
    else:
        assert resolve(given)["region"] == expected
        assert AWS(profile=settings.profile, region=settings.region).region == expected


UPSTREAMS = [
    {"url": "https://pypi.org/simple/", "mode": "proxy", "deny": [f"projects-of-team-{n}-*" for n in range(99)]}
]
UPSTREAMS += [{**UPSTREAMS[0], "name": "other"}]
OWN_NAMES = [f"of-the-house-{number}-which-is-long-enough" for number in range(99)]
PAGES = {"output_bucket": "acme-pypi-pages"}
WEBSITE = {**PAGES, "output_access": "website"}
MANY = [{"username": f"user-{number}", "password": "x" * 40} for number in range(60)]
# (changes, what the message names)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"bucket": None}, "'bucket'"),
    ({"gateway": "edge"}, "'gateway'"),
    ({"password": ""}, "'password'"),
    ({"users": MANY}, "'users' is too large: the variables of a function would take "),
    ({"users": MANY}, "have fewer users or share one"),
    ({"upstreams": UPSTREAMS}, "'upstreams' is too large"),
    ({"upstreams": UPSTREAMS}, "have fewer upstreams, or patterns"),
    ({"own_names": OWN_NAMES}, "'own_names' is too large"),
    ({"title": "x" * 4000}, "'title' is too large"),
    ({"service": "a" * 60}, "'service' and 'stage' are too long"),
    ({**PAGES, "output_bucket": "acme-pypi-files"}, "'output_bucket'"),
    (WEBSITE, "'packages_url' is missing"),
    ({**WEBSITE, "packages_url": "https://files.example.org/", "core_metadata": "output"}, "'core_metadata'"),
    ({**PAGES, "core_metadata": "beside"}, "'core_metadata'"),
    ({**PAGES, "password": generate_password_hash("x", "scrypt:1024:8:1")}, "nobody could read the static files"),
    ({"alarm_topic": TOPIC, "region": "us-west-2"}, f"'alarm_topic' is in {REGION}, and the deployment in us-west-2"),
]


@pytest.mark.parametrize(("changes", "names"), WRONG)
def test_what_cannot_be_deployed_names_the_key(path: Path, changes: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolved(path, {**CONFIGURATION, **changes})
    assert names in str(raised.value)
    assert SECRET not in str(raised.value)


ALONE = {key: CONFIGURATION[key] for key in ("service", "stage", "bucket", "profile")} | PAGES


def test_credentials_that_protect_nothing_are_refused(path: Path) -> None:
    website = {**ALONE, **WEBSITE, "packages_url": "https://files.example.org/"}
    assert resolved(path, website)["access"] == "none"
    with pytest.raises(ConfigError, match="would protect nothing"):
        resolved(path, {**website, "username": "standard", "password": SECRET})


def test_static_files_alone_ask_nobody(path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"nobody would be asked: 'upstreams' are for an API.*\"table\": \"acme-pypi\""
    ):
        resolved(path, {**ALONE, "upstreams": [WITH_PASSWORD]})
    assert resolved(path, {**ALONE, "own_names": ["acme-*"]})["shape"] == "alone"


def test_cloudfront_lets_in_whom_it_can_compare_and_who_may_see_all_projects(path: Path) -> None:
    users = [
        {"username": "reader", "password": "ünï"},
        {"username": "some", "password": "x", "projects": ["acme-*"]},
        {"username": "slow", "password": generate_password_hash("x", "scrypt:1024:8:1")},
    ]
    header = f"Basic {base64.b64encode('reader:ünï'.encode()).decode()}"
    assert resolved(path, {**ALONE, "users": users})["authorizations"] == [hashlib.sha256(header.encode()).hexdigest()]
    assert resolved(path, ALONE)["authorizations"] == []


def test_what_keeps_static_files_current_is_told_of_them_and_the_api_is_not(path: Path) -> None:
    site = {
        "output_url": "https://pypi.example.org/",
        "packages_url": "https://files.example.org/",
        "core_metadata": "beside",
        "title": "Acme",
        "logo": "https://example.org/logo.svg",
        "logo_width": 80,
    }
    environment = resolved(path, {**CONFIGURATION, **PAGES, **site})["environment"]
    titled = {**CONFIGURATION, "title": site["title"]}  # of its pages as well
    assert resolved(path, titled)["environment"]["api"] == environment["api"]
    told = load_settings(environ=environment["events"], default_path=path.with_name("none.json"), serving=False)
    for key, value in {**PAGES, **site}.items():
        assert getattr(told, key) == value


def test_each_stage_has_a_configuration_of_its_own(path: Path) -> None:
    path.write_text(json.dumps({**CONFIGURATION, "region": REGION}))
    given = {"ELASTICPYPI_CONFIG": str(path)}
    assert {resolve(given, stage=stage)["stage"] for stage in (None, "dev", "/dev")} == {"dev"}
    with pytest.raises(
        ConfigError, match=r"'--stage' names 'prod'.*'dev'.*ELASTICPYPI_CONFIG=prod\.json npx sls deploy"
    ):
        resolve(given, stage="prod")


def test_a_local_configuration_is_not_deployed(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'bucket' is missing in .*, which a deployment to AWS needs"):
        resolved(path, {"username": "standard", "password": SECRET})


# What `sls package` makes of them -------------------------------------------------------------------------------------

VARIANTS: dict[str, dict[str, Any]] = {
    "rest": {
        "users": [{"username": "ci", "password": "x"}],
        "alarm_topic": TOPIC,
        "upstreams": [{**WITH_PASSWORD, "password": SECRET}],
    },
    "http": {"gateway": "http", "architecture": "x86_64", "runtime": "python3.14"},
    "taken over": {"take_over": True, "snap_start": True},
    "with pages": {"output_bucket": "acme-pypi-pages"},
    "with a website": {
        "output_bucket": "acme-pypi-pages",
        "output_access": "website",
        "packages_url": "https://files.example.org/",
        "core_metadata": "beside",
    },
    "alone": {"output_bucket": "acme-pypi-pages", "table": None},
    "alone, taken over": {
        "output_bucket": "acme-pypi-pages",
        "table": None,
        "username": None,
        "password": None,
        "take_over": True,
    },
}
# Each is two runs of sls and one of cfn-lint; these parts of deploy/ the others have as well.
SELDOM = ("alone, taken over", "with a website")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.heavy) if name in SELDOM else name for name in VARIANTS],
)
def packaged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cloud: Cloud) -> Project:
    directory = tmp_path_factory.mktemp("packaged") / "project"
    project = make_project(directory, cloud, **{**CONFIGURATION, "region": REGION, **VARIANTS[request.param]})
    # No credentials, no endpoint: nothing of AWS is asked. The bundle is another test's.
    offline = dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
    ran = project.sls("package", *FOR_THIS_MACHINE, extra=offline)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return project


ROLES = {"api": "ApiRole", "events": "EventsRole", "sync": "SyncRole", "site": "SiteRole"}


def functions_of(project: Project) -> tuple[str, ...]:
    return FUNCTIONS if "table" in project.configuration else ("site",)


def of_type(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    found = template["Resources"].items()
    return {name: resource["Properties"] for name, resource in found if resource["Type"] == kind}


def test_cfn_lint_finds_no_error(packaged: Project) -> None:
    path = packaged.directory / ".serverless" / "cloudformation-template-update-stack.json"
    linter = packaged.directory / ".venv" / "bin" / "cfn-lint"
    ran = subprocess.run(
        [linter, "--non-zero-exit-code", "error", "--regions", REGION, "--", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    # A dependency that osls names twice is the only thing to be said.
    said = [line for line in ran.stdout.splitlines() if line.startswith(("E", "W", "I"))]
    assert [line for line in said if not line.startswith("W3005 ")] == []


def test_no_function_may_do_anything_to_everything(packaged: Project) -> None:
    template = packaged.template()
    roles = of_type(template, "AWS::IAM::Role")
    assert set(roles) == {ROLES[name] for name in functions_of(packaged)}
    policies = [policy for role in roles.values() for policy in role["Policies"]]
    for policy in (*policies, *of_type(template, "AWS::IAM::Policy").values()):
        for statement in policy["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Deny":
                assert re.search(
                    r':::acme-pypi-files/\.elasticpypi/(publishers\.json|upstream/\*)"}$',
                    json.dumps(statement["Resource"]),
                )
            assert [action for action in statement["Action"] if "*" in action] == []
            resource = json.dumps(statement["Resource"])
            assert resource not in ('"*"', '["*"]')
            # A bucket, its objects, one table, one queue, the function's own log.
            of_objects = re.search(r":::acme-pypi-(files|pages)/.*\*", resource) is not None
            assert resource.count("*") == int(of_objects or "log-group" in resource)


def test_who_only_reads_pages_may_not_write_them(packaged: Project) -> None:
    for name, policy in of_type(packaged.template(), "AWS::IAM::Policy").items():
        assert policy["Roles"] == [{"Ref": "EventsRole"}, {"Ref": "SyncRole"}], name
    api = of_type(packaged.template(), "AWS::IAM::Role").get("ApiRole", {})
    assert "acme-pypi-pages" not in json.dumps(api)


# What the functions do to keep static files, where the API does not: action, resource.
KEEPING = [
    ("s3:ListBucket", "arn:aws:s3:::acme-pypi-pages"),
    ("s3:GetObject", "arn:aws:s3:::acme-pypi-pages/simple/acme/index.json"),
    ("s3:PutObject", "arn:aws:s3:::acme-pypi-pages/simple/acme/index.json"),
    ("s3:DeleteObject", "arn:aws:s3:::acme-pypi-pages/.elasticpypi/site/acme"),
    ("sqs:SendMessage", "EventsQueue"),
]
TABLE = "arn:aws:dynamodb:${AWS::Region}:${AWS::AccountId}:table/acme-pypi"
BESIDE = [
    ("s3:PutObject", "arn:aws:s3:::acme-pypi-files/acme/acme-1.0-py3-none-any.whl.metadata"),
    ("s3:DeleteObject", "arn:aws:s3:::acme-pypi-files/acme/acme-1.0-py3-none-any.whl.metadata"),
]


def role_statements(packaged: Project, role: str) -> list[dict[str, Any]]:
    """The statements of a role, those included that are attached to several; a queue is named as in the template."""
    template = packaged.template()
    policies = list(of_type(template, "AWS::IAM::Role")[role]["Policies"])
    policies += [each for each in of_type(template, "AWS::IAM::Policy").values() if {"Ref": role} in each["Roles"]]
    text = json.dumps([each for policy in policies for each in policy["PolicyDocument"]["Statement"]])
    text = re.sub(r'{"Fn::Sub": ("[^"]*")}', r"\1", text).replace("${AWS::Partition}", "aws")
    statements: list[dict[str, Any]] = json.loads(re.sub(r'{"Fn::GetAtt": \["(\w+)", "Arn"\]}', r'"\1"', text))
    return statements


def test_who_keeps_static_files_may_read_write_and_remove_them(packaged: Project) -> None:
    for function in functions_of(packaged):
        statements = role_statements(packaged, ROLES[function])
        keeps = "output_bucket" in packaged.configuration and function != "api"
        of_pages = [each for each in KEEPING if each[0] != "sqs:SendMessage" or function != "api"]
        assert [each for each in of_pages if is_allowed(statements, *each) != keeps] == []
        if function == "events":
            assert is_allowed(statements, "dynamodb:Scan", TABLE) == keeps  # or a sync could not go on there
        allowed = [each for each in BESIDE if is_allowed(statements, *each)]
        if keeps and packaged.configuration.get("core_metadata") == "beside":
            assert allowed == BESIDE
        elif function != "api":  # the indexer may write any object: it finishes large uploads
            assert ("s3:DeleteObject", BESIDE[1][1]) not in allowed


def test_every_function_has_its_own_role_and_log(packaged: Project) -> None:
    template = packaged.template()
    functions = of_type(template, "AWS::Lambda::Function")
    assert {function["FunctionName"] for function in functions.values()} == {
        f"acme-pypi-dev-{name}" for name in functions_of(packaged)
    }
    assert {json.dumps(function["Role"]) for function in functions.values()} == {
        json.dumps({"Fn::GetAtt": [ROLES[name], "Arn"]}) for name in functions_of(packaged)
    }
    logs = of_type(template, "AWS::Logs::LogGroup")
    assert {log["LogGroupName"] for log in logs.values()} == {
        f"/aws/lambda/acme-pypi-dev-{name}" for name in functions_of(packaged)
    }
    assert {log["RetentionInDays"] for log in logs.values()} == {30}


def test_functions_run_as_configured(packaged: Project) -> None:
    configuration = packaged.configuration
    for function in of_type(packaged.template(), "AWS::Lambda::Function").values():
        assert function["Runtime"] == configuration.get("runtime", "python3.13")
        assert function["Architectures"] == [configuration.get("architecture", "arm64")]
        variables = function["Environment"]["Variables"]
        name = function["Handler"].split(".")[2]
        assert variables.get("ELASTICPYPI_PASSWORD") == (SECRET if name == "api" else None)  # with all its "${…}"
        told = json.loads(variables.get("ELASTICPYPI_UPSTREAMS", "[]"))
        assert [each["password"] for each in told] == (
            [SECRET] if "upstreams" in configuration and name in ("api", "events") else []
        )


def test_the_indexer_has_room_for_large_files_on_their_way(packaged: Project) -> None:
    functions = of_type(packaged.template(), "AWS::Lambda::Function").values()
    rooms = {f["Handler"]: f.get("EphemeralStorage", {}).get("Size") for f in functions}
    assert rooms.get("elasticpypi.handler.events.handle", 4096) == 4096  # MB
    assert {size for handler, size in rooms.items() if handler != "elasticpypi.handler.events.handle"} == {None}


def test_nobody_else_on_the_machine_reads_what_was_packaged(packaged: Project) -> None:
    assert stat.S_IMODE((packaged.directory / ".serverless").stat().st_mode) == 0o700


def test_a_password_is_not_shown(packaged: Project) -> None:
    if "api" not in functions_of(packaged):
        return  # it is told none
    printed = packaged.sls("print")
    assert printed.returncode == 0, printed.stdout + printed.stderr
    assert ROLES[functions_of(packaged)[0]] in printed.stdout
    assert "tr0ub4dor" not in printed.stdout + printed.stderr


def test_the_queue_lets_the_bucket_in_before_the_bucket_is_there(packaged: Project) -> None:
    template = packaged.template()
    (policy,) = of_type(template, "AWS::SQS::QueuePolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Condition"]["ArnEquals"]["aws:SourceArn"] == {
        "Fn::Sub": "arn:${AWS::Partition}:s3:::acme-pypi-files"
    }
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    if "Bucket" in template["Resources"]:
        assert "EventsQueuePolicy" in template["Resources"]["Bucket"]["DependsOn"]
        assert '"Bucket"' not in json.dumps(policy)  # or each would wait for the other


RETAINED = ("Bucket", "BucketPolicy", "Table", "OutputBucket", "OutputBucketPolicy")


def test_bucket_and_table_are_retained_or_not_of_the_stack(packaged: Project) -> None:
    resources = packaged.template()["Resources"]
    kept = {"Bucket", "BucketPolicy"}
    kept |= {"Table"} if "table" in packaged.configuration else set()
    kept |= {"OutputBucket", "OutputBucketPolicy"} if "output_bucket" in packaged.configuration else set()
    ours = {name: resource for name, resource in resources.items() if name in RETAINED}
    assert set(ours) == (set() if packaged.configuration.get("take_over") else kept)
    for resource in ours.values():
        # A failed first attempt leaves nothing behind that a second one would stumble over.
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_the_bucket_is_private_encrypted_and_versioned(packaged: Project) -> None:
    buckets = of_type(packaged.template(), "AWS::S3::Bucket")
    is_website = packaged.configuration.get("output_access") == "website"
    public = [name for name in buckets if not all(buckets[name]["PublicAccessBlockConfiguration"].values())]
    assert public == (["OutputBucket"] if is_website else [])
    if "Bucket" in buckets:
        assert buckets["Bucket"]["VersioningConfiguration"] == {"Status": "Enabled"}
        assert "BucketEncryption" in buckets["Bucket"]
        notified = buckets["Bucket"]["NotificationConfiguration"]["QueueConfigurations"]
        assert [entry["Event"] for entry in notified] == [
            "s3:ObjectCreated:*",
            "s3:ObjectRemoved:*",
            "s3:LifecycleExpiration:*",
        ]


def test_a_message_is_not_seen_twice_while_a_function_is_at_it(packaged: Project) -> None:
    template = packaged.template()
    timeouts = {f["Handler"]: f["Timeout"] for f in of_type(template, "AWS::Lambda::Function").values()}
    queue = of_type(template, "AWS::SQS::Queue")["EventsQueue"]
    assert queue["VisibilityTimeout"] == 6 * max(timeouts.values())
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
    (source,) = of_type(template, "AWS::Lambda::EventSourceMapping").values()
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["ScalingConfig"]["MaximumConcurrency"] <= 10


def test_what_the_gateway_answers_itself_is_part_of_the_deployment(packaged: Project) -> None:
    template = packaged.template()
    answers = read_gateway_responses(template)
    if packaged.configuration.get("gateway") == "http" or "api" not in functions_of(packaged):
        assert answers == {}
        return
    assert "elasticpypi upload" in str(answers["REQUEST_TOO_LARGE"].template)
    assert {kind: (answer.status, answer.headers) for kind, answer in answers.items()} == {
        "REQUEST_TOO_LARGE": (413, {}),
        "THROTTLED": (429, {"Retry-After": "5"}),
        "QUOTA_EXCEEDED": (429, {"Retry-After": "5"}),
        "INTEGRATION_TIMEOUT": (503, {"Retry-After": "5"}),
        "INTEGRATION_FAILURE": (503, {"Retry-After": "5"}),
        "DEFAULT_5XX": (503, {"Retry-After": "5"}),
    }
    assert [answer for answer in answers.values() if "message" not in json.loads(str(answer.template))] == []
    (deployment,) = (r for r in template["Resources"].values() if r["Type"] == "AWS::ApiGateway::Deployment")
    names = {n for n, r in template["Resources"].items() if r["Type"] == "AWS::ApiGateway::GatewayResponse"}
    assert names <= set(deployment["DependsOn"])
    (api,) = of_type(template, "AWS::ApiGateway::RestApi").values()
    assert api["BinaryMediaTypes"] == ["*/*"]


def test_alarms_go_to_the_topic_if_there_is_one(packaged: Project) -> None:
    alarms = of_type(packaged.template(), "AWS::CloudWatch::Alarm")
    topic = packaged.configuration.get("alarm_topic")
    assert {tuple(alarm["AlarmActions"]) for alarm in alarms.values()} == {() if topic is None else (topic,)}
    assert {"DeadEventsAlarm", "DriftAlarm"} <= set(alarms)
    of_functions = {"ApiErrorsAlarm", "ApiCrashesAlarm", "EventsErrorsAlarm", "SyncErrorsAlarm", "SiteErrorsAlarm"}
    expected = {"SiteErrorsAlarm"} if functions_of(packaged) == ("site",) else of_functions - {"SiteErrorsAlarm"}
    assert of_functions & set(alarms) == expected
    assert ("SiteFailedAlarm" in alarms) == ("output_bucket" in packaged.configuration)


def test_alarms_look_at_the_metrics_that_the_functions_write(packaged: Project) -> None:
    lines = io.StringIO()
    writer = Lines(service="acme-pypi", stage="dev", stream=lines)
    request = {"method": "GET", "path": "/", "size": 0, "seconds": 0, "principal": None, "request_id": None}
    writer.write_request(status=503, **request)  # type: ignore[arg-type]
    line = json.loads(lines.getvalue())
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    alarms = of_type(packaged.template(), "AWS::CloudWatch::Alarm")
    if "ApiErrorsAlarm" in alarms:
        alarm = alarms["ApiErrorsAlarm"]
        assert (alarm["Namespace"], alarm["MetricName"]) == (directive["Namespace"], "Errors")
        assert alarm["Statistic"] == "Sum"
    assert "Errors" in [metric["Name"] for metric in directive["Metrics"]]
    for each in (alarm for alarm in alarms.values() if alarm["Namespace"] == directive["Namespace"]):
        named = {dimension["Name"]: dimension["Value"] for dimension in each["Dimensions"]}
        assert named == {name: line[name] for name in directive["Dimensions"][0]}


def statements_of(packaged: Project, bucket: str) -> list[dict[str, Any]]:
    """The statements of a bucket's policy, their references and account written out."""
    policy = of_type(packaged.template(), "AWS::S3::BucketPolicy")[f"{bucket}Policy"]
    text = re.sub(r'{"Fn::Sub": ("[^"]*")}', r"\1", json.dumps(policy["PolicyDocument"]["Statement"]))
    text = text.replace('{"Ref": "AWS::AccountId"}', f'"{ACCOUNT}"').replace("${AWS::AccountId}", ACCOUNT)
    statements: list[dict[str, Any]] = json.loads(text.replace("${AWS::Partition}", "aws"))
    return statements


def may_read(statements: list[dict[str, Any]], who: object, action: str, resource: str, **context: str) -> bool:
    """Whether a policy lets somebody in; what it says about TLS is left out, and nobody else has a say."""
    applying = [
        {key: value for key, value in statement.items() if key != "Principal"}
        for statement in statements
        if statement["Sid"] != "OnlyOverTls" and statement["Principal"] in ("*", who)
    ]
    named = {name.replace("_", ":"): value for name, value in context.items()}
    return is_allowed(applying, action, f"arn:aws:s3:::{resource}", named)


CLOUDFRONT = {"Service": "cloudfront.amazonaws.com"}
OUR_DISTRIBUTION = f"arn:aws:cloudfront::{ACCOUNT}:distribution/${{Distribution}}"
# (bucket, action, resource, whether CloudFront may)
READ_BY_CLOUDFRONT = [
    ("Bucket", "s3:GetObject", "acme-pypi-files/acme/acme-1.0-py3-none-any.whl", True),
    ("Bucket", "s3:GetObject", "acme-pypi-files/acme-1.0.tar.gz", True),
    ("Bucket", "s3:ListBucket", "acme-pypi-files", True),
    ("Bucket", "s3:GetObject", "acme-pypi-files/acme/project.json", False),
    ("Bucket", "s3:GetObject", "acme-pypi-files/.elasticpypi/upstream/acme-1.0-py3-none-any.whl", False),
    ("Bucket", "s3:GetObjectVersion", "acme-pypi-files/acme/acme-1.0-py3-none-any.whl", False),
    ("OutputBucket", "s3:GetObject", "acme-pypi-pages/simple/acme/index.html", True),
    ("OutputBucket", "s3:ListBucket", "acme-pypi-pages", True),
    ("OutputBucket", "s3:GetObject", "acme-pypi-pages/.elasticpypi/catalog/root.json", False),
    ("OutputBucket", "s3:GetObject", "acme-pypi-pages/.elasticpypi/site/acme", False),
    ("OutputBucket", "s3:PutObject", "acme-pypi-pages/simple/index.html", False),
]


def test_cloudfront_reads_what_clients_ask_for(packaged: Project) -> None:
    resources = packaged.template()["Resources"]
    for bucket in ("Bucket", "OutputBucket"):
        if f"{bucket}Policy" in resources:
            check_readers(packaged, bucket, has_cloudfront="Distribution" in resources)


def check_readers(packaged: Project, bucket: str, *, has_cloudfront: bool) -> None:
    policy = statements_of(packaged, bucket)
    is_public = packaged.configuration.get("output_access") == "website" and bucket == "OutputBucket"
    ours = {"aws_SourceArn": OUR_DISTRIBUTION, "aws_PrincipalAccount": "cloudfront"}
    another = {"aws_SourceArn": f"arn:aws:cloudfront::{ACCOUNT}:distribution/another"}
    for action, resource, expected in ((a, r, e) for b, a, r, e in READ_BY_CLOUDFRONT if b == bucket):
        allowed = may_read(policy, CLOUDFRONT, action, resource, **ours)
        assert allowed == (expected and (has_cloudfront or is_public)), resource
        for_others = may_read(policy, CLOUDFRONT, action, resource, **another)
        for_somebody = may_read(policy, {"AWS": "somebody"}, action, resource)
        assert is_public or not (for_others or for_somebody), resource


def test_a_website_is_read_by_everybody_but_for_what_the_site_keeps_for_itself(packaged: Project) -> None:
    template = packaged.template()
    website = template["Resources"].get("OutputBucket", {}).get("Properties", {}).get("WebsiteConfiguration")
    if packaged.configuration.get("output_access") != "website":
        assert website is None
        return
    assert website == {"IndexDocument": "index.html", "ErrorDocument": "404.html"}
    policy = statements_of(packaged, "OutputBucket")
    state = "acme-pypi-pages/.elasticpypi/catalog/root.json"
    assert may_read(policy, "*", "s3:GetObject", "acme-pypi-pages/simple/index.html")
    assert may_read(policy, "*", "s3:ListBucket", "acme-pypi-pages")  # or what is missing would be forbidden
    assert not may_read(policy, "*", "s3:GetObject", state)
    assert not may_read(policy, "*", "s3:PutObject", "acme-pypi-pages/simple/index.html")
    of_our_account = [each for each in policy if each["Effect"] == "Deny"]
    assert not any(may_deny(each, state, aws_PrincipalAccount=ACCOUNT) for each in of_our_account)


def may_deny(statement: dict[str, Any], resource: str, **context: str) -> bool:
    allowing = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Sid": "everything"}
    return not may_read([allowing, statement], "*", "s3:GetObject", resource, **context)


def test_cloudfront_asks_for_the_credentials_that_are_configured(packaged: Project) -> None:
    requests_ = of_type(packaged.template(), "AWS::CloudFront::Function")
    if not requests_:
        assert packaged.configuration.get("output_access") == "website" or "output_bucket" not in packaged.configuration
        return
    (function,) = requests_.values()
    expected = []
    if "username" in packaged.configuration:
        header = f"Basic {base64.b64encode(f'standard:{SECRET}'.encode()).decode()}"
        expected = [hashlib.sha256(header.encode()).hexdigest()]
    (found,) = re.findall(r"^const AUTHORIZATIONS = (\[[^\]]*\]);$", function["FunctionCode"], re.MULTILINE)
    assert json.loads(found) == expected
    assert SECRET not in function["FunctionCode"]


def test_files_come_from_their_bucket_and_core_metadata_from_that_of_the_pages(packaged: Project) -> None:
    found = of_type(packaged.template(), "AWS::CloudFront::Distribution")
    if not found:
        return
    (distribution,) = (each["DistributionConfig"] for each in found.values())
    origins = {each["Id"]: each["DomainName"]["Fn::Sub"].partition(".")[0] for each in distribution["Origins"]}
    assert origins == {"output": "acme-pypi-pages", "files": "acme-pypi-files"}
    behaviors = [(each["PathPattern"], each["TargetOriginId"]) for each in distribution["CacheBehaviors"]]
    assert behaviors == [("/packages/*.metadata", "output"), ("/packages/*", "files")]
    assert distribution["DefaultCacheBehavior"]["TargetOriginId"] == "output"


def test_snap_start_is_of_a_published_version(packaged: Project) -> None:
    template = packaged.template()
    wanted = packaged.configuration.get("snap_start", False)
    snapped = [f for f in of_type(template, "AWS::Lambda::Function").values() if "SnapStart" in f]
    assert [f["Handler"] for f in snapped] == (["elasticpypi.handler.api.handle"] if wanted else [])
    assert len(of_type(template, "AWS::Lambda::Version")) == int(wanted)


def test_what_cannot_be_built_stops_sls_with_one_sentence(tmp_path: Path, cloud: Cloud) -> None:
    project = make_project(tmp_path / "project", cloud)
    ran = project.sls("package", "--param=architecture=riscv64")
    assert ran.returncode == 1
    output = ran.stdout + ran.stderr
    assert "no function runs on 'riscv64': choose one of arm64, x86_64" in output
    assert "\n    at " not in output
    assert "rror: error" not in output


def test_a_wrong_configuration_stops_sls_with_one_sentence(tmp_path: Path, cloud: Cloud) -> None:
    project = make_project(tmp_path / "project", cloud, gateway="edge")
    ran = project.sls("deploy")
    assert ran.returncode == 1
    output = ran.stdout + ran.stderr
    assert "'gateway' in " in output
    assert "is not one of rest, http; write for example" in output
    assert "\n    at " not in output
    stacks = cloud_client(cloud, "cloudformation").list_stacks()["StackSummaries"]
    assert [stack for stack in stacks if stack["StackName"].startswith(project.configuration["service"])] == []


# A real deployment ----------------------------------------------------------------------------------------------------


def cloud_client(cloud: Cloud, service: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        return cloud.aws.client(service)


def test_an_object_becomes_a_page(deployment: Deployment, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "acme", "1.0")
    key = f"acme/{wheel.name}"
    deployment.cloud.aws.s3.put_object(Bucket=deployment.bucket, Key=key, Body=wheel.read_bytes())
    responses = read_gateway_responses(deployment.template)
    with deployment.worker("events") as events, deployment.worker("api") as api:
        assert deployment.carry(events) >= 1
        with RestGateway(api, stage=deployment.stage, responses=responses) as gateway:
            index = Account(gateway.url, "admin", "secret")
            assert list(index.listed("acme")) == [wheel.name]
            assert index.status(f"/packages/acme/{wheel.name}.metadata") == 200
            deployment.cloud.aws.s3.delete_object(Bucket=deployment.bucket, Key=key)
            assert deployment.carry(events) >= 1
            assert index.listed("acme") == {}


def test_policies_allow_what_the_functions_do_and_not_more(deployment: Deployment, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "policied", "1.0")
    made = {}
    with deployment.worker("api") as api, deployment.worker("events") as events, deployment.worker("sync") as sync:
        with RestGateway(api, stage=deployment.stage) as gateway:
            index = Account(gateway.url, "admin", "secret")
            sent = requests.post(
                f"{index.url}/legacy/",
                data={":action": "file_upload", "name": "policied", "version": "1.0", "filetype": "bdist_wheel"},
                files={"content": (wheel.name, wheel.read_bytes())},
                auth=("admin", "secret"),
                timeout=60,
            )
            assert sent.status_code == 200, sent.text
            assert list(index.listed("policied")) == [wheel.name]
            assert index.status("/simple/") == 200
            assert index.status("/health") == 200
        deployment.carry(events)
        # What events did not tell: the last file of a project is gone.
        deployment.cloud.aws.s3.delete_object(Bucket=deployment.bucket, Key=f"policied/{wheel.name}")
        deployment.cloud.aws.sqs.purge_queue(QueueUrl=deployment.queue_url)
        sync.invoke({})
        assert any(call.named.get("Key") == "policied/project.json" for call in sync.calls)
        made = {"api": api.calls, "events": events.calls, "sync": sync.calls}
    for name, calls in made.items():
        needed = {permission for call in calls for permission in call.permissions()}
        assert len(needed) > 2
        assert [permission for permission in needed if not deployment.may(name, *permission)] == []
    table = deployment.cloud.aws.dynamodb.describe_table(TableName=deployment.table)["Table"]["TableArn"]
    objects = f"arn:aws:s3:::{deployment.bucket}/acme/acme-1.0.whl"
    queue = f"arn:aws:sqs:{REGION}:123456789012:{deployment.name}-events"
    assert deployment.may("api", "sqs:SendMessage", queue)
    for name, action, resource in (
        ("api", "dynamodb:Scan", table),
        ("events", "dynamodb:Scan", table),
        ("api", "dynamodb:DeleteTable", table),
        ("events", "s3:DeleteObject", objects),
        ("sync", "s3:DeleteObject", objects),
        ("api", "s3:PutBucketPolicy", f"arn:aws:s3:::{deployment.bucket}"),
        ("api", "s3:DeleteObjectVersion", objects),
        ("api", "s3:GetObject", "arn:aws:s3:::another-bucket/acme/acme-1.0.whl"),
        ("sync", "s3:PutObject", objects),
        ("api", "sqs:ReceiveMessage", queue),
        ("events", "sqs:SendMessage", queue),
        ("sync", "sqs:SendMessage", queue),
    ):
        assert not deployment.may(name, action, resource), (name, action)


def test_the_indexer_needs_no_flask(deployment: Deployment) -> None:
    with deployment.worker("events") as events:
        assert events.modules.isdisjoint({"flask", "werkzeug", "jinja2", "click", "sqlite3", "requests"})


@pytest.mark.heavy
def test_a_deployment_is_repeated_changed_removed_and_taken_over(tmp_path: Path, cloud: Cloud) -> None:
    project = make_project(tmp_path / "project", cloud)
    first = deploy(project, tmp_path / "code")
    again = project.sls("deploy", *FOR_THIS_MACHINE)
    assert "No changes to deploy" in again.stdout + again.stderr
    forced = project.sls("deploy", "--force", *FOR_THIS_MACHINE)
    assert "looks through its bucket" in forced.stdout + forced.stderr
    assert first.outputs["IndexUrl"].endswith("/dev/")
    assert f"{first.name}-api" in project.sls("info").stdout

    changed = deploy(project.configure(overwrite=True), tmp_path / "changed")
    assert changed.function("api")["Environment"]["Variables"]["ELASTICPYPI_OVERWRITE"] == "true"

    s3, dynamodb = cloud.aws.s3, cloud.aws.dynamodb
    s3.put_object(Bucket=first.bucket, Key="acme/acme-1.0.tar.gz", Body=b"stays")
    removed = project.sls("remove")
    assert removed.returncode == 0, removed.stdout + removed.stderr
    assert s3.get_object(Bucket=first.bucket, Key="acme/acme-1.0.tar.gz")["Body"].read() == b"stays"
    assert dynamodb.describe_table(TableName=first.table)["Table"]["TableStatus"] == "ACTIVE"
    assert cloud.aws.sqs.list_queues(QueueNamePrefix=first.name).get("QueueUrls", []) == []

    taken = deploy(project.configure(take_over=True), tmp_path / "taken")
    assert "Bucket" not in taken.template["Resources"]
    variables = {
        **cloud.environment,
        "ELASTICPYPI_CONFIG": str(project.directory / "elasticpypi" / "config.json"),
        "ELASTICPYPI_URL": "http://127.0.0.1:9/",  # nobody answers there, nor at the address of the stack
    }
    fixed = run_command("doctor", "--fix", home=tmp_path / "home", extra=variables)
    notified = s3.get_bucket_notification_configuration(Bucket=first.bucket)["QueueConfigurations"]
    arn = f"arn:aws:sqs:{REGION}:123456789012:{taken.name}-events"
    assert {entry["QueueArn"] for entry in notified} == {arn}, fixed.stdout + fixed.stderr


@pytest.mark.heavy
def test_an_http_api_is_at_the_root(tmp_path: Path, cloud: Cloud) -> None:
    with deployed(cloud, tmp_path, gateway="http") as made, made.worker("api") as api, HttpGateway(api) as gateway:
        assert not gateway.url.endswith("/dev")
        assert made.outputs["IndexUrl"].startswith("https://")
        index = Account(gateway.url, "admin", "secret")
        assert index.status("/health") == 200
        assert index.listed("acme") == {}


# `sls wsgi serve` -----------------------------------------------------------------------------------------------------


def test_wsgi_serve_serves_the_configured_bucket(deployment: Deployment, tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "serve.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [deployment.project.program, "wsgi", "serve", "--port", str(port), "--host", "127.0.0.1"],
            cwd=deployment.project.directory,
            env=deployment.project.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        index = Account(f"http://127.0.0.1:{port}", "admin", "secret")
        wait_for(lambda: is_up(index) or process.poll() is not None, seconds=90)
        assert process.poll() is None, log.read_text()
        desk = Desk(tmp_path / "desk")
        wheel = make_wheel(desk.dist, "served", "1.0")
        uploaded = twine(desk, index, wheel)
        assert uploaded.returncode == 0, uploaded.stdout + uploaded.stderr + log.read_text()
        assert list(index.listed("served")) == [wheel.name]
        stored = deployment.cloud.aws.s3.list_objects_v2(Bucket=deployment.bucket, Prefix="served/")["Contents"]
        assert f"served/{wheel.name}" in {entry["Key"] for entry in stored}
        with deployment.worker("events") as events:  # for it, an object as any other
            assert deployment.carry(events) >= 1
    finally:
        started = process_tree(process.pid)
        os.killpg(process.pid, signal.SIGTERM)  # `sls` alone would leave the server behind
        process.wait(30)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


def is_up(index: Account) -> bool:
    try:
        return index.status("/health") == 200
    except requests.ConnectionError:
        return False


def twine(desk: Desk, index: Account, wheel: Path) -> subprocess.CompletedProcess[str]:
    program = str(ROOT / ".venv" / "bin" / "twine")
    command = [program, "upload", "--repository-url", f"{index.url}/legacy/", "-u", "admin", "-p", "secret", str(wheel)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(desk.root), "NO_PROXY": "127.0.0.1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
