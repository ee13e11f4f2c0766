"""`make` installs what its target needs, once."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALLED = ("setup.py", "pyproject.toml", "constraints.txt")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `make` looks at."""
    for name in ("Makefile", *INSTALLED):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    return tmp_path


def extras(clone: Path, target: str) -> list[str]:
    """The extras that `make target` would install; nothing is run."""
    words = ["make", "--dry-run", "--no-print-directory", "-C", str(clone), target]
    # A `make` that runs the tests would hand its flags on.
    environment = {key: value for key, value in os.environ.items() if "MAKE" not in key}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if "pip install" in line]
    return [line.split('".[')[1].split("]")[0] for line in lines]


@pytest.mark.parametrize(
    ("target", "needed"),
    [("demo", "demo"), ("test", "demo,test"), ("lint", "demo,test"), ("soak", "demo,test")],
)
def test_a_target_installs_its_extras_once(clone: Path, target: str, needed: str):
    assert extras(clone, target) == [needed]
    (clone / ".venv" / ("demo" if target == "demo" else "test")).touch()
    assert extras(clone, target) == []


@pytest.mark.parametrize("changed", INSTALLED)
def test_a_change_of_what_is_installed_installs_again(clone: Path, changed: str):
    for stamp in ("demo", "test"):
        (clone / ".venv" / stamp).touch()
    later = (clone / ".venv" / "test").stat().st_mtime + 10
    os.utime(clone / changed, (later, later))
    assert extras(clone, "demo") == ["demo"] and extras(clone, "test") == ["demo,test"]
