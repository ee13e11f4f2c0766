"""`emojigan doctor` alone and on two ranks, with faults that are real; and it leaves nothing behind."""

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner, Result

from emojigan.datasets.errors import InputError
from emojigan.datasets.store.folder import StoreFolder
from emojigan.launch.cli import main
from emojigan.trainer.doctor import alike, meeting, steps
from emojigan.trainer.doctor.meeting import meet
from emojigan.trainer.tracking.server import mlflow_client

from ...conftest import TINY_NETWORKS
from ...stores import free_port
from ...trainer.tracking.faulty_server import mlflow_server

ROOT = Path(__file__).parents[3]
ALONE = {"joining", "sums", "network", "code", "clocks"}  # are about several ranks
QUICK = """
from emojigan.trainer.runtime import ranks
ranks.SEEN_WITHIN = 0.5
from emojigan.launch.cli import main
main()
"""


def found(output: str) -> dict[str, tuple[str, str]]:
    """State and sentence of each check."""
    lines = (json.loads(line) for line in output.splitlines())
    return {line["check"]: (line["state"], line["told"]) for line in lines}


@pytest.fixture
def words(shards: Path, vectors_file: Path) -> list[str]:
    options = ["--vectors", str(vectors_file), *TINY_NETWORKS, "--json"]
    return ["doctor", str(shards), *options]


