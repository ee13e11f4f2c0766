"""Arguments and options that several commands have."""

from pathlib import Path

import click

from ..datasets.errors import InputError
from ..datasets.printable import printable
from ..datasets.store.folder import Folder, open_folder
from ..datasets.work.cores import usable_cores
from ..trainer.runtime.signals import is_first_rank


class FolderType(click.ParamType):
    """A dataset by its folder, or the URL of one on a store: `shards`, `s3://bucket/shards`."""

    name = "folder"

    def convert(
        self, value: str | Folder, param: click.Parameter | None, ctx: click.Context | None
    ) -> Folder:
        return open_folder(value) if isinstance(value, str) else value


FOLDER = FolderType()

workers_option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=usable_cores,
    show_default="usable cores",
    help="How many processes work; the result is the same for any number.",
)


def emojis_of(path: Path, what: str, *, keep_variants: bool) -> tuple[str, ...]:
    """The emojis of a deny list, where its accounts and words have no effect; that is told.

    Raises:
        InputError: it has none.
    """
    from ..datasets.build.deny import read_deny_list

    listed = read_deny_list(path, keep_variants=keep_variants)
    if not listed.emojis:
        raise InputError(
            f"{path} has no emoji, and nothing else has an effect on {what}. Accounts and words are left "
            "out by `emojigan shards build --deny`."
        )
    if (listed.accounts or listed.words) and is_first_rank():
        told = f"{len(listed.accounts)} accounts and {len(listed.words)} words of {path} have no effect on "
        click.echo(printable(f"{told}{what}; `emojigan shards build --deny` leaves them out."), err=True)
    return listed.emojis


truth_option = click.option(
    "--truth",
    type=click.Path(path_type=Path),
    help="The truth.json that `emojigan world make` wrote, to compare with.",
)
shards_option = click.option(
    "--shards", type=FOLDER, help="Where the shards lie, if they were moved since the training."
)
vectors_option = click.option(
    "--vectors",
    type=click.Path(path_type=Path),
    help="Where the file of vectors lies, if it was moved since the training.",
)
