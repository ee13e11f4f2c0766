"""The demo says where it is, and what to type."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from emojigan.launch import cli
from emojigan.launch.commands.demo import demo


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that the demo runs; none of them does anything."""
    world = tmp_path / "my demo" / "world"
    world.mkdir(parents=True)
    (world / "posts.jsonl").write_text('{"image": "photos/a.jpg"}\n')
    commands = []
    monkeypatch.setattr(cli.main, "main", lambda words, standalone_mode: commands.append(words))
    return commands


def said(folder: Path) -> str:
    result = CliRunner().invoke(demo, ["--out", str(folder / "my demo")])
    assert result.exit_code == 0, result.output
    return result.stdout


def printed(text: str) -> list[tuple[str, list[str]]]:
    """The count before each command, and its words as a shell reads them."""
    return [
        (count, shlex.split(command))
        for count, command in re.findall(r"^\[(.*)\] \$ emojigan (.*)$", text, re.M)
    ]


def test_each_command_is_counted_and_printed_as_it_can_be_typed(ran: list[list[str]], tmp_path: Path):
    lines = printed(said(tmp_path))
    assert [count for count, _ in lines] == [f"{number}/7" for number in range(1, 8)]
    assert [words for _, words in lines] == ran
    assert [words[0] for words in ran] == [
        *("world", "shards", "vectors", "train", "evaluate", "register", "predict")
    ]


def test_the_last_command_shows_distribution_readings_and_a_completion(ran: list[list[str]], tmp_path: Path):
    said(tmp_path)
    command, _, photo, *options = ran[-1]
    assert (command, Path(photo).name) == ("predict", "a.jpg")
    assert "--readings" in options and "--given" in options


def test_what_is_there_already_is_counted_and_not_made_again(ran: list[list[str]], tmp_path: Path):
    (tmp_path / "my demo" / "vectors.bin").touch()
    text = said(tmp_path)
    assert [count for count, _ in printed(text)] == [f"{number}/7" for number in range(1, 8)]
    assert "vectors.bin is there already" in text
    assert len(ran) == 6 and "vectors" not in [words[0] for words in ran]


def test_the_end_tells_how_long_it_took(ran: list[list[str]], tmp_path: Path):
    assert "Done in 0 s. The report: file://" in said(tmp_path)
