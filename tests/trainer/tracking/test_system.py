"""The machines of a training are looked at now and then, each once."""

import pytest
from accelerate import Accelerator

from emojigan.trainer.tracking.system import EVERY, System, names


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def system(clock: Clock) -> System:
    return System(Accelerator(cpu=True), clock)


def test_a_machine_is_looked_at_and_after_a_while_again(system: System, clock: Clock):
    seen = []
    for clock.now in (0, EVERY - 1, EVERY):
        seen.append(system.read()())
    assert seen[1] == {}
    assert (
        set(seen[0])
        == set(seen[2])
        == {
            "system/cpu_utilization_percentage",
            "system/system_memory_usage_percentage",
            "system/system_memory_usage_megabytes",
        }
    )
    assert 0 < seen[0]["system/system_memory_usage_percentage"] < 100


def test_a_name_tells_the_node_where_there_are_several_and_the_gpu():
    assert names(["a", "a"], 1)[0] == "system/cpu_utilization_percentage"
    assert names(["a", "a"], 1)[-1] == "system/gpu_1_memory_usage_megabytes"
    assert names(["a", "b", "a", "b"], 3)[0] == "system/node_1/cpu_utilization_percentage"
    assert names(["a", "b", "a", "b"], 3)[-1] == "system/node_1/gpu_1_memory_usage_megabytes"
