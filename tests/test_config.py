"""The configuration: what is accepted, and what an error says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.security import generate_password_hash

from elasticpypi.config import (
    Gateway,
    OutputAccess,
    Permission,
    Settings,
    Upstream,
    UpstreamMode,
    User,
    load_settings,
)
from elasticpypi.errors import ConfigError
from elasticpypi.passwords import is_hash
from tests.privileges import unprivileged

ROOT = Path(__file__).parents[1]
SECRET = "tr0ub4dor&3"
SCRYPT = "scrypt:32768:8:1$AbCdEfGh12345678$" + "0a" * 64
TOPIC = "arn:aws:sns:eu-west-1:123456789012:operations"
PBKDF2 = "pbkdf2:sha256:1000000$AbCdEfGh12345678$" + "0a" * 32

NONE: dict[str, str] = {}

LOCAL: dict[str, Any] = {"username": "standard", "password": SECRET}
AWS: dict[str, Any] = {
    **LOCAL,
    "service": "acme-pypi",
    "stage": "/prod",
    "bucket": "acme-files",
    "table": "acme-table",
    "profile": "acme",
    "overwrite": True,
}
ALONE: dict[str, Any] = {
    "service": "acme-pypi",
    "stage": "/prod",
    "bucket": "acme-files",
    "output_bucket": "acme-pages",
    "profile": None,
}


def load(path: Path, document: object = None, *, local: bool = False, environ: Mapping[str, str] = NONE) -> Settings:
    """Load a document, written as JSON (bytes: as they are; None: no file), and variables."""
    if document is not None:
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
    return load_settings(environ=environ, default_path=path, local=local)


def without(document: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def test_nothing_configured_gives_the_defaults(path: Path) -> None:
    settings = load(path, environ={"PATH": "/usr/bin", "elasticpypi_stage": "ignored"})
    assert settings == Settings(
        service="elasticpypi",
        stage="dev",
        bucket=None,
        table=None,
        profile=None,
        username=None,
        password=None,
        overwrite=False,
        users=(),
        data=None,
        url=None,
        region=None,
        gateway=Gateway.REST,
        take_over=False,
        snap_start=False,
        runtime="python3.13",
        architecture="arm64",
        alarm_topic=None,
        output_bucket=None,
        output_access=OutputAccess.CLOUDFRONT,
        output_url=None,
        packages_url=None,
        core_metadata=None,
        title=None,
        logo=None,
        logo_width=None,
        audit_days=365,
        count_downloads=False,
        upstreams=(),
        own_names=(),
    )
    assert settings.all_users == ()


def test_every_key_of_a_file_is_read(path: Path) -> None:
    users = [{"username": "ci", "password": "pw", "permission": "upload", "projects": ["acme-*", "tools"]}]
    deployment = {
        "region": "eu-west-1",
        "gateway": "http",
        "take_over": True,
        "snap_start": True,
        "runtime": "python3.14",
        "architecture": "x86_64",
        "alarm_topic": TOPIC,
    }
    site = {
        "output_bucket": "acme-pages",
        "output_access": "website",
        "output_url": "https://pypi.example.org/acme/",
        "packages_url": "https://files.example.org/",
        "core_metadata": "beside",
        "title": "Acme",
        "logo": "https://example.org/logo.svg",
        "logo_width": 120,
    }
    people = {"audit_days": 30, "count_downloads": True}
    others = {"upstreams": [{"url": "https://pypi.example.org/simple", "mode": "redirect"}], "own_names": ["acme-*"]}
    assert load(path, {**AWS, **deployment, **site, **people, **others, "users": users, "data": "/srv"}) == Settings(
        service="acme-pypi",
        stage="prod",
        bucket="acme-files",
        table="acme-table",
        profile="acme",
        username="standard",
        password=SECRET,
        overwrite=True,
        users=(User("ci", "pw", Permission.UPLOAD, ("acme-*", "tools")),),
        data="/srv",
        region="eu-west-1",
        gateway=Gateway.HTTP,
        take_over=True,
        snap_start=True,
        runtime="python3.14",
        architecture="x86_64",
        alarm_topic=TOPIC,
        output_bucket="acme-pages",
        output_access=OutputAccess.WEBSITE,
        output_url="https://pypi.example.org/acme/",
        packages_url="https://files.example.org/",
        core_metadata="beside",
        title="Acme",
        logo="https://example.org/logo.svg",
        logo_width=120,
        audit_days=30,
        count_downloads=True,
        upstreams=(Upstream("pypi.example.org", "https://pypi.example.org/simple/", UpstreamMode.REDIRECT),),
        own_names=("acme-*",),
    )


VARIABLES = [
    ("service", "other", "other"),
    ("stage", "/other", "other"),
    ("bucket", "other", "other"),
    ("table", "other", "other"),
    ("profile", "other", "other"),
    ("username", "other", "other"),
    ("password", "other", "other"),
    ("overwrite", "false", False),
    ("overwrite", "TRUE", True),
    ("users", '[{"username": "ci", "password": "pw"}]', (User("ci", "pw", Permission.READ, ("*",)),)),
    ("users", "[]", ()),
    ("data", "/other", "/other"),
    ("url", "https://pypi.example.org/dev/", "https://pypi.example.org/dev/"),
    ("url", "https://me:secret@pypi.example.org/dev/simple/", "https://pypi.example.org/dev/"),
    ("region", "us-gov-west-1", "us-gov-west-1"),
    ("gateway", "http", Gateway.HTTP),
    ("take_over", "true", True),
    ("snap_start", "True", True),
    ("runtime", "python3.14", "python3.14"),
    ("architecture", "x86_64", "x86_64"),
    ("alarm_topic", TOPIC, TOPIC),
    ("output_bucket", "other", "other"),
    ("output_access", "website", OutputAccess.WEBSITE),
    ("output_url", "https://pypi.example.org/acme", "https://pypi.example.org/acme/"),
    ("packages_url", "../../pool/", "../../pool/"),
    ("core_metadata", "none", "none"),
    ("title", "Acme & friends", "Acme & friends"),
    ("logo", "/logo.svg", "/logo.svg"),
    ("logo_width", "80", 80),
    ("audit_days", "30", 30),
    ("count_downloads", "true", True),
    (
        "upstreams",
        '[{"name": "pypi", "url": "https://pypi.example.org/simple/", "mode": "proxy", "keep": true}]',
        (Upstream("pypi", "https://pypi.example.org/simple/", UpstreamMode.PROXY, keep=True),),
    ),
    ("upstreams", "[]", ()),
    ("own_names", '["acme-*", "tools"]', ("acme-*", "tools")),
    ("own_names", "[]", ()),
]


@pytest.mark.parametrize(("key", "text", "expected"), VARIABLES)
def test_a_variable_wins_over_the_file(path: Path, key: str, text: str, expected: object) -> None:
    settings = load(path, {**AWS, "data": "/srv"}, environ={f"ELASTICPYPI_{key.upper()}": text})
    assert getattr(settings, key) == expected


@pytest.mark.parametrize("url", ["pypi.example.org", "ftp://pypi.example.org", "https:///x", "https://[x"])
def test_a_url_that_is_none_is_refused(path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"'url' in .* is not the http or https URL of an index"):
        load(path, {**LOCAL, "url": url})


def test_every_key_has_a_case_among_the_variables() -> None:
    assert {key for key, _, _ in VARIABLES} == {field.name for field in fields(Settings)}


def test_variables_alone_configure_an_index_on_aws(path: Path) -> None:
    variables = {"BUCKET": "files", "TABLE": "catalog", "USERNAME": "u", "PASSWORD": "p"}
    settings = load(path, environ={f"ELASTICPYPI_{key}": value for key, value in variables.items()})
    assert settings == Settings(bucket="files", table="catalog", username="u", password="p")


def test_where_nobody_logs_in_variables_need_no_credentials(path: Path) -> None:
    environ = {"ELASTICPYPI_BUCKET": "files", "ELASTICPYPI_TABLE": "catalog"}
    settings = load_settings(environ=environ, default_path=path, serving=False)
    assert settings == Settings(bucket="files", table="catalog")


def test_an_index_of_static_files_alone_needs_no_table_and_no_credentials(path: Path) -> None:
    assert load(path, ALONE) == Settings(
        service="acme-pypi", stage="prod", bucket="acme-files", output_bucket="acme-pages"
    )
    environ = {"ELASTICPYPI_BUCKET": "files", "ELASTICPYPI_OUTPUT_BUCKET": "pages"}
    assert load(path.with_name("none.json"), environ=environ) == Settings(bucket="files", output_bucket="pages")


def test_static_files_beside_an_api_change_nothing_about_what_the_api_needs(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'username' is missing"):
        load(path, without({**AWS, "output_bucket": "acme-pages"}, "username"))


@pytest.mark.parametrize("document", [ALONE, {**AWS, "output_bucket": "acme-pages"}])
def test_local_ignores_where_static_files_lie(path: Path, document: dict[str, Any]) -> None:
    assert load(path, {**LOCAL, **document}, local=True).output_bucket is None


@pytest.mark.parametrize("document", [ALONE, without(AWS, "username", "password"), {"packages_url": "../../files"}])
def test_local_needs_no_credentials(path: Path, document: dict[str, Any]) -> None:
    settings = load(path, document, local=True)
    assert (settings.username, settings.packages_url) == (None, document.get("packages_url"))


def test_a_file_that_only_says_how_pages_look_is_enough_for_them(path: Path) -> None:
    assert load(path, {"title": "Acme", "logo": "a.png?v=2#x"}) == Settings(title="Acme", logo="a.png?v=2#x")


def test_another_file_is_read_instead_of_the_default_one(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**LOCAL, "stage": "other"}))
    assert load(path, {**LOCAL, "stage": "default"}, environ={"ELASTICPYPI_CONFIG": str(other)}).stage == "other"


@pytest.mark.parametrize("document", [LOCAL, without(AWS, "bucket", "table"), {**LOCAL, "overwrite": True}])
def test_a_file_without_a_bucket_describes_no_deployment(path: Path, document: dict[str, Any]) -> None:
    settings = load(path, document)
    assert (settings.bucket, settings.table, settings.username) == (None, None, "standard")


@pytest.mark.parametrize(
    "document",
    [AWS, without(AWS, "table"), {**AWS, "bucket": 5, "table": ""}, without(AWS, "service", "stage", "profile")],
)
def test_local_ignores_bucket_and_table_whatever_they_are(path: Path, document: dict[str, Any]) -> None:
    settings = load(path, document, local=True, environ={"ELASTICPYPI_BUCKET": ""})
    assert (settings.bucket, settings.table, settings.password) == (None, None, SECRET)


@pytest.mark.parametrize("key", ["profile", "region", "alarm_topic"])
def test_none_can_be_asked_for(path: Path, key: str) -> None:
    assert getattr(load(path, {**AWS, key: None}), key) is None


@pytest.mark.parametrize(("stage", "expected"), [("dev", "dev"), ("/dev", "dev"), ("/Prod-2", "Prod-2")])
def test_the_slash_before_the_stage_is_optional(path: Path, stage: str, expected: str) -> None:
    assert load(path, {**LOCAL, "stage": stage}).stage == expected


def test_a_byte_order_mark_is_accepted(path: Path) -> None:
    assert load(path, b"\xef\xbb\xbf" + json.dumps(LOCAL).encode()).username == "standard"


def test_letters_beyond_ascii_are_kept(path: Path) -> None:
    document = json.dumps({"username": "jürgen", "password": "パス🔑"}, ensure_ascii=False).encode()
    settings = load(path, document)
    assert (settings.username, settings.password) == ("jürgen", "パス🔑")


def test_the_main_user_is_an_admin_and_comes_first() -> None:
    reader = User("reader", "pw")
    settings = Settings(username="standard", password=SECRET, users=(reader,))
    assert settings.all_users == (User("standard", SECRET, Permission.ADMIN, ("*",)), reader)


@pytest.mark.parametrize(
    ("permission", "expected"),
    [("read", ["read"]), ("upload", ["read", "upload"]), ("admin", ["read", "upload", "admin"])],
)
def test_a_permission_includes_the_lesser_ones(permission: str, expected: list[str]) -> None:
    assert [p for p in Permission if Permission(permission).includes(p)] == expected


def user(**changes: object) -> dict[str, Any]:
    return {**LOCAL, "users": [{"username": "ci", "password": SECRET, **changes}]}


# (document, the key that the message names, a part of what it says, its example)
WRONG_DOCUMENTS: list[tuple[dict[str, Any], str, str, str]] = [
    ({**LOCAL, "bukket": "x"}, "'bukket'", "did you mean 'bucket'", '"bucket": "'),
    ({**LOCAL, "Password": "x"}, "'Password'", "did you mean 'password'", '"password": "'),
    ({**LOCAL, "zzz": "x"}, "'zzz'", "known are service, stage", "service"),
    (without(AWS, "username", "password"), "'username'", "an index on AWS needs", '"username": "'),
    (without(LOCAL, "password"), "'password'", "missing", '"password": "'),
    (without(LOCAL, "username"), "'username'", "missing", '"username": "'),
    (without(AWS, "table"), "'table'", "missing", '"table": "'),
    (without(AWS, "bucket"), "'bucket'", "missing", '"bucket": "'),
    (without(AWS, "service"), "'service'", "missing", '"service": "'),
    (without(AWS, "stage"), "'stage'", "missing", '"stage": "/dev"'),
    (without(AWS, "profile"), "'profile'", "missing", '"profile": "'),
    ({**AWS, "bucket": None}, "'bucket'", "not a string", '"bucket": "'),
    ({**AWS, "table": ["x"]}, "'table'", "not a string", '"table": "'),
    ({**LOCAL, "username": 5}, "'username'", "not a string", '"username": "'),
    ({**LOCAL, "username": ""}, "'username'", "empty", '"username": "'),
    ({**LOCAL, "username": "a:b"}, "'username'", "':'", '"username": "'),
    ({**LOCAL, "username": "a\x7f"}, "'username'", "control character", '"username": "'),
    ({**LOCAL, "password": None}, "'password'", "not a string", '"password": "'),
    ({**LOCAL, "password": "  "}, "'password'", "empty", '"password": "'),
    ({**LOCAL, "password": SECRET + "\n"}, "'password'", "control character", '"password": "'),
    ({**LOCAL, "password": SECRET + "\udc80"}, "'password'", "Unicode", '"password": "'),
    ({**LOCAL, "password": "scrypt:3:8:1$salt$" + "0" * 128}, "'password'", "scrypt", '"password": "'),
    ({**LOCAL, "stage": "/dev/"}, "'stage'", "'/dev/'", '"stage": "/dev"'),
    ({**LOCAL, "stage": "a_b"}, "'stage'", "'a_b'", '"stage": "/dev"'),
    ({**LOCAL, "stage": "dev\n"}, "'stage'", "control character", '"stage": "/dev"'),
    ({**LOCAL, "stage": "/"}, "'stage'", "'/'", '"stage": "/dev"'),
    ({**LOCAL, "service": "1st"}, "'service'", "'1st'", '"service": "'),
    ({**LOCAL, "overwrite": "true"}, "'overwrite'", "neither true nor false", '"overwrite": false'),
    ({**LOCAL, "overwrite": 1}, "'overwrite'", "neither true nor false", '"overwrite": false'),
    ({**AWS, "bucket": "Acme"}, "'bucket'", "'Acme'", '"bucket": "'),
    ({**AWS, "bucket": "acme.files"}, "'bucket'", "'acme.files'", '"bucket": "'),
    ({**AWS, "table": "t"}, "'table'", "'t'", '"table": "'),
    ({**AWS, "region": "Frankfurt"}, "'region'", "'Frankfurt'", '"region": "eu-central-1"'),
    ({**AWS, "gateway": "REST"}, "'gateway'", "rest, http", '"gateway": "http"'),
    ({**AWS, "gateway": None}, "'gateway'", "rest, http", '"gateway": "http"'),
    ({**AWS, "take_over": "yes"}, "'take_over'", "neither true nor false", '"take_over": true'),
    ({**AWS, "snap_start": 1}, "'snap_start'", "neither true nor false", '"snap_start": true'),
    ({**AWS, "runtime": "python3.12"}, "'runtime'", "python3.13, python3.14", '"runtime": "python3.14"'),
    ({**AWS, "architecture": "aarch64"}, "'architecture'", "arm64, x86_64", '"architecture": "x86_64"'),
    ({**AWS, "alarm_topic": "operations"}, "'alarm_topic'", "ARN", '"alarm_topic": "arn:aws:sns:'),
    (without(ALONE, "bucket"), "'bucket'", "missing", '"bucket": "'),
    (without(ALONE, "stage"), "'stage'", "missing", '"stage": "/dev"'),
    ({**ALONE, "username": "standard"}, "'password'", "missing", '"password": "'),
    ({**ALONE, "output_bucket": "acme-files"}, "'output_bucket'", "the bucket of the files", '"output_bucket": "'),
    ({**ALONE, "output_bucket": None}, "'output_bucket'", "not a string", '"output_bucket": "'),
    ({**ALONE, "output_access": "public"}, "'output_access'", "cloudfront, website", '"output_access": "website"'),
    ({**ALONE, "output_url": "/simple"}, "'output_url'", "https URL", '"output_url": "https://'),
    ({**ALONE, "packages_url": "s3://x"}, "'packages_url'", "neither", '"packages_url": "https://'),
    ({**ALONE, "packages_url": "a b"}, "'packages_url'", "neither", '"packages_url": "https://'),
    ({**ALONE, "packages_url": "https://x/?a=b"}, "'packages_url'", "'?' or '#'", '"packages_url": "https://'),
    ({**ALONE, "packages_url": "https://"}, "'packages_url'", "neither", '"packages_url": "https://'),
    ({**ALONE, "core_metadata": "there"}, "'core_metadata'", "output, beside, none", '"core_metadata": "beside"'),
    ({**ALONE, "title": ""}, "'title'", "empty", '"title": "'),
    ({**ALONE, "logo": "javascript:alert(1)"}, "'logo'", "neither", '"logo": "https://'),
    ({**ALONE, "logo_width": "wide"}, "'logo_width'", "whole number", '"logo_width": 120'),
    ({**ALONE, "logo_width": True}, "'logo_width'", "whole number", '"logo_width": 120'),
    ({**ALONE, "logo_width": 0}, "'logo_width'", "whole number", '"logo_width": 120'),
    ({**LOCAL, "audit_days": 0}, "'audit_days'", "from 1 to 10000", '"audit_days": 400'),
    ({**LOCAL, "audit_days": True}, "'audit_days'", "whole number", '"audit_days": 400'),
    ({**LOCAL, "audit_days": "30"}, "'audit_days'", "whole number", '"audit_days": 400'),
    ({**LOCAL, "count_downloads": 1}, "'count_downloads'", "neither true nor false", '"count_downloads": true'),
    ({**LOCAL, "own_names": "acme-*"}, "'own_names'", "not a list of patterns", '"own_names": ["acme-*"]'),
    ({**LOCAL, "own_names": ["Acme_*"]}, "'own_names'", "'Acme_*'", '"own_names": ["acme-*"]'),
    ({**LOCAL, "upstreams": {}}, "'upstreams'", "not a list", '"upstreams": [{"url": "https://'),
    ({**LOCAL, "users": {}}, "'users'", "not a list", '"users": [{"username": "'),
    ({**LOCAL, "users": ["x"]}, "'users[0]'", "not an object", '"users": [{"username": "'),
    ({**LOCAL, "users": [{"password": "x"}]}, "'users[0].username'", "missing", '"username": "'),
    ({**LOCAL, "users": [{"username": "x"}]}, "'users[0].password'", "missing", '"password": "'),
    (user(project=["*"]), "'project'", "did you mean 'projects'", '"projects": ["acme-*"]'),
    (user(username="standard"), "'users[0].username'", "another user", '"username": "'),
    (user(username="a:b"), "'users[0].username'", "':'", '"username": "'),
    (user(password="pbkdf2:md5:1"), "'users[0].password'", "hash", '"password": "'),
    (user(permission="write"), "'users[0].permission'", "read, upload, admin", '"permission": "upload"'),
    (user(permission=["read"]), "'users[0].permission'", "read, upload, admin", '"permission": "upload"'),
    (user(projects="acme"), "'users[0].projects'", "not a list", '"projects": ["acme-*"]'),
    (user(projects=[]), "'users[0].projects'", "not a list", '"projects": ["acme-*"]'),
    (user(projects=["a", 5]), "'users[0].projects'", "'5'", '"projects": ["acme-*"]'),
    (user(projects=["Acme_*"]), "'users[0].projects'", "'Acme_*'", '"projects": ["acme-*"]'),
]


@pytest.mark.parametrize(("document", "key", "says", "example"), WRONG_DOCUMENTS)
def test_an_error_in_the_file_names_key_file_and_example(
    path: Path, document: dict[str, Any], key: str, says: str, example: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(path, document)
    message = str(raised.value)
    assert [part for part in (key, str(path), says, example) if part not in message] == []
    assert SECRET not in message
    assert "\n" not in message


# (variables without their prefix, parts of the message)
WRONG_VARIABLES: list[tuple[dict[str, str], list[str]]] = [
    ({"BUKKET": "x"}, ["'ELASTICPYPI_BUKKET'", "did you mean 'ELASTICPYPI_BUCKET'", "ELASTICPYPI_BUCKET=acme"]),
    ({"Stage": "x"}, ["'ELASTICPYPI_Stage'", "did you mean 'ELASTICPYPI_STAGE'", "ELASTICPYPI_STAGE=/dev"]),
    ({"CONFIK": "x"}, ["'ELASTICPYPI_CONFIK'", "did you mean 'ELASTICPYPI_CONFIG'", "ELASTICPYPI_CONFIG=/"]),
    ({"ZZZ": "x"}, ["'ELASTICPYPI_ZZZ'", "known are ELASTICPYPI_SERVICE"]),
    ({"CONFIG": ""}, ["ELASTICPYPI_CONFIG is empty"]),
    ({"STAGE": ""}, ["'stage' in ELASTICPYPI_STAGE is empty", "ELASTICPYPI_STAGE=/dev"]),
    ({"OVERWRITE": "yes"}, ["'overwrite' in ELASTICPYPI_OVERWRITE", "ELASTICPYPI_OVERWRITE=false"]),
    ({"TAKE_OVER": "1"}, ["'take_over' in ELASTICPYPI_TAKE_OVER is neither", "ELASTICPYPI_TAKE_OVER=true"]),
    ({"GATEWAY": "edge"}, ["'gateway' in ELASTICPYPI_GATEWAY is not one of", "ELASTICPYPI_GATEWAY=http"]),
    ({"LOGO_WIDTH": "1e3"}, ["'logo_width' in ELASTICPYPI_LOGO_WIDTH is not a whole number", "_LOGO_WIDTH=120"]),
    ({"AUDIT_DAYS": "-1"}, ["'audit_days' in ELASTICPYPI_AUDIT_DAYS is not a whole number", "_AUDIT_DAYS=400"]),
    ({"OUTPUT_BUCKET": "x"}, ["'bucket' is missing in the environment", "ELASTICPYPI_BUCKET=acme"]),
    ({"USERS": ""}, ["'users' in ELASTICPYPI_USERS is not a list", "ELASTICPYPI_USERS='[{"]),
    ({"USERS": f'[{{"password": "{SECRET}",]'}, ["ELASTICPYPI_USERS is not JSON", "line 1, column 29"]),
    ({"USERS": '["x"]'}, ["'users[0]' in ELASTICPYPI_USERS is not an object", "ELASTICPYPI_USERS='[{"]),
    ({"USERS": '[{"username": ""}]'}, ["'users[0].password' in ELASTICPYPI_USERS is missing", '"password": "']),
    ({"UPSTREAMS": ""}, ["'upstreams' in ELASTICPYPI_UPSTREAMS is not a list", "ELASTICPYPI_UPSTREAMS='[{"]),
    ({"UPSTREAMS": f'[{{"password": "{SECRET}",]'}, ["ELASTICPYPI_UPSTREAMS is not JSON", "line 1, column 29"]),
    (
        {"UPSTREAMS": "[{}]"},
        ["'upstreams[0].url' in ELASTICPYPI_UPSTREAMS is missing", '"url": "https://pypi.org/simp'],
    ),
    ({"OWN_NAMES": "acme-*"}, ["ELASTICPYPI_OWN_NAMES is not JSON", "line 1, column 1"]),
    ({"OWN_NAMES": '["A"]'}, ["'own_names' in ELASTICPYPI_OWN_NAMES has 'A'", "ELASTICPYPI_OWN_NAMES='[\"acme-*\"]'"]),
    ({"USERNAME": "x"}, ["'password' is missing in the environment", "ELASTICPYPI_PASSWORD=something"]),
    ({"PASSWORD": SECRET}, ["'username' is missing in the environment", "ELASTICPYPI_USERNAME=standard"]),
    ({"BUCKET": "x"}, ["'table' is missing in the environment", "ELASTICPYPI_TABLE=acme"]),
    ({"BUCKET": "x", "TABLE": "x"}, ["'username' is missing in the environment", "ELASTICPYPI_USERNAME="]),
    ({"PASSWORD": SECRET + "\n", "USERNAME": "x"}, ["'password' in ELASTICPYPI_PASSWORD contains a control character"]),
]


@pytest.mark.parametrize(("variables", "parts"), WRONG_VARIABLES)
def test_an_error_in_a_variable_names_it(path: Path, variables: dict[str, str], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(path, environ={f"ELASTICPYPI_{key}": value for key, value in variables.items()})
    assert [part for part in parts if part not in str(raised.value)] == []
    assert SECRET not in str(raised.value)


BROKEN_FILES = [
    (b'{\n  "stage": "/dev", // a comment\n}', ["line 2, column 20", "no comments"]),
    (f'{{"password": "{SECRET}\\q"}}'.encode(), ["Invalid \\escape in line 1"]),
    (b'{"stage": "a", "stage": "b"}', ["'stage' is given 2 times"]),
    (b'{"users": [{"username": "a", "username": "b"}]}', ["'username' is given 2 times"]),
    (b'{"username": "\xff", "password": "' + SECRET.encode() + b'"}', ["not UTF-8", "byte 15"]),
    (json.dumps(LOCAL).encode("utf-16"), ["not UTF-8"]),
    (b"[]", ["not a JSON object"]),
    (b"", ["not JSON"]),
    (b"[" * 100_000, ["not JSON"]),
    (b'{"stage": ' + b"1" * 5000 + b"}", ["not JSON"]),
]


@pytest.mark.parametrize(("content", "parts"), BROKEN_FILES, ids=range(len(BROKEN_FILES)))
def test_a_broken_file_is_named_with_the_place(path: Path, content: bytes, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(path, content)
    assert [part for part in (str(path), *parts) if part not in str(raised.value)] == []
    # Neither shown nor carried along by what a traceback or an error tracker would also write.
    assert SECRET not in str(raised.value)
    assert raised.value.__context__ is None


def test_a_file_that_is_named_must_exist(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist, though ELASTICPYPI_CONFIG names it"):
        load(path, LOCAL, environ={"ELASTICPYPI_CONFIG": str(path.with_name("missing.json"))})


def test_a_file_that_cannot_be_read_is_no_missing_file(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigError, match=r"config\.json cannot be read"):
        load(path)


def test_a_file_that_may_not_be_read_is_no_missing_file(path: Path) -> None:
    path.write_text("{}")
    path.chmod(0)
    with pytest.raises(ConfigError, match=r"Permission denied"), unprivileged():
        load(path)


def test_two_spellings_of_a_username_are_the_same_user(path: Path) -> None:
    users = [{"username": "jürgen", "password": "a"}, {"username": "ju\u0308rgen", "password": "b"}]
    with pytest.raises(ConfigError, match=r"users\[1\]\.username.*another user"):
        load(path, {**LOCAL, "users": users})


PATTERNS = [
    ("*", True),
    ("acme", True),
    ("acme-*", True),
    ("*-acme", True),
    ("a-?-[a-c]", True),
    ("[!a-z]9", True),
    ("a-*-b", True),
    ("", False),
    ("Acme", False),
    ("a_b", False),
    ("a.b", False),
    ("a--b", False),
    ("-a", False),
    ("a-", False),
    ("a b", False),
    ("a[", False),
    ("a[]", False),
    ("a]", False),
    ("é", False),
    ("a*\n", False),
]


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS)
def test_patterns_are_those_that_a_normalised_name_can_match(path: Path, pattern: str, expected: bool) -> None:
    if expected:
        assert load(path, user(projects=[pattern])).users[0].projects == (pattern,)
    else:
        with pytest.raises(ConfigError):
            load(path, user(projects=[pattern]))


PASSWORDS = [
    (generate_password_hash("x", "scrypt:1024:8:1"), True),
    (generate_password_hash("x", "pbkdf2:sha512:1000"), True),
    (SCRYPT, True),
    (SCRYPT.replace("32768:8:1", "131072:8:1"), True),
    (SCRYPT.replace("32768:8:1", "1024:1024:1"), True),
    (SCRYPT.replace("32768:8:1", "1024:8:128"), True),
    (PBKDF2, True),
    ("scrypt:rocks", False),
    ("scrypt", False),
    ("a$b$c", False),
    ("$5", False),
    ("pa$$word:1:2", False),
    ("0a" * 64, False),
    (" " + SCRYPT, False),
]
UNUSABLE = [
    SCRYPT.replace("32768:8:1", "32767:8:1"),
    SCRYPT.replace("32768:8:1", "512:8:1"),
    SCRYPT.replace("32768:8:1", "0:8:1"),
    SCRYPT.replace("32768:8:1", "-32768:8:1"),
    SCRYPT.replace("32768:8:1", "32768:1:1"),
    SCRYPT.replace("32768:8:1", "32768:8:0"),
    SCRYPT.replace("32768:8:1", "262144:8:1"),
    SCRYPT.replace("32768:8:1", "32768:64:1"),
    SCRYPT.replace("32768:8:1", "32768:8:8"),
    SCRYPT.replace("32768:8:1", "9" * 5000 + ":8:1"),
    SCRYPT.replace("32768:8:1", "32768:8"),
    SCRYPT.replace(":32768:8:1", ""),
    SCRYPT.replace("scrypt", "bcrypt"),
    SCRYPT.replace("AbCdEfGh12345678", ""),
    SCRYPT[:-2],
    SCRYPT + "0a",
    SCRYPT.upper().replace("SCRYPT", "scrypt"),
    SCRYPT + "\n",
    "scrypt:32768:8:1",  # "scrypt:32768:8:1$salt$digest" between double quotes in a shell
    PBKDF2.replace("sha256", "md5")[:-32],
    PBKDF2.replace("sha256", "sha512"),
    PBKDF2.replace(":1000000", ""),
    PBKDF2.replace(":1000000", ":999"),
    PBKDF2.replace(":1000000", ":2000001"),
    "sha256$AbCdEfGh$" + "0a" * 32,
    "$2b$12$" + "a" * 53,
    "$apr1$abcdefgh$" + "a" * 22,
    "$argon2id$v=19$m=65536,t=3,p=4$" + "a" * 22,
]


@pytest.mark.parametrize(("password", "expected"), PASSWORDS)
def test_a_password_is_a_hash_only_in_exactly_that_form(password: str, expected: bool) -> None:
    assert is_hash(password) is expected


@pytest.mark.parametrize("password", UNUSABLE, ids=range(len(UNUSABLE)))
def test_a_hash_that_cannot_be_used_is_an_error_at_start(path: Path, password: str) -> None:
    with pytest.raises(ConfigError, match=r"'password' in .*config\.json") as raised:
        load(path, {**LOCAL, "password": password})
    assert password not in str(raised.value)


@pytest.mark.parametrize(("n", "r", "p"), [(2**10, 8, 1), (2**17, 8, 1), (2**10, 2**10, 1), (2**10, 8, 2**7)])
def test_the_parameters_at_the_bounds_can_be_computed(n: int, r: int, p: int) -> None:
    assert is_hash(SCRYPT.replace("32768:8:1", f"{n}:{r}:{p}"))
    assert hashlib.scrypt(b"x", salt=b"y", n=n, r=r, p=p, maxmem=132 * n * r * p)  # as Werkzeug calls it


@given(st.text())
def test_any_text_is_plain_a_hash_or_refused(password: str) -> None:
    with suppress(ValueError):
        assert is_hash(password) in (True, False)


def test_secrets_are_in_no_representation(path: Path) -> None:
    settings = load(path, user(password="another" + SECRET))
    assert SECRET not in repr(settings) + str(settings) + repr(settings.all_users)


def test_the_example_is_accepted_as_it_is() -> None:
    settings = load_settings(environ={}, default_path=ROOT / "elasticpypi" / "config-example.json")
    assert settings == Settings(
        service="serverless-service-name",
        stage="dev",
        bucket="your-bucket-name",
        table="your-table-name",
        profile="your-aws-profile",
        username="standard",
        password="something-secretive",
        overwrite=False,
    )


@pytest.mark.parametrize("key", [field.name for field in fields(Settings)])
def test_every_key_and_variable_is_documented(key: str) -> None:
    row = f"| `{key}` | `ELASTICPYPI_{key.upper()}` |"
    assert row in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", [field.name for field in fields(User)])
def test_every_key_of_a_user_is_documented(key: str) -> None:
    assert f"- `{key}`" in (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
