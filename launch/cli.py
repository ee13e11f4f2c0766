"""The command line: a table of commands, each imported when it is asked for.

`emojigan --help` must answer at once, and torch and mlflow take seconds to import; so this file knows the
commands by name, and they import what they need when they run.
"""

import atexit
import difflib
import gc
import importlib
import os

import click

from ..datasets.errors import InputError
from ..datasets.printable import printable
from ..trainer.runtime.signals import Ended, is_to_say, listening

# Before torch is imported: OpenMP's threads would wait for each other by spinning, which on cores that are
# shared with anything else makes a CPU training many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# An interpreter that ends looks for garbage in all that torch and others made, for two seconds. This is the
# last that is done before, and leaves nothing to look through.
atexit.register(gc.freeze)

COMMANDS = {
    "demo": "The whole path on a made-up world whose truth is known: posts to a registered model.",
    "world": "Make posts whose true p(emoji | image) is known.",
    "shards": "Build shards from posts or adopt tars, look at them, check them, and forget people.",
    "vectors": "Make emoji vectors, and look at what is in them.",
    "weights": "Look at what weights of samples would do.",
    "train": "Train, or go on training.",
    "doctor": "Look what stands in the way of a training, here or on all nodes.",
    "sweep": "Try options on the folds of a dataset, by many workers, and tell which are best.",
    "evaluate": "Score a run on held-out posts and write its report.",
    "runs": "List runs, and what they scored.",
    "compare": "Judge runs on the same held-out posts.",
    "register": "Put the model of a run into the MLflow registry.",
    "models": "List registered models, compare them, and say which version is the champion.",
    "export": "Write a model in a form in which it runs elsewhere: ONNX, safetensors, for a hub.",
    "predict": "Ask a model what people would react with.",
    "score": "Ask it about all images of shards, a folder or a Parquet, into Parquet.",
    "serve": "Answer what people would react with: a page, and an API.",
}


class UserError(click.ClickException):
    """An error that is the user's to mend: click prints the message alone, in one line.

    Names that stand in it may be anything; what a terminal would obey, or not print, is escaped.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class LazyGroup(click.Group):
    """Commands of the table above; each is the function of its name in the file of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(f".commands.{cmd_name}", __package__), cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest what was meant; click does so only for commands that are loaded already."""
        if args[0] not in COMMANDS and (close := difflib.get_close_matches(args[0], COMMANDS, 1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        if args[0] == "train" or args[:2] == ["sweep", "work"]:
            ctx.with_resource(listening())  # before what it imports, which takes seconds
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; of several ranks one says why it ends."""
        try:
            return self._invoke(ctx)
        except Ended as ended:
            if ended.message:
                click.echo(printable(ended.message), err=True)
            raise
        except click.ClickException as error:
            if is_to_say():
                raise
            raise SystemExit(error.exit_code) from error

    def _invoke(self, ctx: click.Context) -> object:
        """Run the command; what the disk or the network refuses is the user's to mend, in one line."""
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise UserError(str(error)) from error
        except BrokenPipeError:
            raise  # the reader went away, `| head`: click ends quietly
        except OSError as error:
            from ..datasets.store.trouble import explained

            raise UserError(explained(error, ctx.invoked_subcommand)) from error
        except Exception as error:
            if type(error).__module__ != "mlflow.exceptions":
                raise
            from ..trainer.tracking.server import cause, named, tracking_uri

            store = named(tracking_uri())
            raise UserError(f"{store} (MLFLOW_TRACKING_URI) {cause(error)}.") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="emojigan")
def main() -> None:
    """EmojiGAN learns p(emoji | image) from social-media posts.

    \b
    emojigan shards build posts.jsonl --out shards
    emojigan vectors build --out vectors.bin
    emojigan train shards --vectors vectors.bin --out runs/first
    emojigan evaluate runs/first
    emojigan register runs/first --name emojigan
    emojigan predict models:/emojigan@champion photo.jpg
    """
