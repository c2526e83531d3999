"""What `pip install .` gives."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.running import bare_environment

ROOT = Path(__file__).parent.parent


def test_the_wheel_carries_what_the_program_needs_and_no_secrets(tmp_path: Path) -> None:
    environment = bare_environment(tmp_path / "home")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, env=environment, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("elasticpypi-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "elasticpypi"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert {name for name in names if ".dist-info/" not in name} == set(tracked)
    assert {Path(name).suffix for name in tracked} == {".css", ".html", ".js", ".json", ".py", ".typed", ".xml"}
    assert "elasticpypi/config.json" not in names
    # From there, and not from the checkout:
    ran = subprocess.run(
        [sys.executable, "-c", "import sys; from elasticpypi.cli.main import main; main(['serve', '--help'])"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(tmp_path / "installed")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Serve an index from a directory" in ran.stdout
    entry_points = next((tmp_path / "installed").glob("*.dist-info")) / "entry_points.txt"
    assert "elasticpypi = elasticpypi.cli.main:main" in entry_points.read_text()
