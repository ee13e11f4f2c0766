"""The command line answers at once and lists what is there."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from emojigan.launch.cli import COMMANDS, main

HEAVY = ("torch", "mlflow", "pydantic", "numpy", "accelerate", "gensim", "pandas", "sklearn", "matplotlib")
LOADED = """
import json, sys
from emojigan.launch.cli import main
main(sys.argv[1:], standalone_mode=False)
print(json.dumps(sorted(sys.modules)))
"""


def loaded_by(*words: str) -> set[str]:
    """The modules that a command imports."""
    done = subprocess.run([sys.executable, "-c", LOADED, *words], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_help_imports_nothing_heavy():
    modules = loaded_by("--help")
    assert "emojigan.launch.cli" in modules
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_does_not_wait_for_torch_or_mlflow(command: str):
    assert loaded_by(command, "--help").isdisjoint({"torch", "mlflow", "accelerate", "gensim"})


@pytest.mark.parametrize("command", ["stats", "verify"])
def test_looking_at_a_dataset_does_not_wait_for_torch(command: str, shards: Path):
    program = (
        "import json, sys\nfrom emojigan.launch.cli import main\n"
        "try: main(sys.argv[1:], standalone_mode=False)\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    words = [sys.executable, "-c", program, "shards", command, str(shards)]
    words += ["--workers", "1"] if command == "verify" else []
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stdout.splitlines()[-1]))
    assert modules.isdisjoint({"torch", "mlflow", "scipy", "pyarrow", "pandas", "sklearn"})


def test_the_help_lists_every_command_with_its_line():
    text = CliRunner().invoke(main, ["--help"], terminal_width=110).stdout
    listed = text.split("Commands:\n")[1].splitlines()
    assert [tuple(line.split(maxsplit=1)) for line in listed] == list(COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_listed_command_is_there_and_has_help(name: str):
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.name == name
    assert command.help and command.help[0].isupper() and command.help.split("\n")[0].endswith((".", ","))


def test_an_unknown_command_exits_with_2():
    result = CliRunner().invoke(main, ["dance"])
    assert result.exit_code == 2
    assert "No such command 'dance'." in result.stderr and "Did you mean" not in result.stderr


@pytest.mark.parametrize(
    ("words", "meant"), [("trian", "train"), ("shards biuld", "build"), ("vectors reprot", "report")]
)
def test_a_mistyped_command_is_told_what_was_meant(words: str, meant: str):
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: No such command '{words.split()[-1]}'. Did you mean '{meant}'?\n")


def test_a_reader_that_goes_away_is_no_error(shards: Path):
    """`emojigan shards stats shards | head -0`"""
    program = [sys.executable, "-c", "from emojigan.launch.cli import main; main()"]
    process = subprocess.Popen(
        [*program, "shards", "stats", str(shards)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    with process:
        assert process.stderr.read() == b""


def test_the_version_is_that_of_the_distribution():
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.endswith(f"version {version('emojigan')}\n")


def test_bad_input_is_one_line_and_exits_with_2(tmp_path: Path):
    words = ["train", str(tmp_path / "none"), "--vectors", "v", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            PermissionError("Forbidden"),
            "train: Forbidden. Mend that, and run the same command again.",
        ),  # as s3fs raises it
        (TimeoutError(), "train: TimeoutError. Mend that, and run the same command again."),
        (
            OSError(5, "Input/output error", "/there"),
            "/there: Input/output error. Mend that, and run the same command again.",
        ),
        (
            OSError(30, "Read-only file system", "/there"),
            "/there: Read-only file system. Make it writable, or use another place (--out, --cache, or "
            "TMPDIR).",
        ),
    ],
)
def test_what_a_disk_or_a_store_refuses_is_told_whatever_the_error_says(monkeypatch, error, told):
    def refuse(**_: object) -> None:
        raise error

    train = main.get_command(click.Context(main), "train")
    monkeypatch.setattr(train, "callback", refuse)
    result = CliRunner().invoke(main, ["train", "shards", "--vectors", "v", "--out", "run"])
    assert (result.exit_code, result.stderr) == (2, f"Error: {told}\n")


def test_what_a_terminal_would_obey_is_escaped_in_a_message(tmp_path: Path):
    table = tmp_path / "a\nb\x1b[31m.csv"
    table.write_bytes(b"i\0d,im\rage,te\x1bxt,caf\xe9\n")
    result = CliRunner().invoke(main, ["shards", "build", str(table), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    _, _, line = result.stderr.partition("Error: ")
    assert "a\\nb\\x1b[31m.csv: no column image, text" in line
    assert not re.search("[\0-\x1f\x7f-\x9f]", line.removesuffix("\n"))
