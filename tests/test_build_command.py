"""`elasticpypi build` as a person runs it: from an index, and in the place of dumb-pypi, which runs beside it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pypi_simple import DistributionPackage, ProjectPage

from elasticpypi.cli.main import main
from elasticpypi.config import Settings
from elasticpypi.index import open_index
from elasticpypi.names import NormalizedName
from tests.aws import Cloud
from tests.dists import make_sdist, make_wheel
from tests.running import bare_environment

DUMB_PYPI = Path(__file__).parent.parent / ".peers" / "bin" / "dumb-pypi"
URL = "https://files.example.org/pool"
SHA = "ab" * 32
ACME = NormalizedName("acme")


@pytest.fixture(autouse=True)
def _unconfigured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TITLE", "OUTPUT_BUCKET", "PACKAGES_URL", "CONFIG", "BUCKET", "TABLE"):
        monkeypatch.delenv(f"ELASTICPYPI_{name}", raising=False)


def build(*arguments: object, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["build", *map(str, arguments)], input=io.BytesIO(stdin), env=env)


def pages(output: Path) -> dict[str, bytes]:
    """Return what a web server would give out, by path."""
    files = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    return {path: file.read_bytes() for path, file in sorted(files.items()) if not path.startswith(".")}


def written(output: Path) -> dict[str, tuple[int, int]]:
    """Return which documents lie there; another value where one was written again."""
    return {path: ((s := (output / path).stat()).st_ino, s.st_mtime_ns) for path in pages(output)}


def write_list(path: Path, *lines: dict[str, Any] | str) -> Path:
    path.write_text("".join(f"{text if isinstance(text, str) else json.dumps(text)}\n" for text in lines))
    return path


# The index -------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An index with two projects."""
    directory = tmp_path / "data"
    files = [
        make_wheel(tmp_path, "acme", "1.0"),
        make_sdist(tmp_path, "acme", "1.0"),
        make_wheel(tmp_path, "bolt", "2.0"),
    ]
    with closing(open_index(Settings(), data=directory)) as index:
        for file in files:
            (directory / "files" / file.name).write_bytes(file.read_bytes())
            index.reconcile(file.name)
    return directory


