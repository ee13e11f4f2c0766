"""The options of the command line are a promise: a new one, or one that goes, is meant."""

from collections.abc import Iterator
from pathlib import Path

import click

from emojigan.launch.cli import main

FROZEN = Path(__file__).with_name("options.txt")


def options(command: click.Command, name: str) -> Iterator[str]:
    """A line for each argument and option of a command and its subcommands."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            assert found is not None
            yield from options(found, f"{name} {each}".strip())
        return
    for parameter in command.params:
        if not parameter.expose_value:  # --help, and the titles of groups of options
            continue
        if isinstance(parameter, click.Argument):
            yield f"{name} {parameter.make_metavar(context)}"
        else:
            yield f"{name} {'/'.join([*parameter.opts, *parameter.secondary_opts])}"


def test_the_options_are_those_that_were_agreed_upon():
    """Where this fails: mend the code, or, if the change is meant, options.txt, in the same commit."""
    assert sorted(options(main, "")) == FROZEN.read_text(encoding="utf-8").splitlines()