@pytest.fixture
def invoke(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs it in this process, with some options."""
    monkeypatch.setattr(steps, "READ_FOR", 0.1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")  # as where nobody imported MLflow yet
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return lambda *more: CliRunner().invoke(main, [*words, *more])


def test_where_all_is_well_it_says_so_and_leaves_nothing_behind(
    invoke: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    client = mlflow_client()
    before = [*tmp_path.iterdir()]
    result = invoke("--out", str(tmp_path / "runs" / "first"))
    states = {check: state for check, (state, _) in found(result.stdout).items()}
    assert states == {check: "skipped" if check in ALONE else "fine" for check in states}, result.stdout
    assert len(states) == 15 and result.exit_code == 0
    assert [*tmp_path.iterdir()] == before
    assert "took a run" in found(result.stdout)["MLflow"][1] and not client.search_runs(["0"])


@pytest.fixture
def few_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_what_is_wrong_with_a_machine_is_told_with_what_to_do(
    invoke: Callable[..., Result], disk: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full disk, few files, no MLflow, and a learning rate at which nothing is finite."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    result = invoke("--out", str(disk / "run"), "--learning-rate", "1e30")
    told = found(result.stdout)
    assert result.exit_code == 1
    failed = {check: sentence for check, (state, sentence) in told.items() if state == "failure"}
    assert failed.keys() == {"disk", "MLflow", "room", "steps"}, told
    assert "MiB free. Free space there" in failed["disk"] and "cannot be reached" in failed["MLflow"]
    assert "allows 500 open files: ulimit -n" in failed["room"] and "--learning-rate" in failed["steps"]
    assert told["stream"][0] == "skipped" and not [*disk.iterdir()]


def test_what_a_training_refuses_before_its_first_step_is_told(
    invoke: Callable[..., Result], words: list[str], shards: Path, tmp_path: Path
):
    """Networks that are not there, a run that was begun otherwise, and a val split that is cut short."""
    run, cut = tmp_path / "run", shutil.copytree(shards, tmp_path / "cut")
    given = [word for word in words[1:] if word != "--json"]
    begun = CliRunner().invoke(main, ["train", *given, "--out", str(run), "--steps", "1"])
    assert begun.exit_code == 0, begun.output
    os.truncate(next((cut / "val").glob("*.tar")), 1000)
    for dataset, out, options, reason in (
        (shards, "other", ["--init-from", "nothing"], "neither a run with a checkpoint nor a snapshot"),
        (shards, "run", ["--dropout", "0.25"], "was made with another optimizer.dropout"),
        (cut, "other", [], "cut short"),
    ):
        words[1] = str(dataset)
        result = invoke("--out", str(tmp_path / out), *options)
        state, sentence = found(result.stdout)["dataset"]
        assert result.exit_code == 1 and state == "failure" and reason in sentence, result.output


@pytest.mark.soak
def test_a_server_that_knows_nobody_of_this_name_is_told(
    invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "secret")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "a long password")
    with mlflow_server(tmp_path, options=["--app-name", "basic-auth"]) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "nobody")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        told = found(invoke("--out", str(tmp_path / "run")).stdout)
    state, sentence = told["MLflow"]
    assert state == "failure" and "You are not authenticated" in sentence, told
    assert "the name and password for it" in sentence


@pytest.mark.soak
def test_a_store_that_is_slower_than_the_steps_is_warned_of(
    words: list[str], invoke: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    fsspec.filesystem("memory").put(words[1], f"/{tmp_path.name}/shards", recursive=True)
    words[1] = f"memory://{tmp_path.name}/shards"
    original = StoreFolder.download

    def download(self: StoreFolder, name: str, file: Path) -> None:
        time.sleep(1)
        original(self, name, file)

    monkeypatch.setattr(StoreFolder, "download", download)
    result = invoke("--out", str(tmp_path / "run"), "--cache", str(tmp_path / "cache"))
    state, sentence = found(result.stdout)["stream"]
    assert state == "warning" and "rank 0" in sentence and "is the slowest. More --helpers" in sentence
    assert result.exit_code == 0


@pytest.mark.soak
def test_a_training_finds_what_the_doctor_compiled(
    words: list[str], environment: dict[str, str], tmp_path: Path
):
    """All that torch keeps by the graph: of the networks, of the guards, forward and backward."""
    kept = tmp_path / "kept"

    def run(command: str, *options: str) -> set[Path]:
        given = [*words[1:], "--compile", "on", "--out", str(tmp_path / "run"), *options]
        subprocess.run(
            [sys.executable, "-c", QUICK, command, *given],
            env={**environment, "TORCHINDUCTOR_CACHE_DIR": str(kept)},
            check=True,
        )
        return {path for name in ("aotautograd", "fxgraph") for path in (kept / name).rglob("*")}

    compiled = run("doctor")
    words.remove("--json")
    assert compiled and run("train", "--steps", "1") == compiled


def by_two(
    words: list[str], places: list[Path], environments: list[dict[str, str]]
) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code of two ranks and what the first of them told, each begun in a place of its own."""
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", QUICK, *words, "--out", "run"],
            cwd=place,
            env={**environment, **meet, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank, (place, environment) in enumerate(zip(places, environments, strict=True))
    ]
    said = [process.communicate(timeout=300) for process in processes]
    code, same = (process.returncode for process in processes)
    assert same == code and said[1][0] == "", said
    return code, found(said[0][0])


@pytest.fixture
def mounted_twice(tmp_path: Path) -> Iterator[list[Path]]:
    """A folder on a disk whose locks hold on each node alone; as FUSE's do, wherever it is mounted."""
    bindfs, places = shutil.which("bindfs"), [tmp_path / "0", tmp_path / "1"]
    (tmp_path / "disk").mkdir()
    with ExitStack() as stack:
        for place in places:
            place.mkdir()
            if not bindfs or subprocess.run([bindfs, tmp_path / "disk", place]).returncode:
                pytest.skip("needs bindfs, and to be allowed to mount")
            stack.callback(subprocess.run, ["umount", place], check=True)
        yield places


def test_locks_that_hold_on_one_node_alone_are_told(
    words: list[str], mounted_twice: list[Path], environment: dict[str, str]
):
    code, told = by_two(words, mounted_twice, [environment] * 2)
    assert code == 0 and {each for each in told if told[each][0] == "warning"} <= {"folder", "stream"}, told
    state, sentence = told["folder"]
    assert state == "warning" and "what rank 0 locks in run is free for rank 1 in" in sentence
    assert not [*mounted_twice[0].iterdir()]


def test_what_two_ranks_do_not_share_is_told_once(
    words: list[str], vectors_file: Path, environment: dict[str, str], tmp_path: Path
):
    """Other code, other vectors, and another folder at --out on one of them."""
    copy = tmp_path / "copy" / "emojigan"
    for folder in ("asking", "datasets", "trainer", "launch"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with open(copy / "trainer" / "validation.py", "a") as file:
        file.write("# changed\n")
    places, content = [tmp_path / "0", tmp_path / "1"], vectors_file.read_bytes()
    for place, last in zip(places, (content[-1:], b"\1"), strict=True):
        place.mkdir()
        (place / "vectors.bin").write_bytes(content[:-1] + last)
    other_code = {"PYTHONPATH": str(tmp_path / "copy")}
    code, told = by_two([*words, "--vectors", "vectors.bin"], places, [environment, environment | other_code])
    assert code == 1, told
    failed = {check: sentence for check, (state, sentence) in told.items() if state == "failure"}
    assert failed.keys() == {"code", "dataset", "folder"}, told
    assert "other vectors" in failed["dataset"] and "is not seen by rank 1 in" in failed["folder"]
    assert told["sums"] == ("fine", "all-reduce gives 3 on all, 4,194,304 times")
    assert [path.name for path in tmp_path.glob("[01]/*")] == ["vectors.bin"] * 2


@pytest.fixture
def be(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Take this process for a rank of two, which wait for a second."""
    monkeypatch.setattr(meeting, "MEET_WITHIN", 1)
    monkeypatch.setattr(alike, "MEET_WITHIN", 1)
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": 2, "LOCAL_RANK": 0}
    for name, value in meet.items():
        monkeypatch.setenv(name, str(value))
    return lambda rank: monkeypatch.setenv("RANK", str(rank))


def test_a_rank_that_does_not_come_is_told_and_all_else_is_looked_at(
    be: Callable[[int], None], invoke: Callable[..., Result], tmp_path: Path
):
    be(0)
    told = found(invoke("--out", str(tmp_path / "run")).stdout)
    assert told["ranks"][0] == "failure" and "of 2 ranks 1 came: rank 1 did not" in told["ranks"][1]
    assert told["dataset"][0] == told["folder"][0] == "fine"
    assert told["sums"] == ("skipped", "not looked at: ranks comes first")


def test_two_processes_that_take_themselves_for_one_rank_are_told(be: Callable[[int], None]):
    be(0)
    first = meet()
    be(1)
    second = meet()
    with pytest.raises(InputError, match="rank 1 is there twice: on"):
        meet()
    assert [len(hosts) for hosts in first.came(5).values()] == [1, 2]
    assert second.hear("came/0/1", 1) == first.host


def test_a_first_rank_that_cannot_be_reached_is_told(be: Callable[[int], None]):
    be(1)
    with pytest.raises(InputError, match=r"^127\.0\.0\.1:\d+, where the first rank is, cannot be reached"):
        meet()