def test_an_index_is_written_and_then_only_what_has_changed(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "public"
    first = build("--data", data, "--output", output)
    assert (first.exit_code, first.stderr) == (0, "")
    assert "simple/acme/index.json" in pages(output)
    before = written(output)
    again = build("--data", data, "--output", output)
    assert (again.exit_code, again.stdout.startswith("0 written, 0 removed")) == (0, True), again.output
    assert written(output) == before
    with closing(open_index(Settings(), data=data)) as index:
        index.yank(ACME, "1.0", "broken")
    build("--data", data, "--output", output)
    changed = {path for path, state in written(output).items() if before[path] != state}
    assert changed == {
        "packages.json",
        "project/acme/index.html",
        "pypi/acme/1.0/json",
        "pypi/acme/json",
        "simple/acme/index.html",
        "simple/acme/index.json",
    }


def test_with_everything_what_somebody_else_has_changed_is_mended(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "public"
    build("--data", data, "--output", output)
    expected = pages(output)
    (output / "simple" / "acme" / "index.html").write_text("hacked")
    (output / "pypi" / "bolt" / "json").unlink()
    assert pages(output) != expected
    assert build("--data", data, "--output", output, "--everything").exit_code == 0
    assert pages(output) == expected


def test_a_rejected_file_is_told_of_and_counts_if_strict(data: Path, tmp_path: Path) -> None:
    (data / "files" / "bolt-3.0.tar.gz").write_bytes(b"no archive")
    with closing(open_index(Settings(), data=data)) as index:
        index.reconcile("bolt-3.0.tar.gz")
    relaxed, strict = (build("--data", data, "--output", tmp_path / "public", *more) for more in ([], ["--strict"]))
    assert (relaxed.exit_code, strict.exit_code) == (0, 1)
    assert relaxed.stderr.startswith("rejected: bolt-3.0.tar.gz: ")
    assert relaxed.stdout.endswith(", 1 file left out\n")


def test_json_is_one_document(data: Path, tmp_path: Path) -> None:
    report = json.loads(build("--data", data, "--output", tmp_path / "public", "--json").stdout)
    assert report["written"] == len(pages(tmp_path / "public"))
    assert (report["failed"], report["skipped"]) == ({}, [])


@pytest.mark.parametrize("place", ["data", "data/files", "data/public", ".", "data/../data/files"])
def test_pages_are_not_written_among_the_files_or_beside_the_catalog(data: Path, tmp_path: Path, place: str) -> None:
    before = {path for path in tmp_path.rglob("*") if "index." not in path.name}
    done = build("--data", data, "--output", place)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{place!r} lies in the index's own directory" in done.stderr
    assert {path for path in tmp_path.rglob("*") if "index." not in path.name} == before


@pytest.mark.parametrize("place", ["s3://acme-files", "s3://acme-files/", "s3://acme-files/public"])
def test_pages_are_not_written_into_the_bucket_of_the_files(tmp_path: Path, place: str) -> None:
    keys = {"BUCKET": "acme-files", "TABLE": "acme", "USERNAME": "alice", "PASSWORD": "secret"}
    env = {f"ELASTICPYPI_{key}": value for key, value in keys.items()}
    listed = write_list(tmp_path / "list", "acme-1.0.tar.gz")
    done = build("--package-list", listed, "--packages-url", URL, "--output", place, env=env)
    assert done.exit_code == 2
    assert f"{place!r} is the bucket of the files" in done.stderr


def test_without_an_index_nothing_is_made(tmp_path: Path) -> None:
    done = build("--data", tmp_path / "nowhere", "--output", tmp_path / "public")
    assert (done.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert done.stderr.startswith("Error: there is no index in ")


def test_the_pages_are_told_how_to_look(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "public"
    looks = ["--title", "Acme's own", "--logo", "https://www.example.org/a.svg", "--logo-width", "77"]
    done = build("--data", data, "--output-dir", output, *looks, "--url", "https://pypi.example.org/x/simple")
    assert done.exit_code == 0, done.output
    root = (output / "index.html").read_text()
    assert "Acme&#39;s own" in root
    assert 'src="https://www.example.org/a.svg"' in root
    assert 'width="77"' in root
    assert "https://pypi.example.org/x/" in (output / "project" / "acme" / "index.html").read_text()


def test_an_option_wins_over_the_configuration(data: Path, tmp_path: Path) -> None:
    configured = {"ELASTICPYPI_TITLE": "From the configuration", "ELASTICPYPI_PACKAGES_URL": "https://a.example/x"}
    build("--data", data, "--output", tmp_path / "a", env=configured)
    build("--data", data, "--output", tmp_path / "b", "--title", "From the option", env=configured)
    titles = [(tmp_path / name / "index.html").read_text() for name in "ab"]
    assert ["From the configuration" in title for title in titles] == [True, False]
    assert ["From the option" in title for title in titles] == [False, True]
    page = json.loads((tmp_path / "b" / "simple" / "bolt" / "index.json").read_text())
    assert page["files"][0]["url"] == "https://a.example/x/bolt-2.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ([], {"public/packages/acme-1.0-py3-none-any.whl.metadata"}),
        (["--core-metadata", "beside"], {"data/files/acme-1.0-py3-none-any.whl.metadata"}),
        (["--core-metadata", "none"], set()),
        (["--packages-url", URL], set()),
        (
            ["--packages-url", URL, "--core-metadata", "output"],
            {"public/packages/acme-1.0-py3-none-any.whl.metadata"},
        ),
    ],
)
def test_core_metadata_lies_where_it_is_wanted(
    data: Path, tmp_path: Path, options: list[str], places: set[str]
) -> None:
    assert build("--data", data, "--output", tmp_path / "public", *options).exit_code == 0
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("acme*.whl.metadata")}
    page = json.loads((tmp_path / "public" / "simple" / "acme" / "index.json").read_text())
    announced = [file["filename"] for file in page["files"] if file["core-metadata"]]
    assert {path for path in found if "/.elasticpypi/" not in path} == places
    assert ("acme-1.0-py3-none-any.whl" in announced) is bool(places)


def test_an_index_is_written_into_a_bucket_below_a_prefix(data: Path, tmp_path: Path, cloud: Cloud) -> None:
    bucket = cloud.make_bucket()
    place = ["--output", f"s3://{bucket}/some/prefix"]
    assert build("--data", data, *place, env=cloud.environment).exit_code == 0
    build("--data", data, "--output", tmp_path / "public")
    listed = cloud.aws.s3.list_objects_v2(Bucket=bucket)["Contents"]
    keys = {found["Key"].removeprefix("some/prefix/") for found in listed}
    assert {key for key in keys if not key.startswith(".")} == set(pages(tmp_path / "public"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Say where to write: --output DIR or --output s3://BUCKET/PREFIX."),
        (["--output", "x", "--previous-package-list", "list"], "A previous list goes with --package-list"),
        (["--output", "x", "--package-list", "list"], "A list does not say where its files are: add --packages-url"),
        (
            ["--output", "x", "--package-list", "list", "--package-list-json", "list", "--packages-url", "y"],
            "--package-list and --package-list-json name two lists: give one of them.",
        ),
        (
            [
                *("--output", "x", "--package-list", "list", "--packages-url", "y"),
                *("--previous-package-list", "list", "--previous-package-list-json", "list"),
            ],
            "--previous-package-list and --previous-package-list-json name two lists: give one of them.",
        ),
        (
            ["--output", "x", "--package-list", "-", "--packages-url", "y", "--previous-package-list", "-"],
            "Standard input cannot be both lists.",
        ),
        (
            ["--output", "x", "--package-list", "list", "--packages-url", "y", "--data", "data"],
            "--data and a list name two different sources: give one of them.",
        ),
        (
            ["--output", "x", "--package-list", "list", "--packages-url", "y", "--core-metadata", "output"],
            "A list says itself of which files there is core metadata: --core-metadata can be none.",
        ),
        (["--output", "x", "--package-list", "missing", "--packages-url", "y"], "'missing': No such file"),
        (["--output", "x", "--url", "ftp://x"], "is not the http or https URL of an index"),
        (["--output", "x", "--title", "a\nb"], "it has a control character"),
        (["--output", "x", "--packages-url", "", "--package-list", "list"], "'--packages-url': it is empty"),
        (["--output", "x", "--packages-url", "https://x/?a=b"], "'--packages-url': it has a '?' or '#'"),
        (["--output", "x", "--packages-url", "https://x/#a"], "'--packages-url': it has a '?' or '#'"),
        (["--output", "x", "--packages-url", "a b"], "'--packages-url': it is neither an http or https URL nor a path"),
        (["--output", "x", "--packages-url", 'https://x/"'], "'--packages-url': it is neither"),
        (["--output", "x", "--packages-url", "javascript:alert(1)"], "'--packages-url': it is neither"),
        (["--output", "x", "--logo", "javascript:alert(1)"], "'--logo': it is neither"),
        (["--output", "x", "--logo", ""], "'--logo': it is empty"),
        (["--output", "x", "--logo-width", "wide"], "'wide' is not a valid integer"),
        (["--output", "x", "--core-metadata", "somewhere"], "'somewhere' is not one of"),
        (["--output", "s3://", "--package-list", "list", "--packages-url", "y"], "'s3://' names no bucket"),
    ],
)
def test_wrong_usage_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    write_list(tmp_path / "list", "acme-1.0.tar.gz")
    done = build(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert sentence in last
    assert not (tmp_path / "x").exists()


# Beside dumb-pypi ------------------------------------------------------------------------------------------------

ORDINARY: list[dict[str, Any] | str] = [
    {"filename": "acme-1.0.tar.gz", "hash": f"sha256={SHA}", "upload_timestamp": 1500000000, "uploaded_by": "alice"},
    {"filename": "acme-1.0-py3-none-any.whl", "hash": "md5=d41d8cd98f00b204e9800998ecf8427e", "core_metadata": "true"},
    {
        "filename": "acme-1.10-py3-none-any.whl",
        "hash": f"sha256={SHA}",
        "requires_dist": ["bolt>=2", "cog; python_version<'3.9'"],
        "requires_python": ">=3.9,<4",
        "upload_timestamp": 1500001800,
        "core_metadata": f"sha256={SHA}",
    },
    {"filename": "acme-1.9.tar.gz", "yanked_reason": 'it\'s <broken> & "quoted"'},
    {"filename": "Some_Project.name-2.0+local.1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"},
    {"filename": "some-project-name-2.0.zip"},
    {"filename": "bolt-2.0.tar.bz2", "hash": None, "requires_python": None, "yanked_reason": None},
    {"filename": "cog-0.1.egg"},
    {"filename": "pre-1.0rc1.tar.gz"},
]


def run_dumb_pypi(output: Path, *arguments: object, stdin: bytes = b"") -> str:
    """Run dumb-pypi, which must be content, and return what it says of what it skips."""
    assert DUMB_PYPI.exists(), "`make .peers/installed` installs it"
    command = [str(argument) for argument in (DUMB_PYPI, "--output-dir", output, *arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.decode()


def run_both(tmp_path: Path, *arguments: object) -> tuple[Path, Path, Result]:
    """Run both commands with the same arguments; return the outputs, dumb-pypi's first, and what ours says."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    run_dumb_pypi(theirs, *arguments)
    done = build("--output-dir", ours, *arguments)
    assert done.exit_code == 0, done.output
    return theirs, ours, done


def projects(output: Path) -> list[str]:
    return sorted(path.parent.name for path in (output / "simple").glob("*/index.html"))


def read_html(output: Path, project: str) -> dict[str, tuple[Any, ...]]:
    text = (output / "simple" / project / "index.html").read_text()
    return files_on(ProjectPage.from_html(project, text, base_url=f"https://pypi.example.org/simple/{project}/"))


def read_json(output: Path, project: str) -> dict[str, tuple[Any, ...]]:
    document = json.loads((output / "simple" / project / "index.json").read_text())
    return files_on(ProjectPage.from_json_data(document, base_url=f"https://pypi.example.org/simple/{project}/"))


def files_on(page: ProjectPage) -> dict[str, tuple[Any, ...]]:
    return {file.filename: of_file(file) for file in page.packages}


def of_file(file: DistributionPackage) -> tuple[Any, ...]:
    """Return what a client reads of a file; of dumb-pypi's URLs the "+" is not encoded."""
    return (
        file.url.replace("+", "%2B"),
        dict(file.digests),
        file.requires_python,
        file.is_yanked,
        file.yanked_reason,
        bool(file.has_metadata),
        dict(file.metadata_digests or {}),
    )


@pytest.mark.parametrize("url", [URL, f"{URL}/", "../../pool/", "/pool"])
def test_clients_read_the_same_of_both(tmp_path: Path, url: str) -> None:
    listed = write_list(tmp_path / "list.json", *ORDINARY)
    theirs, ours, done = run_both(tmp_path, "--package-list-json", listed, "--packages-url", url)
    assert done.stderr == ""
    assert projects(theirs) == projects(ours) == ["acme", "bolt", "cog", "pre", "some-project-name"]
    for project in projects(theirs):
        assert read_html(theirs, project) == read_html(ours, project)
        assert read_json(ours, project) == read_html(ours, project)


def test_a_plain_list_gives_the_same_as_well(tmp_path: Path) -> None:
    names = [text["filename"] for text in ORDINARY if isinstance(text, dict)]
    listed = write_list(tmp_path / "list.txt", *names)
    theirs, ours, _ = run_both(tmp_path, "--package-list", listed, "--packages-url", URL)
    assert {p: read_html(theirs, p) for p in projects(theirs)} == {p: read_html(ours, p) for p in projects(ours)}
    assert lines_of(ours) == lines_of(theirs)


def lines_of(output: Path) -> list[str]:
    return sorted(
        json.dumps(json.loads(text), sort_keys=True) for text in (output / "packages.json").read_text().splitlines()
    )


def test_packages_json_is_a_list_for_either(tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.json", *ORDINARY)
    theirs, ours, _ = run_both(tmp_path, "--package-list-json", listed, "--packages-url", URL)
    assert lines_of(ours) == lines_of(theirs)
    again = build("--output", tmp_path / "again", "--package-list-json", ours / "packages.json", "--packages-url", URL)
    assert (again.exit_code, again.stderr) == (0, "")
    assert pages(tmp_path / "again") == pages(ours)


def legacy(output: Path, *parts: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(output.joinpath("pypi", *parts, "json").read_text())
    return document


def as_dumb_pypi_says(document: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Return what is in `known`, too; what is meant to differ, as docs/moving-in.md says, is put in its form."""
    info = {key: document["info"][key] for key in known["info"]} | {"platform": "UNKNOWN"}
    keys = {file["filename"]: file.keys() for file in known["urls"]}
    for files in known["releases"].values():
        keys |= {file["filename"]: file.keys() for file in files}

    def in_its_form(files: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        shown = [{key: file[key] for key in keys[file["filename"]]} for file in files]
        for file in shown:
            file["url"] = file["url"].replace("%2B", "+")
            if "upload_time" in file:
                file["upload_time"] = file["upload_time"].replace("T", " ")
        return by_name(shown)

    releases = {version: in_its_form(files) for version, files in document.get("releases", {}).items()}
    return {"info": info, "releases": releases, "urls": in_its_form(document["urls"])}


def by_name(files: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(files, key=lambda file: str(file["filename"]))


@pytest.mark.parametrize("project", ["acme", "bolt", "cog", "pre", "some-project-name"])
def test_the_legacy_json_has_all_that_dumb_pypi_says(tmp_path: Path, project: str) -> None:
    listed = write_list(tmp_path / "list.json", *ORDINARY)
    theirs, ours, _ = run_both(tmp_path, "--package-list-json", listed, "--packages-url", URL)
    whole = legacy(theirs, project)
    expected = whole | {
        "releases": {version: by_name(files) for version, files in whole["releases"].items()},
        "urls": by_name(whole["urls"]),
    }
    assert as_dumb_pypi_says(legacy(ours, project), whole) == expected
    for version in whole["releases"]:
        release = legacy(theirs, project, version)
        expected = release | {"releases": {}, "urls": by_name(release["urls"])}
        assert as_dumb_pypi_says(legacy(ours, project, version), release) == expected


def test_core_metadata_that_is_not_there_need_not_be_announced(tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.json", *ORDINARY)
    unsaid = write_list(
        tmp_path / "unsaid.json", *({**text, "core_metadata": None} for text in ORDINARY if isinstance(text, dict))
    )
    arguments = ["--output", tmp_path / "public", "--packages-url", URL, "--package-list-json"]
    assert build(*arguments, listed).exit_code == 0
    assert "core-metadata" in (tmp_path / "public/simple/acme/index.html").read_text()
    done = build(*arguments, listed, "--core-metadata", "none")
    assert (done.exit_code, done.stderr) == (0, "")
    assert build("--output", tmp_path / "fresh", *arguments[2:], unsaid).exit_code == 0
    assert pages(tmp_path / "public") == pages(tmp_path / "fresh")


def test_the_list_of_an_index_announces_no_core_metadata_that_is_among_the_pages(data: Path, tmp_path: Path) -> None:
    first, mirror = tmp_path / "public", tmp_path / "mirror"
    assert build("--data", data, "--output", first).exit_code == 0
    arguments = ["--package-list-json", first / "packages.json", "--packages-url", URL]
    assert build("--output", mirror, *arguments).exit_code == 0
    assert {shown[5] for project in projects(mirror) for shown in read_json(mirror, project).values()} == {False}


def test_without_times_a_new_file_leaves_the_changelog_alone(tmp_path: Path) -> None:
    names = [f"project{number}-1.0.tar.gz" for number in range(5)]
    arguments = ["--output", tmp_path / "public", "--packages-url", URL, "--package-list", tmp_path / "list"]
    write_list(tmp_path / "list", *names)
    build(*arguments)
    before = written(tmp_path / "public")
    write_list(tmp_path / "list", *names, "project0-2.0.tar.gz")
    assert build(*arguments).exit_code == 0
    changed = {path for path, state in written(tmp_path / "public").items() if before.get(path) != state}
    assert {path for path in changed if "project0" not in path} == {"packages.json"}
    assert "has no times" in (tmp_path / "public/changelog/index.html").read_text()
    assert "<entry>" not in (tmp_path / "public/changelog/feed.xml").read_text()


def test_quiet_prints_problems_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elasticpypi.cli.progress._SECONDS", 0.0)
    listed = write_list(tmp_path / "list", "acme-1.0.tar.gz", "acme.exe")
    arguments = ["--output", tmp_path / "public", "--package-list", listed, "--packages-url", URL]
    loud = build(*arguments)
    assert (loud.exit_code, "1 file left out" in loud.stdout) == (0, True)
    quiet = build(*arguments, "--quiet")
    assert (quiet.exit_code, quiet.stdout) == (0, "")
    assert [text.partition(":")[0] for text in quiet.stderr.splitlines()] == ["skipped"]


@pytest.mark.parametrize("document", [{"packages_url": URL}, {"bucket": "files", "output_bucket": "pages"}])
def test_a_configuration_needs_no_credentials_where_nobody_logs_in(
    data: Path, tmp_path: Path, document: dict[str, str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(document))
    done = build("--data", data, "--output", tmp_path / "public", env={"ELASTICPYPI_CONFIG": str(config)})
    assert (done.exit_code, done.stderr) == (0, "")
    (shown,) = (file for name, file in read_json(tmp_path / "public", "bolt").items() if name.endswith(".whl"))
    assert shown[0].startswith(document.get("packages_url", "https://pypi.example.org/packages"))


def test_without_pages_of_releases_there_are_none(tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.json", *ORDINARY)
    more = ["--no-per-release-json", "--no-generate-timestamp", "--title", "T", "--logo", "l.png", "--logo-width", "9"]
    for output in run_both(tmp_path, "--package-list-json", listed, "--packages-url", URL, *more)[:2]:
        assert [path.name for path in (output / "pypi" / "acme").iterdir()] == ["json"]


# Names that one of the two leaves out: filename -> whether dumb-pypi lists it.
ODD = {
    "acme-2.0.tar.gz": True,
    "acme-2004d.tar.gz": False,
    "acme-0.1-dev-r12.tar.gz": False,
    "acme.tar.gz": True,
    "acme-1.0.exe": True,
    "acme-1.0.rpm": True,
    "acme-1.0.tgz": True,
    "acme-1.0.tar": True,
    "acme-1!2.0.tar.gz": False,
    "acme-3.0-py3.13.egg": False,
    "acme 1.0.tar.gz": False,
    "acme-1.0..tar.gz": False,
    "acme-1.0-none-any.whl": False,
    "ac/me-1.0.tar.gz": False,
}


@pytest.mark.parametrize("as_json", [True, False])
def test_what_is_left_out_is_told_of_and_nothing_vanishes(tmp_path: Path, as_json: bool) -> None:
    lines: list[dict[str, Any] | str] = [{"filename": name} if as_json else name for name in ODD]
    listed = write_list(tmp_path / "list", *lines)
    option = "--package-list-json" if as_json else "--package-list"
    arguments = [option, listed, "--packages-url", URL]
    theirs, ours, done = run_both(tmp_path, *arguments)
    shown = {name for project in projects(theirs) for name in read_html(theirs, project)}
    assert {name: name in shown for name in ODD} == ODD
    told = dict(text.removeprefix("skipped: ").split(": ", 1) for text in done.stderr.splitlines())
    listed_here = {name for project in projects(ours) for name in read_html(ours, project)}
    assert listed_here == {"acme-2.0.tar.gz", "acme-1!2.0.tar.gz", "acme-3.0-py3.13.egg"}
    assert set(told) == ODD.keys() - listed_here
    assert all(told.values())
    assert done.stdout.endswith(f", {len(told)} files left out\n")
    assert build("--output-dir", ours, *arguments, "--strict").exit_code == 1


def test_lines_that_stop_dumb_pypi_are_told_of(tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list", "{", {"filename": "acme-1.0.zip", "colour": 1}, {"filename": "acme-2.0.zip"})
    done = build("--output", tmp_path / "public", "--package-list-json", listed, "--packages-url", URL)
    assert (done.exit_code, len(done.stderr.splitlines())) == (0, 2)
    assert list(read_html(tmp_path / "public", "acme")) == ["acme-2.0.zip"]


@pytest.mark.parametrize(
    ("option", "lines"),
    [("--package-list-json", []), ("--package-list-json", ["acme-1.0.tar.gz"]), ("--package-list", ["{}", "README"])],
)
@pytest.mark.parametrize("by_whom", ["us", "dumb-pypi", "somebody who broke it"])
def test_a_list_of_nothing_does_not_empty_a_site(tmp_path: Path, option: str, lines: list[str], by_whom: str) -> None:
    output, useless = tmp_path / "public", write_list(tmp_path / "useless", *lines)
    good = ["--package-list-json", write_list(tmp_path / "list", *ORDINARY), "--packages-url", URL]
    if by_whom == "dumb-pypi":
        run_dumb_pypi(output, *good)
    else:
        assert build("--output", output, *good).exit_code == 0
    if by_whom == "somebody who broke it":
        (output / "simple" / "index.json").write_text("{}")
    before = written(output)
    done = build("--output", output, option, useless, "--packages-url", URL, "--everything")
    assert (done.exit_code, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"Error: the list names no file that can be used, and {output} has pages of projects")
    assert written(output) == before


def test_a_list_of_nothing_makes_a_site_without_projects_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        assert build("--output", tmp_path / "public", "--package-list", "-", "--packages-url", URL).exit_code == 0
    assert json.loads((tmp_path / "public" / "simple" / "index.json").read_bytes())["projects"] == []


def test_a_list_comes_by_standard_input(tmp_path: Path) -> None:
    text = b"acme-1.0.tar.gz\nacme-2.0.tar.gz\n"
    done = build("--output", tmp_path / "ours", "--package-list", "-", "--packages-url", URL, stdin=text)
    run_dumb_pypi(tmp_path / "theirs", "--package-list", "/dev/stdin", "--packages-url", URL, stdin=text)
    assert done.exit_code == 0, done.output
    assert read_html(tmp_path / "ours", "acme") == read_html(tmp_path / "theirs", "acme")


def test_a_list_is_written_into_a_bucket(tmp_path: Path, cloud: Cloud) -> None:
    bucket, listed = cloud.make_bucket(), write_list(tmp_path / "list", *ORDINARY)
    lists = ["--package-list-json", listed, "--packages-url", URL]
    done = build(*lists, "--output", f"s3://{bucket}", env=cloud.environment)
    assert (done.exit_code, build(*lists, "--output", tmp_path / "public").exit_code) == (0, 0), done.output
    found = cloud.aws.s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert {key["Key"] for key in found if not key["Key"].startswith(".")} == set(pages(tmp_path / "public"))


def test_a_list_is_read_again_and_only_its_changes_are_written(tmp_path: Path) -> None:
    output, old = tmp_path / "public", write_list(tmp_path / "old", *ORDINARY)
    new = write_list(tmp_path / "new", *ORDINARY[:-2], {"filename": "bolt-3.0.tar.gz"}, {"filename": "dial-1.0.zip"})
    where = ["--output-dir", output, "--packages-url", URL]
    assert build(*where, "--package-list-json", old).exit_code == 0
    before = written(output)
    same = build(*where, "--package-list-json", old, "--previous-package-list-json", old)
    assert (same.exit_code, written(output)) == (0, before)
    done = build(*where, "--package-list-json", new, "--previous-package-list-json", old)
    assert done.exit_code == 0, done.output
    assert projects(output) == ["acme", "bolt", "dial", "some-project-name"]
    kept = {path: state for path, state in written(output).items() if before.get(path) == state}
    assert {path for path in kept if "acme" in path or "some-project-name" in path} == {
        path for path in before if "acme" in path or "some-project-name" in path
    }
    assert build("--output", tmp_path / "fresh", "--packages-url", URL, "--package-list-json", new).exit_code == 0
    assert pages(tmp_path / "fresh") == pages(output)


@pytest.mark.parametrize("change", [{"requires_dist": ["bolt"]}, {"uploaded_by": "bob"}, {"upload_timestamp": 7}])
def test_a_change_of_whatever_the_list_says_is_written(tmp_path: Path, change: dict[str, Any]) -> None:
    output = tmp_path / "public"
    where = ["--output-dir", output, "--packages-url", URL, "--package-list-json", tmp_path / "list"]
    write_list(tmp_path / "list", *ORDINARY)
    build(*where)
    assert isinstance(ORDINARY[0], dict)
    write_list(tmp_path / "list", ORDINARY[0] | change, *ORDINARY[1:])
    build(*where)
    assert build("--output", tmp_path / "fresh", *where[2:]).exit_code == 0
    assert pages(tmp_path / "fresh") == pages(output)


def test_a_previous_list_that_lies_does_no_harm(tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list", *ORDINARY)
    lists = ["--package-list-json", listed, "--previous-package-list-json", listed, "--packages-url", URL]
    assert build("--output", tmp_path / "public", *lists).exit_code == 0
    assert projects(tmp_path / "public") == ["acme", "bolt", "cog", "pre", "some-project-name"]


def test_a_build_that_was_killed_is_finished_by_the_next_one(tmp_path: Path) -> None:
    lines = [{"filename": f"project{number}-1.0.tar.gz"} for number in range(2000)]
    listed = write_list(tmp_path / "list", *lines)
    arguments = ["--package-list-json", str(listed), "--packages-url", URL]
    process = subprocess.Popen(
        [sys.executable, "-m", "elasticpypi", "build", "--output", str(tmp_path / "public"), *arguments],
        env=bare_environment(tmp_path / "home"),
        stdout=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "public" / "simple" / "project1000").exists():
            assert process.poll() is None, "it has ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()
    assert build("--output", tmp_path / "public", *arguments).exit_code == 0
    assert build("--output", tmp_path / "fresh", *arguments).exit_code == 0
    assert pages(tmp_path / "public") == pages(tmp_path / "fresh")


def test_in_the_place_of_dumb_pypi_nothing_of_the_index_is_loaded(tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list", *ORDINARY)
    script = (
        "import sys; from elasticpypi.cli.main import main; main(sys.argv[1:], standalone_mode=False);"
        "print(*(name for name in sys.modules if name.count('.') == name.startswith('elasticpypi.')))"
    )
    output = str(tmp_path / "public")
    arguments = ["build", "--output", output, "--package-list-json", str(listed), "--packages-url", URL]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=bare_environment(tmp_path / "home"),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded & {"sqlite3", "requests", "flask", "botocore", "elasticpypi.index"} == set()
