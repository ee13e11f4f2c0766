"""The same bytes whoever does the work, and however often he is killed at it."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from emojigan.datasets.build import dataset as builder
from emojigan.datasets.build import survey
from emojigan.datasets.build.dataset import Task, build_shards
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.parts import Part
from emojigan.datasets.build.survey import Source
from emojigan.datasets.errors import InputError
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.work.processes import IN_FLIGHT, mapper

OPTIONS = BuildOptions(images_per_shard=50)
BUILD = """
from emojigan.datasets.build import survey
from emojigan.launch.cli import main
survey.CHUNK = 16
main()
"""


def content(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def command(posts_folder: Path, out: Path | str, *options: str) -> list[str]:
    """What builds the dataset of the fixture `shards`, in small chunks."""
    words = ["shards", "build", str(posts_folder / "posts.jsonl"), "--out", str(out)]
    return [sys.executable, "-c", BUILD, *words, "--images-per-shard", "50", "--max-bad", "0", *options]


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_two_workers_write_the_bytes_of_one(posts_folder, shards, tmp_path, engine):
    options = ("--workers", "2", "--engine", engine)
    result = subprocess.run(command(posts_folder, tmp_path / "out", *options), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert content(tmp_path / "out") == content(shards)


@pytest.fixture
def array(posts_folder, tmp_path, monkeypatch):
    """Run one task of a job array of three."""
    monkeypatch.setattr(survey, "CHUNK", 16)
    source, folder = Source([posts_folder / "posts.jsonl"]), LocalFolder(tmp_path / "out")
    return lambda index: build_shards(source, folder, OPTIONS, max_bad=0, workers=1, task=Task(index, 3))


def test_tasks_of_a_job_array_write_the_bytes_of_one_process(array, shards, tmp_path, capsys):
    assert array(2) is None and array(0) is None
    assert "Of 19 chunks of posts 6 are still to come" in capsys.readouterr().err
    assert array(1) is not None
    assert content(tmp_path / "out") == content(shards)
    assert array(0) is not None  # comes late, and finds all done


def test_tasks_that_end_together_leave_one_whole_dataset(posts_folder, shards, tmp_path):
    words = command(posts_folder, tmp_path / "out", "--workers", "1", "--task-count", "3", "--task-index")
    tasks = [subprocess.Popen([*words, str(n)], stderr=subprocess.PIPE, text=True) for n in range(3)]
    told = [task.communicate(timeout=120)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0, 0], told
    assert content(tmp_path / "out") == content(shards)


def test_job_array_of_other_options_is_refused_and_that_of_the_same_goes_on(
    array, tmp_path, posts_folder, monkeypatch
):
    array(0)
    source, folder = Source([posts_folder / "posts.jsonl"]), LocalFolder(tmp_path / "out")
    other = replace(OPTIONS, min_count=2)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(builder, "_digest_all", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        build_shards(source, folder, OPTIONS, max_bad=0, workers=1)  # beside the array; and is killed
    for task in (Task(1, 3), Task()):
        with pytest.raises(
            InputError, match="was begun from other posts or options, and tasks of a job array"
        ):
            build_shards(source, folder, other, max_bad=0, workers=1, task=task)
    assert build_shards(source, folder, OPTIONS, max_bad=0, workers=1) is not None


def test_second_build_is_refused_in_one_line_and_the_first_is_whole(posts_folder, shards, tmp_path):
    words = command(posts_folder, tmp_path / "out", "--workers", "1")
    with subprocess.Popen(words) as first:
        while not (tmp_path / "out" / ".build").exists():
            assert first.poll() is None
        os.kill(first.pid, signal.SIGSTOP)
        for more in ([], ["--encoding", "jpg"]):
            second = subprocess.run([*words, *more], stderr=subprocess.PIPE, text=True)
            told = f"Error: {tmp_path}/out is being written by `shards build`, process {first.pid} on "
            assert second.returncode == 2 and second.stderr.splitlines()[-1].startswith(told)
        os.kill(first.pid, signal.SIGCONT)
    assert first.returncode == 0
    assert content(tmp_path / "out") == content(shards)


def test_source_that_changes_while_it_is_read_is_told(array, posts_folder, tmp_path, monkeypatch):
    survey_posts = survey.survey_posts

    def shorter(*arguments):
        found = survey_posts(*arguments)
        monkeypatch.setattr(survey, "read_posts", lambda *_: iter(()))
        return found

    monkeypatch.setattr(builder, "survey_posts", shorter)
    source = Source([posts_folder / "posts.jsonl"])
    with pytest.raises(InputError, match="changed while they were read"):
        build_shards(source, LocalFolder(tmp_path / "out"), OPTIONS, max_bad=0, workers=1)


def kill_and_finish(posts_folder: Path, shards: Path, out: Path, kills: int, longest: float) -> None:
    """Kill a build again and again, look at what is there each time, and let it finish at last."""
    whole, quiet = content(shards), subprocess.DEVNULL
    words = command(posts_folder, out, "--workers", "2")
    for _ in range(kills):
        before = names(out)
        with subprocess.Popen(words, stdout=quiet, stderr=quiet) as process:
            while process.poll() is None and names(out) == before:
                time.sleep(0.001)
            time.sleep(random.uniform(0, longest))
            process.kill()
        time.sleep(0.3)  # its workers follow it
        assert_only_whole_files(out, whole)
        if (out / "manifest.json").exists():
            assert set(whole) <= set(content(out))
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
    subprocess.run(words, check=True, capture_output=True)
    assert content(out) == whole


def assert_only_whole_files(out: Path, whole: dict[str, str]) -> None:
    for name, digest in content(out).items():
        path = out / name
        if path.name.startswith("."):
            continue
        if not name.startswith(".build/"):
            assert digest == whole[name]
        elif path.suffix == ".part" and not (out / "manifest.json").exists():  # else they are being removed
            part = Part.from_bytes(path.read_bytes())
            assert path.with_suffix(".members").stat().st_size == part.offset[-1]


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_killed_build_goes_on_to_the_same_bytes(posts_folder, shards, tmp_path):
    kill_and_finish(posts_folder, shards, tmp_path / "out", kills=3, longest=0.2)


@pytest.mark.soak
def test_build_killed_fifty_times_goes_on_to_the_same_bytes(posts_folder, shards, tmp_path):
    kill_and_finish(posts_folder, shards, tmp_path / "out", kills=50, longest=0.4)


def test_workers_of_a_killed_build_end(tmp_path):
    script = """
