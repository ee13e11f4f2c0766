"""Arguments and options that several commands have."""

from pathlib import Path

import click

from ..datasets.store.folder import Folder, open_folder
from ..datasets.work.cores import usable_cores


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
