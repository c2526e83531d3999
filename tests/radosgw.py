"""Ceph's object gateway on loopback: an S3 that, unlike moto, holds every request against its signature.

A cluster of one monitor and one store in memory, in a directory of its own; Debian has it as radosgw, ceph-mon and
ceph-osd.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from elasticpypi.aws import AWS
from tests.programs import require
from tests.running import free_port, wait_for

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
# Made up, for a gateway that listens to this machine alone.
ACCESS_KEY, SECRET_KEY = "radosgwtesting", "radosgw/testing+secret"
REGION = "eu-central-1"
_START_SECONDS = 90
_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{monitor_port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = {directory}
admin socket = {directory}/$name.asok
pid file = {directory}/$name.pid
log file = {directory}/$name.log
crash dir = {directory}
keyring = {directory}/keyring
osd objectstore = memstore
osd data = {directory}/osd
mon data = {directory}/mon
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon pg warn min per osd = 0
mon max pg per osd = 1000
rgw data = {directory}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw run sync thread = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
"""


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def open(self) -> AWS:
        """Return clients of it."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            aws = AWS(region=REGION)
            for client in (aws.s3, aws.s3_writing, aws.s3_copying):  # made while the variables are set
                assert client.meta.endpoint_url == self.url
                client.meta.events.register("before-call.s3.PutObject", _without_quotes)
            return aws


@contextmanager
def running_gateway(directory: Path) -> Iterator[Gateway]:
    """Run a gateway and what it needs until the context ends; skip the test where the programs are not installed."""
    programs = {name: require(name) for name in PROGRAMS}
    port, monitor_port = free_port(), free_port()
    fsid = str(uuid.uuid4())
    settings = directory / "ceph.conf"
    settings.write_text(
        _CONFIGURATION.format(fsid=fsid, directory=directory, port=port, monitor_port=monitor_port).lstrip()
    )

    def run(program: str, *arguments: str | Path) -> None:
        command = [programs[program], "-c", settings, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_START_SECONDS, check=False)
        assert done.returncode == 0, (program, arguments, done.stdout[-2000:], done.stderr[-2000:])

    with ExitStack() as stack:

        def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((directory / f"{program}.out").open("wb"))
            process = subprocess.Popen(
                [programs[program], "-c", settings, "-f", *arguments], stdout=log, stderr=log, cwd=directory
            )
            stack.callback(_end, process)
            return process

        monmap = directory / "monmap"
        for name in ("mon", "osd", "rgw"):
            (directory / name).mkdir()
        keyring = directory / "keyring"
        keyring.touch()
        for name in ("mon.", "client.admin", "osd.0"):
            run("ceph-authtool", keyring, "--gen-key", "-n", name, "--cap", "mon", "allow *", "--cap", "osd", "allow *")
        run("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{monitor_port}]", "--fsid", fsid, monmap)
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        start("ceph-mon", "-i", "a")
        run("ceph", "--connect-timeout", str(_START_SECONDS), "osd", "new", fsid, "0")
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", fsid)
        start("ceph-osd", "-i", "0")
        keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
        run("radosgw-admin", "user", "create", "--uid", "tests", "--display-name", "tests", *keys)
        gateway = start("radosgw", "-n", "client.admin")
        wait_for(lambda: _answers(gateway, port), seconds=_START_SECONDS)
        yield Gateway(f"http://127.0.0.1:{port}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, "the gateway ended"
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.get(f"http://127.0.0.1:{port}/", timeout=5).ok
        except requests.ConnectionError:
            return False


def _without_quotes(params: dict[str, Any], **_: Any) -> None:
    """Write If-Match as this gateway compares it on writing; S3 takes both, and the standard wants the quotes."""
    if "If-Match" in params["headers"]:
        params["headers"]["If-Match"] = params["headers"]["If-Match"].strip('"')


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # nothing of it is kept
    process.wait()
