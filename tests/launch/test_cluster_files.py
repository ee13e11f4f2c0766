"""What batch files, manifests and the page about clusters say to `emojigan` and torchrun, these know."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from ..test_readme import README, parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
BATCH_FILES = sorted((ROOT / "launch" / "slurm").iterdir())
MANIFESTS = sorted((ROOT / "launch" / "kubernetes").glob("*.yaml"))
NUMBER = re.compile(r'\$\(\(.*?\)\)|"?\$\{?SLURM_\w+\}?"?|\$\(JOB_COMPLETION_INDEX\)')


def words_of(line: str) -> list[str]:
    """The words of a line of a shell; variables that are numbers are 1."""
    words = shlex.split(NUMBER.sub("1", line), comments=True)
    return [word for word in words if word not in ("&", "$@")]


def command_of(path: Path) -> list[str]:
    """What a batch file runs."""
    lines = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    (line,) = (each for each in lines if re.search("^[^#]*emojigan (shards|score|sweep|train)", each))
    launcher = "torchrun" if "torchrun" in line else "emojigan"
    return words_of(line[line.index(launcher) :].replace('"$@"\' -', ""))


def containers(part: Any) -> Iterator[dict[str, Any]]:
    """All parts of a manifest that have the words of a command."""
    if isinstance(part, dict) and "args" in part:
        yield part
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from containers(each)


def commands() -> Iterator[list[str]]:
    """The words of every command, also of those by which batch files are submitted."""
    batches = {path.name: command_of(path) for path in BATCH_FILES}
    yield from batches.values()
    for path in MANIFESTS:
        for each in containers([*yaml.safe_load_all(path.read_text(encoding="utf-8"))]):
            yield [NUMBER.sub("1", word) for word in each["args"]]
    shown = "".join(re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)).replace("\\\n", "")
    texts = (path.read_text(encoding="utf-8") for path in BATCH_FILES)
    shown += "".join(texts).replace("#     sbatch", "sbatch")
    for line in re.findall(r"^(?:sbatch|emojigan|torchrun) .*", shown, re.MULTILINE):
        words = words_of(line)
        name = next((word for word in words if word.endswith(".sbatch")), None)
        yield [*batches[name], *words[words.index(name) + 1 :]] if name else words


def told(path: Path) -> set[str]:
    """The variables that a file sets for what it runs."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":
        parts = containers([*yaml.safe_load_all(text)])
        return {variable["name"] for each in parts for variable in each.get("env", ())}
    lines = re.findall("^export .*", text, re.MULTILINE)
    return {*re.findall(r"(\w+)=", " ".join(lines)), *re.findall(r"(PET_\w+)=", text)}


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_a_command_names_what_the_command_line_knows(words: list[str]):
    parse(words)


@pytest.mark.parametrize("path", [*BATCH_FILES, *MANIFESTS], ids=lambda path: path.name)
def test_a_variable_is_of_torchrun_or_documented(path: Path):
    parser = get_args_parser()
    of_torchrun = {f"PET_{action.dest.upper()}" for action in parser._actions}
    of_torchrun |= {*re.findall(r"TORCH_\w+", parser.format_help())}
    of_slurm = {"SRUN_CPUS_PER_TASK"}
    assert {name for name in told(path) if f"`{name}`" not in README + PAGE} <= of_torchrun | of_slurm


@pytest.mark.parametrize("path", BATCH_FILES, ids=lambda path: path.name)
def test_the_page_names_all_that_a_batch_file_must_be_told(path: Path):
    text = path.read_text(encoding="utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    (usage,) = re.findall(rf"^sbatch --export=ALL,(\S+) {path.name}.*$", PAGE, re.MULTILINE)
    assert needed and {each.partition("=")[0] for each in usage.split(",")} == needed


def test_the_page_tells_where_the_batch_files_are(tmp_path: Path):
    (line,) = re.findall("^cp -r .*$", PAGE, re.MULTILINE)
    subprocess.run(
        ["bash", "-c", line.replace("python", shlex.quote(sys.executable))], cwd=tmp_path, check=True
    )
    assert {path.name for path in (tmp_path / "slurm").iterdir()} == {path.name for path in BATCH_FILES}
