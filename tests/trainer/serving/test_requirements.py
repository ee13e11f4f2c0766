"""What a registered model says that it needs is all that its code imports."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from emojigan.trainer.serving.register import REQUIREMENTS, SERVED
from emojigan.trainer.serving.source import source_of

from ...test_layout import ours_imported

ROOT = Path(__file__).parents[3]


def imported(path: Path) -> set[str]:
    """What a file of ours imports when it is imported, as absolute names."""
    package = ["emojigan", *path.relative_to(ROOT).parent.parts]
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names.add(".".join([*base, node.module or ""]))
    return names


def others_of(path: Path, seen: set[Path]) -> set[str]:
    """The packages of others that a file needs, and the files of ours that it imports."""
    seen.add(path)
    found = set()
    for name in imported(path):
        first, *rest = name.split(".")
        ours = ROOT.joinpath(*rest).with_suffix(".py") if first == "emojigan" else None
        if ours is None:
            found.add(first)
        elif ours not in seen:
            found |= others_of(ours, seen)
    return found - set(sys.stdlib_module_names)


def test_a_registered_model_names_every_package_that_it_imports():
    needed = others_of(ROOT / "trainer" / "serving" / "served_model.py", set())
    assert "torch" in needed
    distributions = packages_distributions()
    for package in needed:
        assert {re.sub("[-_.]+", "-", name).lower() for name in distributions[package]} & set(REQUIREMENTS), (
            package
        )


def test_all_that_its_code_imports_of_ours_goes_with_it_and_nothing_else():
    along = {ROOT / path for path in source_of(SERVED)}
    named = {path for each in along for path in ours_imported(each)}
    assert named <= along == named | {ROOT / SERVED}
    assert len(along) < 40
