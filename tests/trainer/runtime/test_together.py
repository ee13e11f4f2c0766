"""What ends one rank ends all, and one says why. Real processes, gloo, no launcher."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TIMEOUT = 0.05  # minutes
# It trains nothing: each step is a collective. Told to, a rank raises an error before the first.
WORKER = """
import sys
from emojigan.launch.cli import main
from emojigan.launch.commands import train

def work(refuses):
    import time, torch
    from emojigan.datasets.errors import InputError
    from emojigan.trainer.config import Config
    from emojigan.trainer.runtime import ranks, together
    together.BEAT, ranks.LONGER = 0.3, 10
    config = Config.model_validate({"run": {"timeout": float(sys.argv[2])}})
    accelerator = ranks.start(config)
    accelerator.wait_for_everyone()
    with together.together(accelerator, config.run.timeout) as stepped:
        if str(accelerator.process_index) in refuses:
            raise InputError("This cannot work. Do that.")
        for step in range(10**6):
            accelerator.gather(torch.ones(1))
            stepped()
            if step == 3:
                open(f"{sys.argv[1]}/trains-{accelerator.process_index}", "w").close()
            time.sleep(0.01)

train.train.callback = lambda **_: work(sys.argv[3:])
main(["train", sys.argv[1], "--vectors", "none", "--out", "none"])
"""


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., list[subprocess.Popen[str]]]:
    """Start two ranks; those whose numbers are given refuse to train."""

    def ranks(*refuse: int) -> list[subprocess.Popen[str]]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        together = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        return [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(tmp_path), str(TIMEOUT), *map(str, refuse)],
                env={**os.environ, **together, "RANK": rank, "LOCAL_RANK": rank},
                text=True,
                stderr=subprocess.PIPE,
            )
            for rank in ("0", "1")
        ]

    return ranks


def wait_until_they_train(ranks: list[subprocess.Popen[str]], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob("trains-*"))) < 2:
        assert time.monotonic() < deadline and not any(rank.poll() for rank in ranks)
        time.sleep(0.01)


@pytest.mark.parametrize(
    "refuse", [(0, 1), *(pytest.param(each, marks=pytest.mark.soak) for each in ((0,), (1,)))]
)
def test_what_a_rank_refuses_all_refuse_and_one_says_so(begin, refuse: tuple[int, ...]):
    ranks = begin(*refuse)
    said = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert said[refuse[0]] == "Error: This cannot work. Do that.\n"
    assert said[1 - refuse[0]] == ""


@pytest.mark.parametrize("frozen", [1, pytest.param(0, marks=pytest.mark.soak)])
def test_a_frozen_rank_ends_the_others_which_show_their_threads_and_say_who_it_is(
    begin, tmp_path: Path, frozen: int
):
    ranks = begin()
    wait_until_they_train(ranks, tmp_path)
    ranks[frozen].send_signal(signal.SIGSTOP)
    try:
        _, said = ranks[1 - frozen].communicate(timeout=300)
    finally:
        ranks[frozen].kill()
        ranks[frozen].communicate()
    assert ranks[1 - frozen].returncode == 1
    shown, last = said.removesuffix("\n").rsplit("\n", 1)
    store = frozen == 0  # was in the frozen one, where no launcher has it
    missing = "The other ranks cannot be reached from" if store else "Rank 1 gives no sign of life: "
    assert last.startswith(f"No step for 3 s (--timeout). {missing}")
    assert shown.startswith(f"rank {1 - frozen}, process {ranks[1 - frozen].pid} on ")
    assert "in all_gather" in shown  # where it waited


@pytest.mark.soak
@pytest.mark.parametrize("killed", [0, 1])
def test_when_a_rank_was_killed_the_other_says_so_in_one_line(begin, tmp_path: Path, killed: int):
    ranks = begin()
    wait_until_they_train(ranks, tmp_path)
    ranks[killed].kill()
    said = [rank.communicate(timeout=300)[1] for rank in ranks]
    assert ranks[1 - killed].returncode == 1
    last = said[1 - killed].splitlines()[-1]
    if killed:
        assert last.startswith("Rank 1 gives no sign of life: ")
    else:  # which had the store
        assert last.startswith("The other ranks cannot be reached")
