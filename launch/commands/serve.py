"""`emojigan serve`."""

import os
from pathlib import Path

import click

from ...datasets.printable import printable

TOKEN = "EMOJIGAN_TOKEN"
PATIENCE = 20.0  # seconds, in which a body has to come
MOST_EXAMPLES = 24
HERE = ("127.0.0.1", "localhost", "::1")


@click.command(context_settings={"show_default": True})
@click.argument("model")
@click.option("--host", default="127.0.0.1", help="Address to listen at; 0.0.0.0 for other machines, too.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8000, help="Port to listen at; 0 for any that is free."
)
@click.option(
    "--max-body", type=click.IntRange(min=1), default=10_000_000, help="Bytes that are read of a request."
)
@click.option(
    "--queue",
    type=click.IntRange(min=0),
    default=64,
    help="Requests that may wait beside those that are worked on; one more is answered with 503.",
)
@click.option(
    "--reload-seconds",
    type=click.FloatRange(min=0.1),
    default=15.0,
    help="How often to look whether MODEL names another model by now, which is then served.",
)
@click.option(
    "--examples",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=f"Folder of photos that the page offers to try, at most {MOST_EXAMPLES}: whoever sees it sees them.",
)
@click.option(
    "--cors",
    multiple=True,
    metavar="ORIGIN",
    help="Let pages of this origin ask, such as https://example.org; may be repeated.",
)
def serve(
    model: str,
    host: str,
    port: int,
    max_body: int,
    queue: int,
    reload_seconds: float,
    examples: Path | None,
    cors: tuple[str, ...],
) -> None:
    """Answer with MODEL what people would react with: a page for people, and an API for programs.

    MODEL is the folder of a run or of a snapshot, or an address of MLflow. When it names another model, as an
    alias does that was moved, that one is loaded and tried, and takes the place of the old one; if it cannot
    be, the old one answers on.

    Photos are neither stored nor logged. With EMOJIGAN_TOKEN in the environment, who asks has to know it.

    \b
    emojigan serve models:/emojigan@champion
    curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/v1/ask?top_k=5
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as many questions at once as there are cores
    from ...datasets.errors import InputError

    try:
        from ...trainer.serving.server.app import application
        from ...trainer.serving.server.limits import Limits
        from ...trainer.serving.server.live import Live
        from ...trainer.serving.server.run import listening, run
    except ImportError as error:
        raise InputError(f"{error.name} is missing: pip install 'emojigan[serve]'.") from error

    def tell(line: str) -> None:
        click.echo(printable(line), err=True)

    token = os.environ.get(TOKEN) or None
    with listening(host, port) as (at, address):
        live = Live(model, tell)
        limits = Limits(max_body, queue, PATIENCE, token)
        app = application(live, limits, _photos(examples), cors)
        if host not in HERE and not token:
            tell(f"Warning: other machines may ask at {host} without a token. Set {TOKEN} to ask for one.")
        if live.served.warning:
            tell(f"Warning: {live.served.warning}")
        click.echo(printable(f"{address} asks {live.served.name} (digest {live.served.digest[:12]})"))
        live.follow(reload_seconds)
        run(app, at)


def _photos(folder: Path | None) -> list[Path]:
    from ...datasets.images.find import find_photos

    return [*find_photos([str(folder)])][:MOST_EXAMPLES] if folder else []
