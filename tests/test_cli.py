"""The commands as a person runs them: exit codes, sentences instead of tracebacks, lines that can be pasted."""

from __future__ import annotations

import json
import os
import pty
import shlex
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from werkzeug.security import check_password_hash

from tests.dists import make_wheel
from tests.running import RunningServer, bare_environment, free_port, run_command, serving, wait_for

COMMANDS = (
    "audit",
    "backup",
    "build",
    "completion",
    "delete",
    "doctor",
    "downloads",
    "hash-password",
    "import",
    "list",
    "mirror",
    "publisher",
    "restore",
    "serve",
    "show",
    "status",
    "sync",
    "token",
    "unyank",
    "upload",
    "why",
    "yank",
)
LONG_AGO = (10**9, 10**9)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def data(tmp_path: Path, home: Path) -> Path:
    """A data directory with one settled wheel in it, which the catalog knows."""
    directory = tmp_path / "data"
    (directory / "files" / "acme").mkdir(parents=True)
    make_wheel(directory / "files" / "acme")
    first = run_command("sync", "--data", directory, home=home)
    assert (first.returncode, first.stderr) == (0, "")
    return directory


def assert_one_sentence(answer: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The command failed with one line that says what is wrong and what to do."""
    assert answer.returncode == code, answer
    assert answer.stdout == ""
    assert answer.stderr.startswith("Error: "), answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    assert [word for word in words if word not in answer.stderr] == [], answer.stderr


# Help and usage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_every_command_has_help(command: tuple[str, ...], option: str, home: Path) -> None:
    answer = run_command(*command, option, home=home)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("Usage: ")
    assert "--help" in answer.stdout


def test_the_group_lists_every_command(home: Path) -> None:
    listed = run_command("--help", home=home).stdout.partition("Commands:\n")[2]
    assert sorted(line.split()[0] for line in listed.splitlines()) == sorted(COMMANDS)


def test_the_command_is_installed_and_is_the_module(home: Path) -> None:
    command = Path(sys.executable).with_name("elasticpypi")
    installed = subprocess.run(
        [command, "--version"], env=bare_environment(home), capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0
    assert installed.stdout == run_command("--version", home=home).stdout
    assert installed.stdout.startswith("elasticpypi, version ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("unheard-of",),
        ("serve", "--unheard-of"),
        ("serve", "--port", "0"),
        ("serve", "--port", "65536"),
        ("serve", "--port", "http"),
        ("serve", "--workers", "0"),
        ("serve", "one-too-many"),
        ("sync", "--chekc"),
    ],
)
def test_wrong_usage_is_2(arguments: tuple[str, ...], home: Path) -> None:
    answer = run_command(*arguments, home=home)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("Usage: ")
    assert "Traceback" not in answer.stderr


# Configuration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"username": "alice",', ("is not JSON", "config-example.json")),
        ("[]", ("is not a JSON object",)),
        ('{"usrname": "alice", "password": "wonder"}', ("'usrname'", "did you mean 'username'", '"username": ')),
        ('{"username": "alice", "password": "wonder", "overwrite": "yes"}', ("'overwrite'", '"overwrite": false')),
        ('{"username": "alice"}', ("'password' is missing", '"password": ')),
        ('{"username": "al:ice", "password": "wonder"}', ("'username'", "':'")),
    ],
)
@pytest.mark.parametrize("command", ["serve", "sync"])
def test_a_wrong_file_is_named(command: str, text: str, words: tuple[str, ...], home: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(text)
    answer = run_command(command, "--data", tmp_path / "data", home=home, extra={"ELASTICPYPI_CONFIG": str(config)})
    assert_one_sentence(answer, 2, str(config), *words)
    assert "wonder" not in answer.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ELASTICPYPI_CONFIG": "/no/such/file"}, ("/no/such/file", "does not exist", "config-example.json")),
        ({"ELASTICPYPI_PASWORD": "wonder"}, ("'ELASTICPYPI_PASWORD'", "did you mean 'ELASTICPYPI_PASSWORD'")),
        ({"ELASTICPYPI_USERNAME": "alice"}, ("'password' is missing", "ELASTICPYPI_PASSWORD=")),
        ({"ELASTICPYPI_OVERWRITE": "perhaps"}, ("ELASTICPYPI_OVERWRITE", "ELASTICPYPI_OVERWRITE=false")),
        ({"ELASTICPYPI_USERS": "[{]"}, ("ELASTICPYPI_USERS is not JSON",)),
    ],
)
@pytest.mark.parametrize("command", ["serve", "sync"])
def test_a_wrong_variable_is_named(
    command: str, variables: dict[str, str], words: tuple[str, ...], home: Path, tmp_path: Path
) -> None:
    assert_one_sentence(run_command(command, "--data", tmp_path / "data", home=home, extra=variables), 2, *words)
    assert not (tmp_path / "data").exists()


AWS = {
    "ELASTICPYPI_BUCKET": "acme-pypi-files",
    "ELASTICPYPI_TABLE": "acme-pypi",
    "ELASTICPYPI_USERNAME": "alice",
    "ELASTICPYPI_PASSWORD": "wonder",
}


def test_a_data_directory_makes_it_local_whatever_is_configured(home: Path, data: Path) -> None:
    answer = run_command("sync", "--data", data, home=home, extra=AWS)
    assert (answer.returncode, answer.stdout) == (0, "1 unchanged, 0 added, 0 changed, 0 removed\n")


# Where the index lies --------------------------------------------------------------------------------------------


def test_a_data_directory_that_is_a_file_is_wrong_usage(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    for command in ("serve", "sync"):
        answer = run_command(command, "--data", path, home=home)
        assert answer.returncode == 2
        assert f"'{path}' is a file" in answer.stderr
        assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("command", ["serve", "sync"])
def test_a_configured_data_directory_that_is_a_file_is_named(command: str, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    answer = run_command(command, home=home, extra={"ELASTICPYPI_DATA": str(path)})
    assert_one_sentence(answer, 2, str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="root may write anywhere else")
@pytest.mark.parametrize("command", ["serve", "sync"])
def test_a_data_directory_that_cannot_be_written_is_named(command: str, home: Path) -> None:
    answer = run_command(command, "--data", "/sys/elasticpypi", home=home)  # not even by root
    assert_one_sentence(answer, 2, "/sys/elasticpypi")


@pytest.mark.parametrize("command", ["serve", "sync"])
def test_a_data_directory_below_a_file_is_named(command: str, home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = run_command(command, "--data", tmp_path / "file" / "data", home=home)
    assert_one_sentence(answer, 2, str(tmp_path / "file" / "data"))


@pytest.mark.parametrize("command", ["serve", "sync"])
@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be read as one" * 100, b"", b"SQLite format 3"]
)
def test_a_damaged_catalog_is_named_with_its_remedy(command: str, content: bytes, home: Path, data: Path) -> None:
    for path in data.glob("catalog.sqlite-*"):
        path.unlink()
    (data / "catalog.sqlite").write_bytes(content)
    answer = run_command(command, "--data", data, home=home)
    assert_one_sentence(answer, 1, str(data / "catalog.sqlite"), "remove", "elasticpypi sync")
    (data / "catalog.sqlite").unlink()
    repaired = run_command("sync", "--data", data, home=home)
    assert (repaired.returncode, repaired.stdout.splitlines()[-1]) == (0, "0 unchanged, 1 added, 0 changed, 0 removed")


@pytest.mark.parametrize("command", ["serve", "sync"])
def test_a_catalog_of_another_release_is_named_with_its_remedy(command: str, home: Path, data: Path) -> None:
    connection = sqlite3.connect(data / "catalog.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    answer = run_command(command, "--data", data, home=home)
    assert_one_sentence(answer, 1, "schema 99", "remove", "elasticpypi sync")


def test_a_storage_that_is_not_there_is_no_empty_one(home: Path, data: Path) -> None:
    (data / "files").rename(data / "away")
    (data / "files").mkdir()
    for arguments in (("sync",), ("sync", "--check")):
        assert_one_sentence(run_command(*arguments, "--data", data, home=home), 1, str(data / "files"), "mounted")
    (data / "files").rmdir()
    (data / "away").rename(data / "files")
    assert run_command("sync", "--check", "--data", data, home=home).returncode == 0


def test_damaged_credentials_are_named(home: Path, data: Path) -> None:
    wrong = ('""', "null", "0", "[]")
    for text in (
        "",
        "[]",
        "{}",
        "\x00",
        '{"username": "admin"}',
        *(f'{{"username": "admin", "password": {text}}}' for text in wrong),
    ):
        (data / "credentials.json").write_text(text)
        answer = run_command("serve", "--port", str(free_port()), "--data", data, home=home)
        assert_one_sentence(answer, 2, str(data / "credentials.json"), "remove it")


def test_a_port_that_is_taken_is_named(home: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        answer = run_command("serve", "--port", port, "--data", tmp_path / "data", home=home)
        assert_one_sentence(answer, 2, port, "--port")


def test_a_port_on_which_another_of_us_serves_is_taken(server: RunningServer, home: Path, tmp_path: Path) -> None:
    answer = run_command("serve", "--port", str(server.port), "--data", tmp_path / "other", home=home)
    assert_one_sentence(answer, 2, str(server.port), "--port")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_named(host: str, home: Path, tmp_path: Path) -> None:
    answer = run_command("serve", "--host", host, "--data", tmp_path / "data", home=home)
    assert_one_sentence(answer, 2, host, "--host")


# Passwords -------------------------------------------------------------------------------------------------------

PASSWORDS = [
    "simple",
    "-begins with a hyphen",
    "--help",
    "with:colon",
    "wönder ländchen",
    "$HOME 'and' \"quotes\"",
    "%41+b",
]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_hash_stands_for_the_password(password: str, home: Path, tmp_path: Path) -> None:
    hashed = run_command("hash-password", f"--password={password}", home=home)
    assert (hashed.returncode, hashed.stderr) == (0, "")
    extra = {"ELASTICPYPI_USERNAME": "alice", "ELASTICPYPI_PASSWORD": hashed.stdout.removesuffix("\n")}
    with serving(tmp_path / "data", home=home, extra=extra) as server:
        for given, status in ((password, 200), (hashed.stdout.strip(), 401), (password + "x", 401)):
            credentials = (b"alice", given.encode())
            answer = requests.get(f"{server.url}/simple/", auth=_Utf8(*credentials), timeout=60)
            assert answer.status_code == status, given


class _Utf8(requests.auth.HTTPBasicAuth):
    """Basic authentication in UTF-8."""

    def __init__(self, username: bytes, password: bytes) -> None:
        super().__init__(username.decode("latin-1"), password.decode("latin-1"))


def test_a_password_is_read_from_standard_input(home: Path) -> None:
    answer = run_command("hash-password", home=home, text="wonder\n")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert check_password_hash(answer.stdout.strip(), "wonder")


@pytest.mark.parametrize("text", ["", "\n", "  \n"])
def test_an_empty_password_gets_no_hash(home: Path, text: str) -> None:
    answer = run_command("hash-password", home=home, text=text)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "The password is empty" in answer.stderr


@pytest.mark.parametrize(("typed", "code"), [([b"wonder\n", b"wonder\n"], 0), ([b"one\n", b"other\n", b"\x04"], 1)])
def test_a_password_is_asked_for_twice_at_a_terminal(home: Path, typed: list[bytes], code: int) -> None:
    terminal, other_end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "elasticpypi", "hash-password"],
        env=bare_environment(home),
        stdin=other_end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # or the prompt would go to the terminal of whoever runs the tests
    ) as process:
        assert process.stderr is not None
        for line in typed:  # what is typed before the prompt is thrown away
            said = b""
            while not said.endswith((b"Password: ", b"confirmation: ")):
                said += process.stderr.read(1)
            os.write(terminal, line)
        output, _ = process.communicate(timeout=60)
    os.close(terminal)
    os.close(other_end)
    assert (process.returncode, b"scrypt:" in output) == (code, code == 0)


# sync ------------------------------------------------------------------------------------------------------------


def test_sync_of_a_new_directory_makes_an_empty_index(home: Path, tmp_path: Path) -> None:
    answer = run_command("sync", "--data", tmp_path / "new", home=home)
    assert (answer.returncode, answer.stdout) == (0, "0 unchanged, 0 added, 0 changed, 0 removed\n")


def test_sync_reports_and_repairs_and_check_only_reports(home: Path, data: Path) -> None:
    def sync(*arguments: str) -> tuple[int, list[str], str]:
        answer = run_command("sync", *arguments, "--data", data, home=home)
        return answer.returncode, answer.stdout.splitlines(), answer.stderr

    def summary(unchanged: int, added: int, changed: int, removed: int, *, tense: str = "") -> str:
        return f"{unchanged} unchanged, {added} {tense}added, {changed} {tense}changed, {removed} {tense}removed"

    assert sync("--check") == (0, [summary(1, 0, 0, 0, tense="not yet ")], "")
    assert sync() == (0, [summary(1, 0, 0, 0)], "")

    files = data / "files"
    second, third = make_wheel(files, version="2.0"), make_wheel(files, version="3.0")
    wait_for(lambda: sync("--check"), lambda found: found[2] == "")  # until they have settled
    keys = [second.name, third.name]
    for _ in range(2):
        expected = [*(f"not yet added: {key}" for key in keys), summary(1, 2, 0, 0, tense="not yet ")]
        assert sync("--check") == (1, expected, "")
    assert sync() == (0, [*(f"added: {key}" for key in keys), summary(1, 2, 0, 0)], "")

    second.unlink()
    os.utime(third, LONG_AGO)
    wait_for(lambda: sync("--check"), lambda found: found[2] == "")
    changes = [f"changed: {third.name}", f"removed: {second.name}"]
    expected = [*(f"not yet {change}" for change in changes), summary(1, 0, 1, 1, tense="not yet ")]
    assert sync("--check") == (1, expected, "")
    assert sync() == (0, [*changes, summary(1, 0, 1, 1)], "")
    assert sync("--check") == (0, [summary(2, 0, 0, 0, tense="not yet ")], "")


def test_sync_waits_for_files_that_settle_and_reports_the_others(home: Path, data: Path, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, version="2.0")
    with (data / "files" / wheel.name).open("wb") as stream:
        stream.write(wheel.read_bytes())
        stream.flush()
        answer = run_command("sync", "--data", data, home=home)
        assert (answer.returncode, answer.stderr) == (1, f"still being written: {wheel.name}\n")
        assert run_command("sync", "--check", "--data", data, home=home).returncode == 1
    answer = run_command("sync", "--data", data, home=home)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.splitlines()[0] == f"added: {wheel.name}"


def test_sync_reports_rejected_files_and_is_done(home: Path, data: Path) -> None:
    (data / "files" / "broken-1.0.tar.gz").write_bytes(b"no archive")
    for expected in ("1 unchanged, 1 added, 0 changed, 0 removed", "2 unchanged, 0 added, 0 changed, 0 removed"):
        answer = run_command("sync", "--data", data, home=home)
        assert answer.returncode == 0
        assert answer.stdout.splitlines()[-1] == expected
        assert "problem: broken-1.0.tar.gz: " in answer.stderr
        assert "Traceback" not in answer.stderr


def test_sync_makes_a_removed_catalog_anew(home: Path, data: Path) -> None:
    for path in data.glob("catalog.sqlite*"):
        path.unlink()
    added = ["added: acme/acme-1.0-py3-none-any.whl", "0 unchanged, 1 added, 0 changed, 0 removed"]
    answer = run_command("sync", "--check", "--data", data, home=home)
    assert (answer.returncode, answer.stdout.splitlines()) == (
        1,
        [f"not yet {added[0]}", "0 unchanged, 1 not yet added, 0 not yet changed, 0 not yet removed"],
    )
    answer = run_command("sync", "--data", data, home=home)
    assert (answer.returncode, answer.stdout.splitlines()) == (0, added)


def test_check_writes_nothing(home: Path, data: Path) -> None:
    make_wheel(data / "files", "other")

    def everything() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in data.rglob("*") if path.is_file() and path.suffix != ".sqlite-shm"}

    before = everything()
    assert run_command("sync", "--check", "--data", data, home=home).returncode == 1
    assert {path: data for path, data in everything().items() if "catalog.sqlite" not in path.name} == {
        path: data for path, data in before.items() if "catalog.sqlite" not in path.name
    }


# Lines to paste --------------------------------------------------------------------------------------------------


def test_the_printed_lines_can_be_pasted(server: RunningServer, home: Path, tmp_path: Path) -> None:
    lines = {
        line.split()[0]: line.strip()
        for line in server.output().splitlines()
        if line.strip().startswith(("pip ", "uv ", "twine "))
    }
    assert sorted(lines) == ["pip", "twine", "uv"]
    project = tmp_path / "project"
    (project / "dist").mkdir(parents=True)
    make_wheel(project / "dist", "acme-pasted")
    make_wheel(project / "dist", "acme-pasted", "2.0")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    path = os.pathsep.join([str(venv / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = bare_environment(home, {"PATH": path, "VIRTUAL_ENV": str(venv)})

    def paste(line: str) -> str:
        answer = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert answer.returncode == 0, (line, answer.stdout, answer.stderr)
        return answer.stdout + answer.stderr

    def installed() -> str:
        code = "import acme_pasted; print(acme_pasted.__version__)"
        return paste(f"{shlex.quote(str(venv / 'bin' / 'python'))} -c {shlex.quote(code)}").strip()

    paste(lines["twine"])
    paste(lines["twine"])  # again: the same bytes are no error
    assert sorted(server.listing("acme-pasted") or {}) == [
        "acme_pasted-1.0-py3-none-any.whl",
        "acme_pasted-2.0-py3-none-any.whl",
    ]
    paste(lines["pip"].replace("PROJECT", "acme-pasted"))
    assert installed() == "2.0"
    paste("pip uninstall --yes acme-pasted")
    paste(lines["uv"].replace("PROJECT", "acme-pasted==1.0"))
    assert installed() == "1.0"


def test_an_address_for_everybody_and_ipv6_can_be_pasted(home: Path, tmp_path: Path) -> None:
    """What is printed for `--host ::1` is a URL."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    data = tmp_path / "data"
    # `serving` asks at 127.0.0.1, so this one is started by hand.
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "elasticpypi", "serve", "--host", "::1", "--port", str(port), "--data", str(data)],
            env=bare_environment(home),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(log.read_text, lambda text: "twine upload" in text)
            made = json.loads((data / "credentials.json").read_text())
            url = f"http://admin:{made['password']}@[::1]:{port}/simple/"
            assert f"pip install --index-url {url} PROJECT" in log.read_text()
            wait_for(lambda: status_of(url), lambda status: status == 200)
        finally:
            process.terminate()
            process.wait(60)


def status_of(url: str) -> int | None:
    try:
        return requests.get(url, timeout=60).status_code
    except requests.ConnectionError:
        return None
