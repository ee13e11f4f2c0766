"""The folders install as emojigan.*, beside any other `datasets`, and import one another one way."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {  # folder: folders of ours
    "datasets": {"datasets"},
    "trainer": {"datasets", "trainer"},
    "launch": {"datasets", "trainer", "launch"},
}
SOURCES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path) -> list[str]:
    """What a file imports, as absolute names; ours begin with emojigan."""
    package = ["emojigan", *path.relative_to(ROOT).parent.parts]
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names += [
                ".".join([*base, node.module] if node.module else [*base, alias.name]) for alias in node.names
            ]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_has_no_init(folder: str):
    assert not list((ROOT / folder).rglob("__init__.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_between_folders_point_one_way(path: Path):
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    ours = [name.split(".") for name in imports(path) if name.split(".")[0] == "emojigan"]
    assert {name[1] for name in ours} <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_folder_is_imported_by_its_bare_name(path: Path):
    assert not {name.split(".")[0] for name in imports(path)} & MAY_IMPORT.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_imported_of_ours_is_there(path: Path):
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "emojigan":
            assert ROOT.joinpath(*rest).with_suffix(".py").is_file(), name


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our distribution and another one that is called `datasets`, as Hugging Face's is."""
    source, other, target = (tmp_path_factory.mktemp(name) for name in ("source", "other", "target"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in MAY_IMPORT:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "datasets").mkdir()
    (other / "datasets" / "__init__.py").write_text("WHOSE = 'the stand-in'\n")
    (other / "setup.py").write_text(
        "from setuptools import setup; setup(name='datasets', version='1.0', packages=['datasets'])\n"
    )
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-index", "--no-build-isolation", "--no-deps", "--target", target, other, source),
        ],
        check=True,
        capture_output=True,
    )
    return target


def test_the_distribution_holds_emojigan_alone(installed: Path):
    names = {path.name for path in installed.iterdir() if not path.name.startswith("datasets")}
    assert {name for name in names if not name.endswith(".dist-info")} == {"emojigan", "bin"}
    assert {path.name for path in (installed / "emojigan").iterdir()} == {*MAY_IMPORT}


def test_every_source_and_data_file_is_installed(installed: Path):
    def files(folder: Path) -> set[str]:
        return {
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    for folder in MAY_IMPORT:
        assert files(installed / "emojigan" / folder) == files(ROOT / folder)


@pytest.mark.parametrize("folder", ["root", "elsewhere"])
def test_both_distributions_can_be_imported(installed: Path, tmp_path: Path, folder: str):
    program = (
        "import datasets, emojigan.datasets.stream.order as ours; print(datasets.WHOSE); print(ours.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT if folder == "root" else tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "the stand-in",
        str(installed / "emojigan" / "datasets" / "stream" / "order.py"),
    ]
