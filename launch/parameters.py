"""Arguments and options that several commands have."""

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
