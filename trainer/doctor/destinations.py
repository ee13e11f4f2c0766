"""Where a run goes: the folder --out, which all ranks share, and MLflow."""

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ...datasets.errors import InputError
from ...datasets.store.atomic import telling_where, write_atomic
from ...datasets.store.folder import LocalFolder
from ...datasets.store.lock import WRITERS, writing
from ..run import TOKEN
from ..runtime.ranks import comes_to_hold
from ..tracking.mlflow_run import EXPERIMENT
from ..tracking.server import cause, database, import_mlflow, mlflow_client, named, tracking_uri
from .examined import Examined
from .finding import State, Told, ranks
from .meeting import HEAR_WITHIN

FILE, FILES = 8 * 2**20, 3  # bytes of a file that is tried, and how many: a checkpoint's are larger
SLOW = 1.0  # seconds for one
LEAST = 256 * 2**20  # bytes that are free
ANSWER_WITHIN = 5  # seconds
OURS = "doctor"  # the run in MLflow, for a moment


@contextmanager
def _probing(run: Path) -> Iterator[Path]:
    """A folder in the run's, which goes afterwards with all that had to be made for it."""
    made = [path for path in (run, *run.parents) if not path.exists()]
    probe = run / f".{OURS}-{secrets.token_hex(4)}"
    try:
        with telling_where(run):
            probe.mkdir(parents=True)
        yield probe
    finally:
        shutil.rmtree(probe, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # a training came into it meanwhile
                path.rmdir()


def look_at_folder(examined: Examined) -> dict:
    """The first rank writes something, and all see whether they find it at the run's path."""
    meeting, run = examined.meeting, examined.run.absolute()

    def see(name: str, token: str) -> Told:
        seen = comes_to_hold(run / name / TOKEN, token)
        return Told(meeting.rank, meeting.host, {"seen": seen, "place": f"{meeting.host}:{run}"})

    if not meeting.main:
        name, token = meeting.hear("folder/written", HEAR_WITHIN)
        if name:
            meeting.gather("folder/seen", see(name, token), HEAR_WITHIN)
        return {}
    token = secrets.token_hex()
    try:
        with _probing(run) as probe:
            write_atomic(probe / TOKEN, token)
            meeting.tell("folder/written", [probe.name, token])
            found = meeting.gather("folder/seen", see(probe.name, token), 2 * HEAR_WITHIN)
    except OSError:
        meeting.tell("folder/written", ["", ""])
        raise
    places = {str(each.rank): each.facts["place"] for each in found if each.facts}
    unseen = [each.rank for each in found if not each.facts.get("seen")]
    return {"run": str(examined.run), "places": places, "unseen": unseen}


def judge_folder(told: Sequence[Told]) -> tuple[State, str]:
    facts = told[0].facts
    if unseen := facts["unseen"]:
        where = ", ".join(sorted({facts["places"].get(str(rank), "no answer") for rank in unseen}))
        return "failure", (
            f"{facts['run']} is not one folder for all: what rank 0 writes in {facts['places']['0']} is not "
            f"seen by {ranks(unseen)} in {where}. Put --out where all nodes see it."
        )
    return "fine", f"{facts['run']} is one folder for all"


def look_at_disk(examined: Examined) -> dict:
    """The first rank writes as a checkpoint is written; it alone writes them."""
    if not examined.meeting.main:
        return {}
    content = secrets.token_bytes(FILE)
    with _probing(examined.run) as probe:
        free = shutil.disk_usage(probe).free
        times = []
        for number in range(FILES if free > FILES * FILE else 0):
            began = time.perf_counter()
            write_atomic(probe / str(number), content)
            times.append(time.perf_counter() - began)
        with writing(LocalFolder(probe / "locked"), f"emojigan {OURS}"):
            locks = not (probe / "locked" / WRITERS).exists()
    return {"run": str(examined.run), "seconds": max(times, default=0.0), "locks": locks, "free": free}


def judge_disk(told: Sequence[Told]) -> tuple[State, str]:
    facts = told[0].facts
    if facts["free"] < LEAST:
        return "failure", f"{facts['run']} has {facts['free'] / 2**20:,.0f} MiB free. Free space there."
    wrote = f"a file of {FILE // 2**20} MiB is on its disk in {facts['seconds']:.2g} s"
    if facts["seconds"] > SLOW:
        return "warning", f"{wrote}: checkpoints are waited for. Put --out elsewhere, or save less often."
    if not facts["locks"]:
        return "fine", f"{wrote}; it has no locks, and writers know of each other by signs of life"
    return "fine", f"{wrote}; locks hold"


def look_at_tracking(examined: Examined) -> dict:
    """The first rank begins a run, tells it a number, and deletes it."""
    if not examined.meeting.main:
        return {}
    address, path = named(tracking_uri()), database()
    if path and not path.exists():
        place = path.absolute().parent
        if not os.access(place, os.W_OK):
            raise InputError(f"{address}: {place} cannot be written to. Set MLFLOW_TRACKING_URI.")
        return {"address": address, "new": True}
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ANSWER_WITHIN))
    import_mlflow(retries=0)
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
        raise InputError(
            f"{address} {cause(error)}. See MLFLOW_TRACKING_URI and the name and password for it; a training "
            "goes on without it, and tells it later."
        ) from error
    return {"address": address, "new": False, "seconds": time.perf_counter() - began}


def judge_tracking(told: Sequence[Told]) -> tuple[State, str]:
    facts = told[0].facts
    if facts["new"]:
        return "fine", f"{facts['address']} will be made"
    return "fine", f"{facts['address']} took a run in {facts['seconds']:.1f} s"
