"""Installers that resolve a project from an index and install nothing, beginning with an empty cache each time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from bench.used import measure

_UV = (str(Path(sys.executable).with_name("uv")), "--no-config", "--no-progress")
_PIP = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir", "--quiet")


class Installer(StrEnum):
    """What resolves."""

    UV = "uv"  # asks for many pages at a time
    PIP = "pip"  # for one after the other


class Workplace:
    """Where installers resolve the first of some projects, which has to bring all the others."""

    def __init__(self, place: Path, projects: Sequence[str]) -> None:
        place.mkdir()
        self._place = place
        self._projects = projects
        self._wanted = place / "requirements.in"
        self._wanted.write_text(f"{projects[0]}\n")
        # uv asks the interpreter for what it is once: that takes longer than many a resolve, and is no index's doing.
        self._interpreter = place / "interpreter"
        empty = place / "empty.in"
        empty.touch()
        measure(self._compile(empty, self._interpreter, "http://127.0.0.1:1/"), self._environment())

    def resolve(self, installer: Installer, url: str) -> float:
        """Resolve from the index at `url`; return how many seconds it took. RuntimeError if not all were found."""
        cache, found = self._place / "cache", self._place / "found"
        shutil.copytree(self._interpreter, cache)
        try:
            if installer is Installer.UV:
                command = self._compile(self._wanted, cache, url)
            else:
                command = [*_PIP, "install", "--dry-run", "--ignore-installed", "--report", str(found)]
                command += ["--index-url", url, self._projects[0]]
            seconds = measure(command, self._environment()).wall
            self._check(installer, found.read_text(), url)
        finally:
            shutil.rmtree(cache)
            found.unlink(missing_ok=True)
        return seconds

    def install(self, url: str) -> None:
        """Download everything from an index, as a first installation does."""
        target = self._place / "installed"
        command = [*_UV, "pip", "install", "--quiet", "--no-cache", "--python", sys.executable, "--target", str(target)]
        command += ["--default-index", url, self._projects[0]]
        subprocess.run(command, env=self._environment(), check=True)
        shutil.rmtree(target)

    def _compile(self, wanted: Path, cache: Path, url: str) -> list[str]:
        command = [*_UV, "pip", "compile", "--no-header", "--no-annotate", "--python", sys.executable]
        command += ["--default-index", url, "--cache-dir", str(cache)]
        return [*command, "--output-file", str(self._place / "found"), str(wanted)]

    def _environment(self) -> Mapping[str, str]:
        """Return an environment in which nobody's configuration names other indexes."""
        return {"PATH": os.environ["PATH"], "HOME": str(self._place), "PIP_CONFIG_FILE": os.devnull}

    def _check(self, installer: Installer, found: str, url: str) -> None:
        if installer is Installer.UV:
            names = {line.partition("==")[0] for line in found.splitlines()}
        else:
            names = {each["metadata"]["name"].replace("_", "-") for each in json.loads(found)["install"]}
        missing = set(self._projects) - names
        if missing:
            raise RuntimeError(f"{installer} has not found {len(missing)} projects at {url}, such as {min(missing)}")
