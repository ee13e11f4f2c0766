"""What each check says of a fault, by facts as ranks tell them. With real ranks: launch/commands."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emojigan.trainer.config import Config
from emojigan.trainer.doctor.destinations import look_at_room
from emojigan.trainer.doctor.doctor import CHECKS
from emojigan.trainer.doctor.finding import Finding, Told, spans, verdict
from emojigan.trainer.doctor.meeting import TooLate, in_time
from emojigan.trainer.doctor.network import NCCL, between_nodes, rounds

GIB = 2**30
RANKS = {"promised": None, "size": 3, "came": {"0": ["a"], "1": ["a"], "2": ["b"]}}
JOINED = {
    "seconds": 0.1,
    "error": "",
    "address": "10.0.0.1",
    "variable": "GLOO_SOCKET_IFNAME",
    "interface": "",
}
SUMS = {"sums": [1.0, 2.0], "off": 0}
SPEED = {"small": 0.001, "large": 0.01, "pairs": {}}
DATASET = {"dataset": "d", "vectors": "v", "words": {"--seed": "0"}, "units": 100, "emojis": 5}
FOLDER = {"run": "runs/x", "places": {"0": "a:/x", "1": "b:/x"}, "unseen": [], "free": []}
DISK = {"run": "runs/x", "seconds": 0.1, "locks": True, "free": GIB}
ROOM = {"shm": GIB, "files": 4096, "cache": "/c", "room": GIB, "wanted": 0, "shards": 2 * GIB}
ON_GPU = {**ROOM, "gpu": 80 * GIB, "gpu_free": 79 * GIB}
STEPS = {"seconds": 0.1, "left_out": 0, "peak": GIB, "free": None}
STREAM = {"unit": "tuple", "reads": 900.0, "takes": 100.0, "kept": "", "once": 40.0, "patience": 300.0}
SLOW = {**STREAM, "takes": 4000.0}
KEPT = {**SLOW, "kept": "images kept on the GPU: 2.0 GiB"}


def gpu(uuid: str, name: str = "H100") -> dict[str, Any]:
    return {"gpu": uuid, "name": name}


NO_GPU: dict[str, Any] = {"gpu": None}
Case = tuple[str, list[dict[str, Any]], str, str]  # a check, what each rank tells, the state, words
CASES: list[Case] = [
    ("ranks", [RANKS, {}, {}], "fine", "ranks 0-1 on a; rank 2 on b"),
    ("ranks", [{**RANKS, "promised": 16}], "failure", "16 ranks were promised (--world-size) and 3 started"),
    ("ranks", [{**RANKS, "came": {"0": ["a"]}}], "failure", "of 3 ranks 1 came: ranks 1-2 did not"),
    ("ranks", [{**RANKS, "came": {"0": ["a"], "1": ["b", "c"]}}], "failure", "rank 1 on b and on c"),
    ("devices", [gpu("GPU-1"), gpu("GPU-2")], "fine", "2 × H100"),
    ("devices", [gpu("GPU-1"), gpu("GPU-1")], "failure", "ranks 0-1 share GPU-1."),
    ("devices", [gpu("GPU-1"), NO_GPU], "failure", "no GPU is there for rank 1"),
    ("devices", [gpu("GPU-1"), gpu("GPU-2", "A100")], "warning", "H100 on rank 0, A100 on rank 1"),
    ("joining", [JOINED, JOINED], "fine", "all joined in 0.1 s"),
    (
        "joining",
        [{**JOINED, "error": "no"}, {**JOINED, "address": "127.0.1.1"}],
        "failure",
        "b resolves to 127.0.1.1",
    ),
    ("joining", [{**JOINED, "error": "no"}, JOINED], "failure", "rank 0: no. See that a firewall"),
    (
        "joining",
        [{**JOINED, "error": "no", "address": "127.0.1.1", "variable": NCCL}, JOINED],
        "failure",
        "Set NCCL_SOCKET_IFNAME to the interface",
    ),
    ("sums", [SUMS, SUMS], "fine", "all-reduce gives 3"),
    ("sums", [SUMS, {**SUMS, "off": 7}], "failure", "7 of 4,194,304 sums are wrong on b"),
    (
        "sums",
        [{**SUMS, "sums": [1.0, 1.0]}] * 2,
        "failure",
        "gave 2 on a, not 3: what rank 1 added",
    ),
    ("network", [SPEED, SPEED], "fine", "gradients in 10.0 ms"),
    (
        "network",
        [{**SPEED, "pairs": {"1": 11.0, "2": 11.0}}, {**SPEED, "pairs": {"2": 0.4}}, SPEED],
        "warning",
        "between b (rank 1) and c (rank 2) 0.4 GB/s",
    ),
    ("network", [{**SPEED, "pairs": {"1": 0.01}}, SPEED], "warning", "and b (rank 1) 0.01 GB/s"),
    (
        "network",
        [{**SPEED, "large": 30.0}, {**SPEED, "pairs": {"0": 9.0}}],
        "warning",
        "nodes reach 9",
    ),
    ("network", [{**SPEED, "small": 0.2}, SPEED], "warning", "added up in 200.0 ms"),
    ("software", [{"torch": "2.13.0"}] * 2, "fine", "torch 2.13.0"),
    (
        "software",
        [{"torch": "2.13.0"}, {"torch": "2.12.1"}],
        "failure",
        "torch 2.13.0 on rank 0, 2.12.1 on rank 1",
    ),
    ("software", [{"driver": "550"}, {"driver": "570"}], "warning", "driver 550 on rank 0, 570 on rank 1"),
    ("code", [{"code": "abc"}] * 2, "fine", "abc"),
    (
        "code",
        [{"code": "abc"}, {"code": "xyz"}],
        "failure",
        "other code of EmojiGAN: abc on rank 0, xyz on rank 1",
    ),
    ("dataset", [DATASET] * 2, "fine", "100 to train on, 5 emojis"),
    (
        "dataset",
        [DATASET, {**DATASET, "dataset": "e"}],
        "failure",
        "another manifest: d on rank 0, e on rank 1",
    ),
    ("dataset", [DATASET, {**DATASET, "vectors": "w"}], "failure", "other vectors: v on rank 0, w on rank 1"),
    (
        "dataset",
        [DATASET, {**DATASET, "words": {"--seed": "1"}}],
        "failure",
        "not started alike: --seed 0 on rank 0, 1 on rank 1",
    ),
    ("folder", [FOLDER, {}], "fine", "runs/x is one folder for all"),
    ("folder", [{**FOLDER, "unseen": [1]}, {}], "failure", "in a:/x is not seen by rank 1 in b:/x"),
    ("folder", [{**FOLDER, "free": [1]}, {}], "warning", "locks in runs/x is free for rank 1 in b:/x: two"),
    ("disk", [DISK, {}], "fine", "locks hold"),
    ("disk", [{**DISK, "locks": False}, {}], "fine", "it has no locks"),
    ("disk", [{**DISK, "seconds": 9.0}, {}], "warning", "on its disk in 9 s: checkpoints are waited for"),
    ("disk", [{**DISK, "free": 2**20}, {}], "failure", "runs/x has 1 MiB free"),
    ("clocks", [{"ahead": 0.0}, {"ahead": 0.5}], "fine", "within 2 s"),
    ("clocks", [{"ahead": 0.0}, {"ahead": 7.0}], "warning", "b is 7.0 s ahead, beside a"),
    ("MLflow", [{"address": "MLflow at x", "new": True}, {}], "fine", "MLflow at x will be made"),
    ("room", [ROOM, ROOM], "fine", "4,096 files may be open"),
    ("room", [ROOM, {**ROOM, "files": 64}], "failure", "b allows 64 open files: ulimit -n"),
    ("room", [{**ROOM, "wanted": 50 * GIB}], "failure", "/c on a has room for 1.0 GiB of 2.0"),
    ("room", [ON_GPU, ON_GPU], "fine", "at least 79.0 GiB free on each GPU"),
    ("room", [{**ON_GPU, "gpu_free": 3 * GIB}], "warning", "GPU of rank 0 has 3.0 of 80.0 GiB free"),
    ("steps", [STEPS, {**STEPS, "free": 8 * GIB}], "fine", "takes 100 ms, and 1.0 GiB of 8.0 free"),
    ("steps", [STEPS, {**STEPS, "left_out": 1}], "failure", "not finite on rank 1"),
    ("stream", [STREAM, STREAM], "fine", "1,800 tuples/s are read, and the steps take 200"),
    (
        "stream",
        [STREAM, {**STREAM, "reads": 50.0}],
        "warning",
        "100 tuples/s are read, and the steps would take 200",
    ),
    ("stream", [STREAM, SLOW], "warning", "the steps would take 4,100; rank 0 on a"),
    (
        "stream",
        [KEPT, {**KEPT, "reads": 200.0, "once": 200.0}],
        "fine",
        "images kept on the GPU: 2.0 GiB, and read once, in about 3 min",
    ),
    ("stream", [KEPT, SLOW], "warning", "the steps would take 8,000"),
    (
        "stream",
        [KEPT, {**KEPT, "once": 7200.0}],
        "warning",
        "in about 2 h 0 min on rank 1 on b: longer than the others wait for it, 5 min. Raise --timeout, or",
    ),
]
HOSTS = "abc"
BY_NAME = {check.name: check for check in CHECKS}


def of_ranks(facts: list[dict[str, Any]]) -> list[Told]:
    return [Told(rank, HOSTS[rank], each) for rank, each in enumerate(facts)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[2]} {case[3]}")
def test_a_check_tells_what_is_so(case: Case):
    name, facts, state, words = case
    found = BY_NAME[name].judge(of_ranks(facts))
    assert found[0] == state and words in found[1], found


def test_ranks_of_one_node_without_shared_memory_are_warned():
    told = [Told(rank, "a", {**ON_GPU, "shm": 64 * 2**20}) for rank in (0, 1)]
    assert BY_NAME["room"].judge(told)[0] == "warning"


def test_each_check_has_a_fault_here_or_is_one_by_its_error():
    faults = {name for name, _, state, _ in CASES if state != "fine"}
    assert faults == BY_NAME.keys() - {"MLflow"}  # which raises what a server says


def test_there_are_fifteen_and_each_needs_one_before_it():
    assert len(CHECKS) == 15
    for number, check in enumerate(CHECKS):
        assert {*check.needs} <= {each.name for each in CHECKS[:number]}


@pytest.mark.parametrize("number", [2, 3, 4, 5, 8])
def test_all_pairs_of_nodes_meet_once_and_none_has_two_at_a_time(number: int):
    played = rounds(number)
    pairs = [frozenset(pair) for each in played for pair in each]
    assert len({*pairs}) == len(pairs) == number * (number - 1) // 2
    for each in played:
        assert len({place for pair in each for place in pair}) == 2 * len(each)


@pytest.mark.parametrize("nodes", [2, 3, 4])
def test_all_ranks_of_nodes_meet_one_of_another_node_at_the_same_place(nodes: int):
    pairs = between_nodes([host for host in "abcd"[:nodes] for _ in range(2)])
    assert all(one // 2 != other // 2 and one % 2 == other % 2 for one, other in pairs)
    assert {rank for pair in pairs for rank in pair} == {*range(2 * nodes)}
    assert len({*pairs}) == len(pairs)


def test_nodes_of_other_sizes_meet_and_one_alone_meets_none():
    assert {frozenset(pair) for pair in between_nodes("aab")} == {frozenset((0, 2))}
    assert not between_nodes("aa")


def test_numbers_that_follow_each_other_are_one_span():
    assert spans([0, 1, 2, 4, 8, 9]) == "0-2, 4, 8-9"


def test_what_does_not_end_is_not_waited_for():
    with pytest.raises(TooLate):
        in_time(lambda: time.sleep(30), 0.05)
    with pytest.raises(ZeroDivisionError):
        in_time(lambda: 1 / 0, 5)
    assert in_time(lambda: 3, 5) == 3


def test_a_finding_is_a_line_and_all_come_to_a_verdict():
    findings = [Finding("ranks", "fine", "one"), Finding("code", "failure", "two\n😂", 0.5)]
    assert findings[0].line() == "ok    ranks       one"
    assert json.loads(findings[1].json()) == {
        "check": "code",
        "state": "failure",
        "told": "two\n😂",
        "seconds": 0.5,
    }
    assert verdict(findings).startswith("1 of 2 checks failed")
    assert verdict([Finding("disk", "warning", "slow")]).endswith("1 of 1 checks warn.")


def test_a_cache_from_which_a_training_takes_files_meanwhile_is_measured(tmp_path: Path):
    (tmp_path / "there").write_bytes(b"12345")
    (tmp_path / "gone").symlink_to("nowhere")  # as one that went after it was listed
    config = Config.model_validate({"run": {"cache": str(tmp_path)}})
    train = SimpleNamespace(folder=SimpleNamespace(path=None), shards=[])
    known = (config, SimpleNamespace(train=train))
    facts = look_at_room(SimpleNamespace(known=lambda: known))  # pyright: ignore[reportArgumentType]
    assert facts["room"] > 5
