"""`elasticpypi doctor`: checks the configuration and what it points at, and says what to do. It changes nothing."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import click

from elasticpypi.cli.credentials import with_credentials
from elasticpypi.cli.options import CONFIG_PATH, data_option, data_path, json_option, print_json
from elasticpypi.config import CONFIG_VARIABLE, VARIABLE_PREFIX, Settings, User, load_settings
from elasticpypi.errors import CatalogError, ConfigError, ElasticpypiError, NotReadyError
from elasticpypi.index import SQLITE_VERSION, Index, open_index
from elasticpypi.model import Decisions, Entry
from elasticpypi.passwords import is_hash

_CHECK_SECONDS = 3.0  # for a server to index what was dropped just now
_SQLITE_VERSION = (3, 35, 0)  # ON CONFLICT DO UPDATE without naming the conflict
_GIB = 2**30  # bytes
_FREE_SHARE = 0.05
_WATCHES_SHARE = 0.8  # the same user's other programs want some
EXAMPLE_PASSWORDS = {"something-secretive", "another-secret", "a-third-secret"}  # those of the documentation
# SQLite's write-ahead log and our own locks want memory and locks shared by all who use the files.
_NETWORK_FILE_SYSTEMS = {"9p", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "nfs", "nfs4", "smb3"}
_MOUNTS = Path("/proc/mounts")
_MAX_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found; with a remedy it is a problem."""

    check: str
    found: str
    remedy: str | None = None  # None: nothing is wrong


@click.command(short_help="Check everything, and say what to do.")
@data_option
@json_option
def doctor(data: Path | None, as_json: bool) -> None:
    """Check the configuration and what it points at, and say what to do.

    Changes nothing, and may be run while a server serves. Exits with 1 if there is a problem.
    """
    findings = []
    for finding in examine(os.environ, data, patience_seconds=_CHECK_SECONDS):
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.remedy for finding in findings):
        sys.exit(1)


def _print_finding(finding: Finding) -> None:
    found = finding.found if finding.found.endswith("?") else f"{finding.found}."
    if finding.remedy is None:
        click.echo(f"ok       {finding.check}: {found}")
    else:
        click.echo(f"problem  {finding.check}: {found} Remedy: {finding.remedy}.")


def examine(environ: Mapping[str, str], data: Path | None, *, patience_seconds: float = 0) -> Iterator[Finding]:
    """Yield what each check finds, from the configuration to the files; what cannot be checked any more is left out.

    `patience_seconds` is how long a difference between catalog and storage has to last to be a problem.
    """
    yield check_sqlite(SQLITE_VERSION)
    try:
        settings = load_settings(environ=environ, default_path=CONFIG_PATH, local=data is not None)
    except ConfigError as error:
        yield Finding("configuration", str(error), "correct that, and run `elasticpypi doctor` again")
        return
    config = Path(environ.get(CONFIG_VARIABLE, CONFIG_PATH))
    yield Finding("configuration", str(config) if config.exists() else "none but variables and defaults")
    yield from _check_passwords(settings, config, environ)
    check = _check_directory if settings.bucket is None else _check_index
    yield from check(settings, data_path(settings, data), patience_seconds)


def check_sqlite(version: tuple[int, ...]) -> Finding:
    """Check the version of the SQLite library."""
    found = f"version {'.'.join(map(str, version))}"
    if version < _SQLITE_VERSION:
        needed = ".".join(map(str, _SQLITE_VERSION))
        return Finding("SQLite", found, f"use a Python that brings {needed} or newer, as those do that uv installs")
    return Finding("SQLite", found)


# Configuration -----------------------------------------------------------------------------------------------------


