"""MLflow's server, or a database in its place: a client with bounded patience, and what goes wrong."""

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...datasets.printable import printable

if TYPE_CHECKING:
    from mlflow import MlflowClient

ANSWER_WITHIN = 30  # seconds; it is counted anew for each try
RETRIES = 2  # of a call that was refused for now; MLflow's own 7 block for four minutes
LOCKED = 30.0  # seconds, for which a new database may be made by another process
TOLD = 300  # characters of what a server says: it may be a page


def mlflow_client() -> "MlflowClient":
    """A client of MLFLOW_TRACKING_URI; by default the file mlflow.db in the current folder.

    Raises:
        Exception: of any kind, where a database cannot be opened. A server is not asked yet.
    """
    import_mlflow()
    import mlflow

    if (path := database()) and not path.exists():
        _make_database(path)
    return mlflow.MlflowClient()


def import_mlflow(retries: int = RETRIES) -> None:
    """Import MLflow, which takes seconds, and tell it how it shall be, where the user did not."""
    os.environ.setdefault("MLFLOW_TRACKING_URI", tracking_uri())
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a password is in it, too
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ANSWER_WITHIN))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(retries))
    import mlflow

    # Else every table of a new database is logged, and what cannot be done with one, with a traceback.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    mlflow.set_tracking_uri(tracking_uri())


def import_ahead() -> None:
    """Import all that a client needs, in a process that tries again by itself what fails.

    A database that is not there is not made.
    """
    import_mlflow(retries=0)
    if not (path := database()) or path.exists():
        with suppress(Exception):  # it comes again
            mlflow_client()  # a database is opened by more that is to be imported


def every(search: Callable[..., Any], **what: Any) -> Iterator[Any]:
    """Everything that a search of MLflow finds, page by page."""
    token = None
    while True:
        page = search(**what, page_token=token)
        yield from page
        if not (token := page.token):
            return


def tracking_uri() -> str:
    """Where runs go."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def database() -> Path | None:
    """The file that runs go to; None where it is a server."""
    address = tracking_uri()
    if not address.startswith("sqlite:///"):
        return None
    name = address.removeprefix("sqlite:///").partition("?")[0]
    return Path(name) if name and not name.startswith((":memory:", "file:")) else None


def _make_database(path: Path) -> None:
    """Make a database whole or not at all, by one process: two would be in each other's way in MLflow."""
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        if path.exists():
            return
        new = path.with_name(f".{path.name}.new")  # of one that was killed, maybe
        new.unlink(missing_ok=True)
        SqlAlchemyStore(f"sqlite:///{new}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
        os.replace(new, path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Have the lock of a folder for a while; where its disk has none, or another process hangs, go on."""
    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + LOCKED
    try:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
                continue
            except OSError:
                pass
            break
        yield
    finally:
        os.close(descriptor)


def named(address: str) -> str:
    """How a server is called in messages."""
    return f"MLflow at {address}"


def cause(error: BaseException) -> str:
    """What a server or a database did wrong, in a line without an end: "it does not answer"."""
    from requests.exceptions import ConnectionError, Timeout

    seen: BaseException | None = error
    while seen:
        if isinstance(seen, Timeout) or "timed out" in str(seen):
            return "does not answer"
        if isinstance(seen, ConnectionError):
            return "cannot be reached"
        seen = seen.__cause__ or seen.__context__
    text = " ".join(str(error).partition("[SQL:")[0].split()) or type(error).__name__
    text = printable(text)  # before it is cut: half a password would not be known for one
    return f"says: {text[:TOLD].rstrip('.')}{'…' if len(text) > TOLD else ''}"
