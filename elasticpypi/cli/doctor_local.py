"""What `elasticpypi doctor` looks at where a local index lies: SQLite, the data directory and the disk below it."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from elasticpypi.cli.credentials import with_credentials
from elasticpypi.config import Settings
from elasticpypi.errors import ConfigError
from elasticpypi.finding import Finding
from elasticpypi.index import sqlite_version

_SQLITE_VERSION = (3, 35, 0)  # ON CONFLICT DO UPDATE without naming the conflict
_GIB = 2**30  # bytes
_FREE_SHARE = 0.05
_WATCHES_SHARE = 0.8  # the same user's other programs want some
# SQLite's write-ahead log and our own locks want memory and locks shared by all who use the files.
_NETWORK_FILE_SYSTEMS = {"9p", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "nfs", "nfs4", "smb3"}
_MOUNTS = Path("/proc/mounts")
_MAX_WATCHES = Path("/proc/sys/fs/inotify/max_user_watches")


def check_sqlite(version: tuple[int, ...]) -> Finding:
    """Check the version of the SQLite library."""
    found = f"version {'.'.join(map(str, version))}"
    if version < _SQLITE_VERSION:
        needed = ".".join(map(str, _SQLITE_VERSION))
        return Finding("SQLite", found, f"use a Python that brings {needed} or newer, as those do that uv installs")
    return Finding("SQLite", found)


def check_directory(settings: Settings, data: Path) -> Iterator[Finding]:
    """Yield what was found about the directory; with a problem as the last one if no index can be in it."""
    yield check_sqlite(sqlite_version())
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


def _check_access(data: Path) -> Finding:
    if not (os.access(data, os.F_OK) and data.is_dir()):
        remedy = f"start an index there with `elasticpypi serve --data {quoted(data)}`, or name another with --data"
        return Finding("data directory", f"{data} is no directory that can be found", remedy)
    owner, user = data.stat().st_uid, os.geteuid()
    if user == 0 and owner != 0:
        # What root makes (a catalog, say) the server could not use.
        remedy = f"run elasticpypi as that user: `sudo -u '#{owner}' elasticpypi doctor --data {quoted(data)}`"
        return Finding("data directory", f"{data} belongs to user {owner}, and this is root", remedy)
    for directory in (data, data / "files"):
        if directory.exists() and not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            remedy = f"run elasticpypi as user {owner}, who owns {data}, or `chown -R {user} {quoted(data)}`"
            return Finding("data directory", f"user {user} may not read and write {directory}", remedy)
    return Finding("data directory", str(data))


def _check_privacy(data: Path) -> Finding:
    return public("privacy", data) if is_public(data) else Finding("privacy", "others may not look into it")


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
    return public("credentials", path) if is_public(path) else Finding("credentials", f"those in {path}")


def is_public(path: Path) -> bool:
    """Whether neither owner nor group need one be to do something with a file or directory."""
    return path.exists() and bool(stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO)


def public(check: str, path: Path) -> Finding:
    """Return the finding about a file or directory that is public."""
    return Finding(check, f"everybody on this machine may look into {path}", f"`chmod o= {quoted(path)}`")


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


def quoted(path: Path) -> str:
    """Return a path as a shell wants it."""
    return shlex.quote(str(path))
