"""The house: folders install as emojigan.*, rooms import one way, and none is crowded."""

import ast
import os
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("asking", "datasets", "trainer", "launch")
MAY_IMPORT = {  # room: the rooms of which it may know, besides itself and datasets/errors.py
    "datasets": "",
    "datasets/store": "",
    "datasets/work": "",
    "datasets/posts": "",
    "datasets/posts/formats": "datasets/posts",
    "datasets/images": "datasets/posts",
    "datasets/emojis": "",
    "datasets/pages": "datasets/emojis",
    "datasets/emojis/vectors": "datasets/store datasets/work datasets/posts datasets/emojis datasets/pages",
    "datasets/shards": "datasets/store datasets/posts datasets/images",
    "datasets/build": (
        "datasets/store datasets/work datasets/posts datasets/images datasets/emojis datasets/shards"
    ),
    "datasets/stream": "datasets/store datasets/work datasets/shards",
    "datasets/care": (
        "datasets/store datasets/work datasets/posts datasets/posts/formats datasets/images "
        "datasets/emojis datasets/shards datasets/build"
    ),
    "datasets/worlds": "datasets/store datasets/work datasets/emojis",
    "trainer": (
        "datasets/store datasets/work datasets/emojis datasets/emojis/vectors datasets/shards datasets/stream"
    ),
    "trainer/model": "datasets/store datasets/emojis trainer",
    "trainer/runtime": "datasets/store datasets/work datasets/stream trainer",
    "trainer/tracking": "datasets/store trainer trainer/runtime",
    "trainer/training": (
        "datasets/store datasets/work datasets/stream trainer trainer/model trainer/runtime trainer/tracking"
    ),
    "trainer/doctor": (
        "datasets/store datasets/work datasets/stream trainer trainer/runtime trainer/tracking "
        "trainer/training"
    ),
    "trainer/evaluation/metrics": ("datasets/emojis/vectors datasets/stream datasets/worlds trainer"),
    "trainer/evaluation/baselines": (
        "datasets/store datasets/work datasets/stream trainer trainer/model trainer/evaluation/metrics"
    ),
    "trainer/evaluation": (
        "datasets/store datasets/work datasets/emojis datasets/emojis/vectors "
        "datasets/stream datasets/worlds trainer trainer/model trainer/evaluation/metrics "
        "trainer/evaluation/baselines"
    ),
    "trainer/evaluation/report": (
        "datasets/store datasets/emojis datasets/pages trainer trainer/model trainer/tracking "
        "trainer/evaluation trainer/evaluation/metrics"
    ),
    "trainer/export": "datasets/store datasets/emojis trainer trainer/model",
    "trainer/sweep": (
        "datasets/store datasets/pages datasets/shards datasets/stream trainer trainer/runtime "
        "trainer/tracking trainer/training trainer/evaluation"
    ),
    "trainer/serving": (
        "datasets/store datasets/posts datasets/images datasets/emojis datasets/shards trainer trainer/model "
        "trainer/export trainer/tracking trainer/evaluation trainer/evaluation/metrics"
    ),
    "trainer/serving/scoring": (
        "datasets/store datasets/work datasets/posts datasets/images datasets/emojis datasets/shards "
        "datasets/stream trainer trainer/export trainer/model trainer/serving"
    ),
    "trainer/serving/server": "datasets/work datasets/emojis datasets/pages trainer/serving",
    "asking": "trainer/serving",
}
ROOMS = {*MAY_IMPORT, "launch", "launch/commands"}
FOR_CLUSTERS = {"launch/slurm", "launch/kubernetes"}  # without Python
LISTS_OF_EQUALS = {"datasets/posts/formats", "launch/commands", "trainer/evaluation/baselines"}
MOST_FILES = 9
OF_EXTRAS = {
    *("anyio", "onnx", "onnxruntime", "onnxscript", "optuna", "pillow_heif", "prometheus_client", "ray"),
    *("sqlalchemy", "starlette", "uvicorn"),
}
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


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


def room_of(path: Path) -> str:
    """The folder of a file of ours, from the root."""
    return path.relative_to(ROOT).parent.as_posix()


