"""docs/moving-in.md: its commands work as they stand there, and it names every kind of source."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from elasticpypi.cli.importing import import_files
from tests.dists import make_sdist, make_wheel
from tests.moving import Answer, serving_answers
from tests.running import bare_environment

PAGE = (Path(__file__).parent.parent / "docs" / "moving-in.md").read_text()


@pytest.mark.timeout(300)
def test_the_commands_run_as_they_stand_there(tmp_path: Path) -> None:
    work = tmp_path / "work"
    pooled, plain = make_wheel(work / "packages"), make_sdist(tmp_path)
    exported, listed = make_wheel(work / "export", version="2.0"), make_wheel(tmp_path, version="3.0")
    files = [{"type": "releasefile", "relpath": exported.name}]
    indexes = {"alice/prod": {"files": files}, "alice/dev": {"files": files}}
    (work / "export" / "dataindex.json").write_text(json.dumps({"dumpversion": "2", "indexes": indexes}))
    (work / "package-list.json").write_text(json.dumps({"filename": pooled.name}))
    (work / "package-list.txt").write_text(plain.name)
    with serving_answers() as web:
        web.put(f"/pool/{plain.name}", Answer(plain.read_bytes()))
        web.put(f"/pool/{listed.name}", Answer(listed.read_bytes()))
        web.put("/simple/", Answer(b'<a href="acme/">acme</a>', "text/html"))
        link = f'<a href="/pool/{listed.name}">{listed.name}</a>'
        web.put("/simple/acme/", Answer(link.encode(), "text/html"))
        script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
        script = re.sub(r"https://(.*@)?pypi\.example\.com", rf"{web.url[:7]}\g<1>{web.url[7:]}", script)
        environment = bare_environment(tmp_path / "home")
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "imported: " in line] == [
        f"not yet imported: {pooled.name}",
        *(f"imported: {path.name}" for path in (pooled, exported, plain, listed)),
    ]


def test_every_kind_of_source_is_named() -> None:
    names = import_files.list_commands(click.Context(import_files))
    assert [name for name in names if f"`import {name} " not in PAGE] == []
