"""What `--help` says is whole, and tells a newcomer what happens when nothing is given."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from emojigan.launch.cli import COMMANDS, main

IN_MID_SENTENCE = ("Of ", "At ", "As ", "How;")  # as helps began once


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words."""
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {each}", sub) for each, sub in command.commands.items())
        elif command:
            yield name, command


EVERY = dict(commands())


@pytest.mark.parametrize("words", EVERY)
def test_every_option_has_a_help_of_whole_phrases(words: str):
    options = [each for each in EVERY[words].params if isinstance(each, click.Option) and each.expose_value]
    for option in options:
        assert option.help and not option.help.startswith(IN_MID_SENTENCE), option.name


def test_the_help_of_shards_build_names_every_kind_of_source():
    text = " ".join(CliRunner().invoke(main, ["shards", "build", "--help"]).stdout.split())
    for kind in ("CSV", "TSV", "JSONL", "Parquet", "WebDataset", "Instaloader", "Mastodon", "Telegram"):
        assert kind in text
