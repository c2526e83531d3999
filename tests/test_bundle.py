"""The zip that functions run from: made for Lambda whatever makes it, complete, small and always the same."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import botocore.loaders
import pytest

from deploy import bundle
from deploy.bundle import BundleError, Target, build_bundle, find_python, parse_target
from tests.running import free_port

ROOT = Path(__file__).parents[1]
LAMBDA = Target("arm64", (3, 13))
HERE = parse_target(bundle.HOST, bundle.HOST)
_ELF_MACHINES = {0xB7: "arm64", 0x3E: "x86_64"}
_MAGIC = {(3, 13): 3571, (3, 14): 3627}  # of the final releases' bytecode
_UNCHECKED_HASH = 0b01  # PEP 552


@pytest.fixture(scope="module")
def for_lambda(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    path = tmp_path_factory.mktemp("bundle") / "bundle.zip"
    build_bundle(LAMBDA, path)
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for this machine, in an empty directory."""
    path = tmp_path_factory.mktemp("bundle") / "bundle.zip"
    assert build_bundle(HERE, path) is None
    directory = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(directory)
    return directory


def test_everything_that_is_machine_code_is_for_the_target(for_lambda: zipfile.ZipFile) -> None:
    libraries = [name for name in for_lambda.namelist() if re.search(r"\.(so|pyd|dylib)", name)]
    assert [name for name in libraries if not re.search(r"\.(cpython-313-aarch64-linux-gnu|abi3)\.so$", name)] == []
    machines = {_ELF_MACHINES[struct.unpack_from("<H", for_lambda.read(name), 18)[0]] for name in libraries}
    assert machines == {"arm64"}


def test_every_wheel_is_for_the_target(for_lambda: zipfile.ZipFile) -> None:
    wheels = [name for name in for_lambda.namelist() if name.endswith(".dist-info/WHEEL")]
    tags = {tag for name in wheels for tag in re.findall(r"^Tag: (\S+)", for_lambda.read(name).decode(), re.MULTILINE)}
    pins = re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert len(wheels) == len(set(pins) - {"boto3", "s3transfer"})
    foreign = [
        tag
        for tag in tags
        if not tag.endswith("-none-any") and not re.fullmatch(r"(cp313-cp313|cp3\d+-abi3)-.*_aarch64", tag)
    ]
    assert foreign == []


def compiled_name(name: str, version: tuple[int, int]) -> str:
    directory, _, module = name.removesuffix(".py").rpartition("/")
    return f"{directory}/__pycache__/{module}.cpython-{version[0]}{version[1]}.pyc".removeprefix("/")


def test_every_module_has_bytecode_that_is_taken_as_it_is(unpacked: Path) -> None:
    magic = struct.unpack("<Hxx", importlib.util.MAGIC_NUMBER)[0]
    modules = [path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*.py")]
    assert "elasticpypi/handler/api.py" in modules
    for name in modules:
        data = (unpacked / compiled_name(name, HERE.version)).read_bytes()
        assert struct.unpack_from("<HxxI", data) == (magic, _UNCHECKED_HASH), name


def test_bytecode_for_lambda_is_that_of_its_python_or_there_is_none(for_lambda: zipfile.ZipFile) -> None:
    names = set(for_lambda.namelist())
    compiled = {name for name in names if name.endswith(".pyc")}
    if find_python(LAMBDA.version) is None:
        assert compiled == set()  # of another version it would be of no use
        return
    assert compiled == {compiled_name(name, LAMBDA.version) for name in names if name.endswith(".py")}
    for name in compiled:
        assert struct.unpack_from("<HxxI", for_lambda.read(name)) == (_MAGIC[LAMBDA.version], _UNCHECKED_HASH), name


LEFT_OUT = [
    r"(^|/)tests?/",
    r"\.pyi$",
    r"\.pth$",
    r"^bin/",
    r"config.*\.json$",
    r"RECORD$",
    r"/direct_url\.json$",
    r"^elasticpypi/(cli|client|importing)/",
    r"^elasticpypi/.*/(directory|filesystem|local|of_lists|sqlite)\.py",
    r"^(pip|setuptools|wheel|moto|pytest|granian|boto3|s3transfer)(/|-.*\.dist-info/)",
    r"^pydantic/(deprecated|experimental|v1)/",
    r"^botocore/data/(?!(dynamodb|s3|sqs)/|[a-z_-]+\.json$)",
]


@pytest.mark.parametrize("pattern", LEFT_OUT)
def test_what_no_function_needs_is_left_out(for_lambda: zipfile.ZipFile, pattern: str) -> None:
    ours = [name for name in for_lambda.namelist() if re.search(pattern, name)]
    assert [name for name in ours if not name.startswith("botocore/data/sdk-default-configuration")] == []


def test_templates_and_documents_come_along(for_lambda: zipfile.ZipFile) -> None:
    data = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "elasticpypi").rglob("*")
        if path.suffix in (".html", ".json", ".css", ".js", ".svg", ".xml") and not path.name.startswith("config")
    }
    assert data <= set(for_lambda.namelist())