import os, time
from emojigan.datasets.work.processes import worker_pool
if __name__ == "__main__":
    pool = worker_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""
    (tmp_path / "script.py").write_text(script)
    words, quiet = [sys.executable, tmp_path / "script.py"], subprocess.DEVNULL
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=quiet) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 10
    while is_running(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order_and_no_more_items_are_taken_than_have_room(workers):
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield -number

    with mapper("local", workers) as run:
        for number, result in enumerate(run(abs, items())):
            assert result == number
            assert len(taken) <= number + IN_FLIGHT * workers
    assert len(taken) == 50


def test_error_of_a_worker_is_the_error(capfd):
    with mapper("local", 2) as run, pytest.raises(ValueError, match="invalid literal"):
        list(run(int, ["1", "x"]))


def test_worker_that_is_killed_is_told_with_what_to_do():
    with mapper("local", 2) as run, pytest.raises(InputError, match="fewer --workers: it goes on"):
        list(run(os._exit, [1]))


def test_worker_computes_in_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with mapper("local", 2) as run:
        assert list(run(os.getenv, ["OMP_NUM_THREADS"])) == ["1"]


def test_ray_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[ray\]'"), mapper("ray", 1):
        pass


@pytest.mark.soak
def test_error_of_a_ray_task_is_the_error(tmp_path):
    script = """
from emojigan.datasets.work.processes import mapper
with mapper("ray", 1) as run:
    assert list(run(abs, [-1, 2, -3])) == [1, 2, 3]
    try:
        list(run(int, ["1", "x"]))
    except ValueError as error:
        assert type(error) is ValueError
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == "invalid literal for int() with base 10: 'x'\n", result.stderr
