"""Which files of ours a file needs: itself, and what it imports, also within functions, and so on.

A registered model takes along what it needs to answer, and not all that trains, builds and serves.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2]  # the folder in which datasets/ and trainer/ lie
NAME = "emojigan"


def source_of(path: Path, seen: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """The files that `path` needs, and it, as paths from PACKAGE.

    Args:
        path: from PACKAGE, as the others.
        seen: files that are known to be needed.
    """
    seen |= {path}
    for other in _imported(path):
        if other not in seen:
            seen = source_of(other, seen)
    return seen


def _imported(path: Path) -> Iterator[Path]:
    """Files of ours that a file names in `from … import …`: as a module, or as a name in a folder."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        above = path.parts[: len(path.parts) - node.level] if node.level else ()
        module = (node.module or "").split(".") if node.module else []
        if not node.level:
            if module[0] != NAME:
                continue
            module = module[1:]
        where = Path(*above, *module)
        for file in (where, *(where / alias.name for alias in node.names)):
            if (PACKAGE / file).with_suffix(".py").is_file():
                yield file.with_suffix(".py")