def test_it_is_small(for_lambda: zipfile.ZipFile) -> None:
    assert sum(info.compress_size for info in for_lambda.infolist()) < 23_000_000
    assert sum(info.file_size for info in for_lambda.infolist()) < 64_000_000  # of which a page needs a fifth


@pytest.mark.heavy
def test_equal_inputs_give_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "source"
    packages = bundle._packages(HERE, find_python(HERE.version))  # noqa: SLF001 -- not what is tried here
    for name in ("one", "other"):
        root = source / name
        (root / "elasticpypi").mkdir(parents=True)
        for path in sorted((ROOT / "elasticpypi").glob("*.py"), reverse=name == "other"):
            (root / "elasticpypi" / path.name).write_bytes(path.read_bytes())
        monkeypatch.setattr(bundle, "ROOT", root)
        monkeypatch.setattr(bundle, "_packages", lambda *_: packages)
        build_bundle(HERE, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def run_inside(directory: Path, program: str) -> str:
    """Run a program that can import nothing but the bundle and the standard library."""
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, sys.argv[1])\n{program}", str(directory)],
        cwd=directory,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_clients_are_made_from_the_reduced_models(unpacked: Path) -> None:
    program = """
import botocore.session
from botocore.config import Config
session = botocore.session.Session()
session.set_credentials("testing", "testing")
session.set_config_variable("region", "eu-central-1")
for service in ("dynamodb", "s3", "sqs"):
    client = session.create_client(service, config=Config(retries={"mode": "standard"}))
    print(client.meta.endpoint_url)
request = {"Bucket": "acme", "Key": "a/a+1.whl"}
s3 = session.create_client("s3", config=Config(signature_version="s3v4"))
print(s3.generate_presigned_url("get_object", request)[:45])
print(len(session.create_client("dynamodb").get_paginator("query")._pagination_cfg) > 0)
"""
    assert run_inside(unpacked, program).split() == [
        "https://dynamodb.eu-central-1.amazonaws.com",
        "https://s3.eu-central-1.amazonaws.com",
        "https://sqs.eu-central-1.amazonaws.com",
        "https://acme.s3.amazonaws.com/a/a%2B1.whl?X-A",
        "True",
    ]


def test_the_models_have_the_operations_that_the_sources_name_and_no_others(for_lambda: zipfile.ZipFile) -> None:
    kept = {
        service: sorted(json.loads(for_lambda.read(name))["operations"])
        for service, name in (
            (name.split("/")[2], name) for name in for_lambda.namelist() if name.endswith("/service-2.json")
        )
    }
    assert kept == {
        "dynamodb": [
            *("BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan"),
            *("TransactWriteItems", "UpdateItem"),
        ],
        "s3": [
            *("AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "CreateMultipartUpload"),
            *("CreateSession", "DeleteObject", "GetObject", "HeadBucket", "HeadObject", "ListMultipartUploads"),
            *("ListObjectsV2", "ListParts", "PutObject", "UploadPart", "UploadPartCopy"),
        ],
        "sqs": ["SendMessage"],
    }


def test_methods_are_named_as_botocore_names_them() -> None:
    loader = botocore.loaders.Loader()
    for service in bundle._SERVICES:  # noqa: SLF001
        for name in loader.load_service_model(service, "service-2")["operations"]:
            assert bundle.method_name(name) == botocore.xform_name(name)


def test_packages_know_their_versions(unpacked: Path) -> None:
    program = (
        "from importlib.metadata import version; print(version('flask'), version('werkzeug'), version('botocore'))"
    )
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert run_inside(unpacked, program).split() == [pins["flask"], pins["werkzeug"], pins["botocore"]]


def test_the_release_that_packages_are_chosen_for_is_the_one_that_pins_were_chosen_by() -> None:
    """pip takes 3.11 for 3.11.0, and some pins differ between 3.11.0 and later releases."""
    here = ".".join(map(str, sys.version_info[:3]))
    assert bundle._release(HERE) == here  # noqa: SLF001
    assert bundle._release(Target("arm64", (3, 99))) == "3.99"  # noqa: SLF001


def test_what_readmes_and_id_tokens_need_is_there(unpacked: Path) -> None:
    """Imported when they are first needed, so that no start would tell."""
    program = """
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from elasticpypi.readme import Readmes
for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())):
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    token = jwt.encode({"iss": "x"}, key, algorithm=algorithm)
    print(jwt.decode(token, key.public_key(), algorithms=[algorithm]))
readmes = Readmes(seconds=60)
print(readmes.render("# Title\\n\\n```python\\nx = 1\\n```", "text/markdown"))
print(readmes.render("Title\\n=====\\n\\n.. code:: python\\n\\n    x = 1", "text/x-rst"))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(unpacked)!r})\n{program}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.count("{'iss': 'x'}")) == (0, 2), done.stderr
    assert done.stdout.count('class="') >= 2, done.stdout  # the code in them is coloured


def test_what_pages_of_upstreams_need_is_there(unpacked: Path) -> None:
    """Likewise imported with the first of them."""
    program = """
import json
import elasticpypi.upstream.connecting
from elasticpypi.upstream.reading import read_page
url = "https://pypi.example.org/simple/spam/"
SHA256 = "0" * 64
HTML = f'<!DOCTYPE html><html><body><a href="../../files/spam-1.0.tar.gz#sha256={SHA256}">spam-1.0.tar.gz</a>'
JSON = json.dumps({"meta": {"api-version": "1.4"}, "name": "spam", "versions": ["1.0"], "files": [{
"filename": "spam-1.0.tar.gz", "url": "../../files/spam-1.0.tar.gz", "hashes": {"sha256": SHA256}, "size": 3,
"upload-time": "2026-01-01T00:00:00Z", "provenance": "https://pypi.example.org/x", "yanked": False}]})
for body, content_type in ((HTML, "text/html"), (JSON, "application/vnd.pypi.simple.v1+json")):
    (file,) = read_page("spam", body.encode(), content_type=content_type, url=url).files
    print(file.filename, file.url)
"""
    expected = "spam-1.0.tar.gz https://pypi.example.org/files/spam-1.0.tar.gz\n"
    assert run_inside(unpacked, program) == 2 * expected


def test_bytecode_is_used_whatever_the_source_says(unpacked: Path, tmp_path: Path) -> None:
    shutil.copytree(unpacked / "itsdangerous", tmp_path / "itsdangerous")
    for path in (tmp_path / "itsdangerous").glob("*.py"):
        path.write_text("raise RuntimeError('this was compiled again')")
    assert run_inside(tmp_path, "import itsdangerous; print(itsdangerous.Signer.__name__)") == "Signer\n"


# What index imports only where no bucket is configured.
NOT_IN_A_FUNCTION = {
    "elasticpypi.catalog.sqlite",
    "elasticpypi.output.directory",
    "elasticpypi.storage.filesystem",
}


def test_whatever_our_modules_import_is_there(for_lambda: zipfile.ZipFile) -> None:
    names = set(for_lambda.namelist())
    missing = set()
    for name in (name for name in names if name.startswith("elasticpypi/") and name.endswith(".py")):
        for module in _imported(ast.parse(for_lambda.read(name))):
            path = module.replace(".", "/")
            if not {f"{path}.py", f"{path}/__init__.py"} & names:
                missing.add(module)
    assert missing == NOT_IN_A_FUNCTION


def _imported(tree: ast.Module) -> Iterator[str]:
    """Return the modules of ours that are imported anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "elasticpypi":
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "elasticpypi")


