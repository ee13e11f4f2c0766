"""What the README says can be typed as it stands there."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from emojigan.datasets.emojis.text import all_canonical
from emojigan.datasets.emojis.vectors.names import build_vectors
from emojigan.datasets.emojis.vectors.word2vec import keyed, save_vectors
from emojigan.launch.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = ("make", "emojigan", "accelerate", "torchrun", ".")


def commands() -> Iterator[list[str]]:
    """The words of every command in a block of its own, in their order, without what is said of it."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        for line in block.splitlines() if not language else ():
            words = shlex.split(line, comments=True) if "│" not in line and "'" not in line else []
            if words and words[0] in PROGRAMS:
                yield words


COMMANDS = list(commands())
OURS = [words for words in COMMANDS if "emojigan" in words]
SMALL = {"trunk_width": 4, "feature_dim": 8, "hidden_dim": 16, "latent_dim": 4, "latents": 4}


def test_no_number_is_left_open():
    assert not re.search(r"@[A-Z]+@|TODO", README)


def test_the_page_begins_with_the_result_and_then_the_commands():
    picture = re.search(r"!\[.+\]\((.+)\)", README)
    assert picture and (ROOT / picture[1]).is_file()
    assert picture.start() < README.index("```") < 1000


def test_the_paper_and_emoji2vec_are_linked():
    assert "https://aclanthology.org/W18-6240/" in README and "https://github.com/uclnlp/emoji2vec" in README


@pytest.mark.parametrize("extra", ["heic", "onnx", "ray", "s3", "serve", "sweep"])
def test_an_extra_is_named_as_it_is_installed(extra: str):
    assert f'pip install -e ".[{extra}]"' in README


def test_there_are_commands():
    assert len(OURS) > 10


def parse(words: list[str]) -> None:
    """Parse a command of ours to its end, and of its launcher what stands before; nothing is run."""
    launcher, ours = words[: words.index("emojigan")], words[words.index("emojigan") + 1 :]
    command, context = main, click.Context(main)
    while isinstance(command, click.Group):
        found = command.get_command(context, ours[0])
        assert found is not None, ours[0]
        command, ours = found, ours[1:]
    command.make_context(command.name, ours, parent=context)
    if launcher:
        parsers = {"accelerate": launch_command_parser, "torchrun": get_args_parser}
        arguments = [word for word in words[1:] if word != "launch"]
        assert parsers[launcher[0]]().parse_args(arguments).training_script == "emojigan"


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_a_command_names_what_the_command_line_knows(words: list[str]):
    parse(words)


def test_make_knows_its_targets():
    targets = {word for words in COMMANDS if words[0] == "make" for word in words[1:]}
    assert {"demo", "test"} <= targets
    subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True)


def test_what_is_sourced_is_where_make_puts_it():
    (sourced,) = (words[1] for words in COMMANDS if words[0] == ".")
    venv = re.search(r"^BIN := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert venv and sourced == f"{venv[1]}/activate"


@pytest.mark.parametrize("path", re.findall(r"`([\w./-]+/[\w./-]*)`", README))
def test_a_path_is_there(path: str):
    assert (ROOT / path).exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, posts_folder: Path, shards: Path) -> Path:
    """What a reader has: posts, a photograph, somebody's tars, and vectors such as emoji2vec's."""
    folder = tmp_path_factory.mktemp("reader") / "work"
    shutil.copytree(posts_folder, folder)
    posts = (folder / "posts.jsonl").read_text(encoding="utf-8").replace('"Ann3"', '"x/12345"')
    (folder / "posts.jsonl").write_text(posts, encoding="utf-8")
    shutil.copy(folder / "images" / "0.png", folder / "photo.jpg")
    (folder / "tars").mkdir()
    for tar in (shards / "train").glob("*.tar"):
        shutil.copy(tar, folder / "tars")
    vectors = build_vectors()
    emojis = [emoji for emoji in all_canonical()[:300] if emoji in vectors]
    save_vectors(keyed(emojis, vectors[emojis]), folder / "emoji2vec.bin")
    return folder


IN_TURN = """
import json, shlex, sys
from click.testing import CliRunner
from emojigan.launch.cli import main

commands, few, lines = json.loads(sys.argv[1])
for words in commands:
    done = CliRunner().invoke(main, words, default_map=few)
    if done.exit_code:
        sys.exit(f"emojigan {shlex.join(words)}\\n{done.output}\\n{done.exception!r}")
exec(lines)
"""


def test_an_installed_wheel_runs_every_command_and_then_the_lines_of_python(folder: Path, installed: Path):
    """In the order of the page, but for steps and sizes, which are the default.

    The ranks are of test_ranks.py, the demo is of test_demo.py.
    """
    few = {
        "train": {**SMALL, "steps": 30, "batch_size": 32, "learning_rate": 0.01},
        "evaluate": {"baseline_steps": 4},
    }
    commands = [words[1:] for words in OURS if words[0] == "emojigan"]
    lines = "\n".join(re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL))
    environment = {**os.environ, "PYTHONPATH": "", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    words = [installed / "bin" / "python", "-c", IN_TURN, json.dumps([commands, few, lines])]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "runs" / "first" / "report").exists() and (folder / "mlflow.db").exists()
    assert (folder / "vectors.html").exists()