def ours_imported(path: Path) -> list[Path]:
    """The files of ours that a file imports, in functions too."""
    names = [name.split(".")[1:] for name in imports(path) if name.split(".")[0] == "emojigan"]
    return [ROOT.joinpath(*name).with_suffix(".py") for name in names]


def test_no_folder_has_an_init_but_the_one_from_which_names_are_imported():
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")]
    assert found == [ROOT / "asking" / "__init__.py"]


def test_the_rooms_are_those_that_are_known():
    assert {room_of(path) for path in SOURCES} == ROOMS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_those_that_it_may_know(path: Path):
    room = room_of(path)
    others = {room_of(other) for other in ours_imported(path)} - {room, "datasets"}
    may_import = MAY_IMPORT[room].split() if room in MAY_IMPORT else ROOMS  # launch wires all
    assert others <= {*may_import}


def test_only_launch_knows_click():
    assert not [
        path for path in SOURCES if "click" in imports(path) and not room_of(path).startswith("launch")
    ]


def test_no_file_imports_itself_by_way_of_others():
    TopologicalSorter({path: ours_imported(path) for path in SOURCES}).prepare()  # raises CycleError


@pytest.mark.parametrize("room", sorted(ROOMS - LISTS_OF_EQUALS))
def test_a_room_is_not_crowded(room: str):
    assert len(list((ROOT / room).glob("*.py"))) <= MOST_FILES


def test_tests_lie_in_the_rooms_that_they_are_about():
    folders = {
        path.relative_to(ROOT / "tests").parent.as_posix() for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert folders - {"."} <= ROOMS | FOR_CLUSTERS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_folder_is_imported_by_its_bare_name(path: Path):
    assert not {name.split(".")[0] for name in imports(path)} & {*FOLDERS}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_imported_of_ours_is_there(path: Path):
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "emojigan":
            assert ROOT.joinpath(*rest).with_suffix(".py").is_file(), name


def test_what_is_imported_is_declared():
    """Not merely brought along by something else, which may stop to."""
    core = re.search(r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert core
    declared = {name.replace("-", "_") for name in re.findall(r'"([\w-]+)', core[1])}
    names = {name.split(".")[0] for path in SOURCES for name in imports(path)}
    distributions = packages_distributions()
    for name in names - {"emojigan", *sys.stdlib_module_names, *OF_EXTRAS}:
        assert {each.lower().replace("-", "_") for each in distributions[name]} & declared, name


@pytest.fixture(scope="module")
def packages(installed: Path) -> Path:
    """Where our distribution is installed, and another one that is called `datasets`."""
    (folder,) = installed.glob("lib/python*/site-packages")
    return folder


def test_the_distribution_holds_emojigan_alone(packages: Path):
    names = {path.name for path in packages.iterdir() if not path.name.startswith("datasets")}
    assert {name for name in names if not name.endswith((".dist-info", ".pth"))} == {"emojigan"}
    assert {path.name for path in (packages / "emojigan").iterdir()} == {*FOLDERS}


def test_every_source_and_data_file_is_installed(packages: Path):
    def files(folder: Path) -> set[str]:
        return {
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    for folder in FOLDERS:
        assert files(packages / "emojigan" / folder) == files(ROOT / folder)


@pytest.mark.parametrize("folder", ["asking", "datasets", "trainer"])
def test_a_type_checker_may_read_what_others_import(packages: Path, folder: str):
    assert (packages / "emojigan" / folder / "py.typed").is_file()


@pytest.mark.parametrize("folder", ["root", "elsewhere"])
def test_both_distributions_can_be_imported(installed: Path, packages: Path, tmp_path: Path, folder: str):
    program = (
        "import datasets, emojigan.datasets.stream.order as ours; print(datasets.WHOSE); print(ours.__file__)"
    )
    done = subprocess.run(
        [installed / "bin" / "python", "-c", program],
        cwd=ROOT if folder == "root" else tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "the stand-in",
        str(packages / "emojigan" / "datasets" / "stream" / "order.py"),
    ]