def _check_passwords(settings: Settings, config: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    problems = []
    for user in settings.all_users:
        if user.password in EXAMPLE_PASSWORDS:
            found = f"{user.username!r} has the password of the documentation's example"
            remedy = "choose another; `elasticpypi hash-password` makes a hash of it"
            problems.append(Finding("passwords", found, remedy))
    if any(not is_hash(user.password) for user in _users_in_file(settings, environ)) and _is_public(config):
        problems.append(_public("passwords", config))
    yield from problems or [Finding("passwords", "none that others know")]


def _users_in_file(settings: Settings, environ: Mapping[str, str]) -> Iterator[User]:
    """Yield the users whose passwords stand in the configuration file, and not in a variable."""
    in_variables = {name.removeprefix(VARIABLE_PREFIX) for name in environ if name.startswith(VARIABLE_PREFIX)}
    for user in settings.all_users:
        key = "USERS" if user in settings.users else "PASSWORD"
        if key not in in_variables:
            yield user


# Where a local index lies ------------------------------------------------------------------------------------------


def _check_directory(settings: Settings, data: Path, patience_seconds: float) -> Iterator[Finding]:
    access = _check_access(data)
    yield access
    if access.remedy is not None:
        return
    yield _check_privacy(data)
    yield _check_credentials(settings, data)
    usage = shutil.disk_usage(data)
    yield check_space(data, total=usage.total, free=usage.free)
    if _MOUNTS.exists():
        yield check_file_system(data, _MOUNTS.read_text())
    if _MAX_WATCHES.exists():
        yield check_watches(_count_directories(data / "files"), int(_MAX_WATCHES.read_text()))
    yield Finding("server", "one serves this directory" if _is_served(data) else "none serves this directory now")
    yield from _check_index(settings, data, patience_seconds)


def _check_access(data: Path) -> Finding:
    if not (os.access(data, os.F_OK) and data.is_dir()):
        remedy = f"start an index there with `elasticpypi serve --data {_quoted(data)}`, or name another with --data"
        return Finding("data directory", f"{data} is no directory that can be found", remedy)
    owner, user = data.stat().st_uid, os.geteuid()
    if user == 0 and owner != 0:
        # What root makes (a catalog, say) the server could not use.
        remedy = f"run elasticpypi as that user: `sudo -u '#{owner}' elasticpypi doctor --data {_quoted(data)}`"
        return Finding("data directory", f"{data} belongs to user {owner}, and this is root", remedy)
    for directory in (data, data / "files"):
        if directory.exists() and not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            remedy = f"run elasticpypi as user {owner}, who owns {data}, or `chown -R {user} {_quoted(data)}`"
            return Finding("data directory", f"user {user} may not read and write {directory}", remedy)
    return Finding("data directory", str(data))


def _check_privacy(data: Path) -> Finding:
    return _public("privacy", data) if _is_public(data) else Finding("privacy", "others may not look into it")


def _check_credentials(settings: Settings, data: Path) -> Finding:
    path = data / "credentials.json"
    if settings.username is not None:
        return Finding("credentials", "those of the configuration")
    if not path.exists():
        return Finding("credentials", "the server will make some when it starts")
    try:
        with_credentials(settings, data)
    except ConfigError as error:
        return Finding("credentials", str(error), "put a backup of the file in its place, or remove it")
    return _public("credentials", path) if _is_public(path) else Finding("credentials", f"those in {path}")


def _is_public(path: Path) -> bool:
    """Whether neither owner nor group need one be to do something with a file or directory."""
    return path.exists() and bool(stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO)


def _public(check: str, path: Path) -> Finding:
    return Finding(check, f"everybody on this machine may look into {path}", f"`chmod o= {_quoted(path)}`")


def check_space(directory: Path, *, total: int, free: int) -> Finding:
    """Check the room on a volume (bytes): 5 % of it, but at least 1 GiB and at most 20 GiB, should be free."""
    found = f"{free / _GIB:.1f} GiB of {total / _GIB:.1f} GiB are free for {directory}"
    if free < max(_GIB, min(total * _FREE_SHARE, 20 * _GIB)):
        return Finding("free space", found, "make room on that volume, or move the data directory to a larger one")
    return Finding("free space", found)


def check_file_system(directory: Path, mounts: str) -> Finding:
    """Check the kind of file system that a directory lies on; `mounts` is written as /proc/mounts is (fstab(5))."""
    kind = _file_system(directory.resolve(), mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        found = f"{directory} lies on a network file system ({kind}), where the catalog can be damaged"
        return Finding("file system", found, "move the data directory to a disk of this machine")
    return Finding("file system", kind)


def _file_system(directory: Path, mounts: str) -> str:
    found = [(PurePosixPath("/"), "of an unknown kind")]
    for _, escaped, kind, *_ in (line.split() for line in mounts.splitlines()):
        point = PurePosixPath(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), escaped))
        if directory.is_relative_to(point) and len(point.parts) >= len(found[-1][0].parts):
            found.append((point, kind))
    return found[-1][1]


