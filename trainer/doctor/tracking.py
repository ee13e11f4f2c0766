"""Whether MLflow takes a run: a process of its own tries it, so that nobody waits while it imports MLflow.

trying ─► a process that imports MLflow ─► a line on its stdin: now ─► a run, begun and deleted ─► JSON

Nothing of torch is imported here: the process is started before that is, which takes seconds, too.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...datasets.errors import InputError
from ..runtime.signals import is_first_rank
from ..tracking.delivery import beside
from ..tracking.mlflow_run import EXPERIMENT
from ..tracking.server import cause, database, import_ahead, mlflow_client, named, tracking_uri
from .finding import State, Told

if TYPE_CHECKING:
    from .examined import Examined

ANSWER_WITHIN = 5  # seconds, to a call
LATEST = 25  # seconds for all of it
OURS = "doctor"  # the run, for a moment


@contextmanager
def trying() -> Iterator["subprocess.Popen[str] | None"]:
    """The process, on the first rank; it ends with the block. None where a database is still to be made."""
    path = database()
    if not is_first_rank() or (path and not path.exists()):
        yield None
        return
    with beside(__name__) as process:
        try:
            yield process
        finally:
            process.kill()


def main() -> None:
    """What the process does; where the doctor ends before its turn comes, nothing."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what MLflow prints must not come between
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ANSWER_WITHIN))
        import_ahead()
        if sys.stdin.readline():
            signal.alarm(LATEST)  # also where the doctor is no more
            answers.write(json.dumps(_tried()))


def _tried() -> dict[str, float | str]:
    """Begin a run, tell it a number, and delete it: how many seconds that took, or what went wrong."""
    began = time.perf_counter()
    try:
        client = mlflow_client()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        experiment = client.get_experiment_by_name(name)  # if it is not there, it is not made, either
        found = client.create_run(experiment.experiment_id if experiment else "0", run_name=OURS)
        try:
            client.log_metric(found.info.run_id, OURS, 1.0)
        finally:
            client.delete_run(found.info.run_id)
    except Exception as error:  # of any kind, where it is a database
        return {"error": cause(error)}
    return {"seconds": time.perf_counter() - began}


def look_at_tracking(examined: "Examined") -> dict:
    """The first rank has it tried."""
    if not examined.meeting.main:
        return {}
    address, process = named(tracking_uri()), examined.mlflow
    if process is None:
        path = database()
        assert path
        if not os.access(place := path.absolute().parent, os.W_OK):
            raise InputError(f"{address}: {place} cannot be written to. Set MLFLOW_TRACKING_URI.")
        return {"address": address, "new": True}
    try:
        said, _ = process.communicate("now\n", LATEST)
        ended = {"error": f"cannot be asked: the process for it ended ({process.poll()})"}
        answer = json.loads(said) if said else ended
    except subprocess.TimeoutExpired:
        answer = {"error": "does not answer"}
    if trouble := answer.get("error"):
        raise InputError(
            f"{address} {trouble}. See MLFLOW_TRACKING_URI and the name and password for it; a training "
            "goes on without it, and tells it later."
        )
    return {"address": address, "new": False, **answer}


def judge_tracking(told: Sequence[Told]) -> tuple[State, str]:
    facts = told[0].facts
    if facts["new"]:
        return "fine", f"{facts['address']} will be made"
    return "fine", f"{facts['address']} took a run in {facts['seconds']:.1f} s"