TARGETS = [
    (("arm64", "3.13"), Target("arm64", (3, 13))),
    (("x86_64", "python3.14"), Target("x86_64", (3, 14))),
    (("host", "host"), Target({"aarch64": "arm64"}.get(platform.machine(), platform.machine()), sys.version_info[:2])),
]


@pytest.mark.parametrize(("named", "expected"), TARGETS)
def test_a_target_is_named(named: tuple[str, str], expected: Target) -> None:
    assert parse_target(*named) == expected


@pytest.mark.parametrize(
    ("named", "says"), [(("riscv64", "3.13"), "no function runs on 'riscv64'"), (("arm64", "2"), "'2' is")]
)
def test_an_unknown_target_is_refused(named: tuple[str, str], says: str) -> None:
    with pytest.raises(BundleError, match=says):
        parse_target(*named)


def test_without_a_fitting_python_there_is_a_warning_and_no_bytecode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "find_python", lambda _: None)
    warning = build_bundle(HERE, tmp_path / "bundle.zip")
    assert warning is not None
    assert f"no Python {HERE.dotted} was found" in warning
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        assert [name for name in archive.namelist() if name.endswith(".pyc")] == []


def test_a_shim_that_does_not_run_is_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\necho 'no such version' >&2\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_python((3, 99)) is None
    assert find_python(sys.version_info[:2]) == sys.executable


def test_a_pin_that_does_not_match_its_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "requirements.txt").read_text()
    (tmp_path / "requirements.txt").write_text(re.sub("sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, text))
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    monkeypatch.setattr(bundle, "CACHE", tmp_path / "cache")
    with pytest.raises(BundleError, match=r"pip could not get the packages of requirements\.txt: .*[Hh]ash"):
        build_bundle(HERE, tmp_path / "bundle.zip")


def test_an_index_that_is_not_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "CACHE", tmp_path / "cache")
    nowhere = {"INDEX_URL": f"http://127.0.0.1:{free_port()}/simple/", "RETRIES": "1", "USER": "1"}  # USER: `--user`
    for name in (name for name in os.environ if name.startswith("PIP_")):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name, value in nowhere.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(BundleError, match=r"No matching distribution found for .* \(Retrying .*[Cc]onnection"):
        build_bundle(HERE, tmp_path / "bundle.zip")


def test_the_magic_number_is_that_of_this_python() -> None:
    """Keep the table above honest where it can be."""
    magic = int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little")
    assert _MAGIC.get(sys.version_info[:2], magic) == magic
