"""The type of arguments that name a dataset: a folder, or the URL of one on a store."""

import click

from ..datasets.storage import Folder


class FolderType(click.ParamType):
    """`shards`, `s3://bucket/shards`."""

    name = "folder"

    def convert(
        self, value: str | Folder, param: click.Parameter | None, ctx: click.Context | None
    ) -> Folder:
        return value if isinstance(value, Folder) else Folder(value)


FOLDER = FolderType()
