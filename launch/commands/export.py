"""`emojigan export`."""

from pathlib import Path

import click

from ...datasets.printable import printable


@click.command()
@click.argument("model")
@click.option(
    "--to",
    type=click.Choice(["onnx", "safetensors", "hub-folder"]),
    required=True,
    help="A folder that is asked without torch, a file for a loader of one's own, or the folder that "
    "Hugging Face's hub takes.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The folder, or the file of safetensors; nothing may be there yet.",
)
def export(model: str, to: str, out: Path) -> None:
    """Write MODEL in a form in which it runs elsewhere.

    MODEL is the folder of a run or of a snapshot, or an address of MLflow. What is written as a folder can
    be given wherever a model is asked for. A graph of ONNX is put there only if what ONNX Runtime says is
    what torch says. No network is needed.

    \b
    emojigan export models:/emojigan@champion --to onnx --out emojigan-onnx
    emojigan predict emojigan-onnx photo.jpg
    """
    from ...datasets.errors import InputError
    from ...trainer.export.forms import FORMS, Source
    from ...trainer.model.snapshot import Snapshot
    from ...trainer.serving.load import finding, open_snapshot

    if out.exists():
        raise InputError(f"{out} is there already: remove it, or give another --out.")
    with finding(model) as found:
        snapshot = open_snapshot(found, "cpu")
        if not isinstance(snapshot, Snapshot):
            raise InputError(f"{found.name} is exported already: give the model that it was exported from.")
        if found.mark:
            click.echo(printable(f"Warning: {found.name} {found.mark.warning}."), err=True)
        told = FORMS[to](Source(snapshot, found.mark, found.scores, found.card), out)
    click.echo(printable(f"{out}: {told}"))