def check_watches(directories: int, allowed: int) -> Finding:
    """Check the number of directories to be watched against what Linux allows a user (inotify(7))."""
    found = f"{directories:,} directories are to be watched, {allowed:,} may be"
    if directories > allowed * _WATCHES_SHARE:
        # Without watches the whole directory is looked through every second.
        return Finding("watches", found, f"raise the limit: `sysctl fs.inotify.max_user_watches={4 * directories}`")
    return Finding("watches", found)


def _count_directories(directory: Path) -> int:
    return sum(1 for _ in os.walk(directory))


def _is_served(data: Path) -> bool:
    """Whether a server watches the directory: it holds the lock for as long as it runs."""
    try:
        with (data / "watch.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # no server has ever been here, or it is not ours
    return False


# The index ---------------------------------------------------------------------------------------------------------


def _check_index(settings: Settings, data: Path, patience_seconds: float) -> Iterator[Finding]:
    sync = f"`elasticpypi sync --data {_quoted(data)}`"
    catalog = data / "catalog.sqlite"
    if settings.bucket is None and not catalog.exists():  # opening would make it
        yield Finding(
            "catalog",
            f"there is none in {data}",
            f"start the server, or run {sync}, which makes it anew from the files",
        )
        return
    try:
        with closing(open_index(settings, data=data, may_create=False)) as index:
            index.check()
            yield Finding("catalog and storage", "both can be read")
            yield _check_drift(index, sync, patience_seconds)
            yield from _check_files(index)
    except ConfigError as error:
        yield Finding("configuration", str(error), "correct that, and run `elasticpypi doctor` again")
    except NotReadyError:
        yield Finding("catalog", "it does not know all files yet", f"let the server finish, or run {sync}")
    except CatalogError as error:
        yield Finding(
            "catalog",
            str(error),
            f"stop the server, remove {catalog}, and run {sync}, which makes it anew from the files",
        )
    except ElasticpypiError as error:
        yield Finding(
            "storage", str(error), "mount its volume, let this user read it, or `elasticpypi restore` a backup"
        )


def _check_drift(index: Index, sync: str, patience_seconds: float) -> Finding:
    report = index.find_drift(patience_seconds=patience_seconds)
    keys = [*report.added, *report.changed, *report.removed, *report.failed]
    if keys:
        others = f" and {len(keys) - 1} more" if keys[1:] else ""
        return Finding("sync", f"catalog and storage differ in {keys[0]}{others}", f"run {sync}")
    return Finding("sync", "catalog and storage agree")


def _check_files(index: Index) -> Iterator[Finding]:
    problems = [*map(_rejected, index.problems()), *map(_hidden, index.hidden_files())]
    yield from problems or [Finding("files", "each one is listed")]


def _rejected(entry: Entry) -> Finding:
    if isinstance(entry.content, Decisions):
        found = f"{entry.key} cannot be read ({entry.problem}): what it said before holds, if it ever said anything"
        return Finding("decisions", found, "mend the file; the README shows how one looks")
    return Finding(
        "files", f"{entry.key} is not listed: {entry.problem}", "put a whole file in its place, or remove it"
    )


def _hidden(entry: Entry) -> Finding:
    found = f"{entry.key} is not served, because other bytes under the same filename are"
    return Finding("files", found, "remove whichever of the two is wrong")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
