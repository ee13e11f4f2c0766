"""Where the images are kept: what is chosen, what is told, and what is refused."""

from dataclasses import replace

import pytest
import torch

from emojigan.datasets.errors import InputError
from emojigan.datasets.stream.split import Split
from emojigan.trainer.config import Config
from emojigan.trainer.runtime.device_cache import choose, device_cache

from ...tiny_dataset import SIZE, write_dataset

MIB, GIB = 2**20, 2**30
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return write_dataset(tmp_path_factory.mktemp("kept") / "shards", (5, 4))


def config(device_cache: str, lanes: int = 1) -> Config:
    return Config.model_validate({"run": {"device_cache": device_cache}, "data": {"lanes": lanes}})


@pytest.mark.parametrize(
    ("size", "free", "kept", "told"),
    [
        (GIB, 4 * GIB, True, "images kept on the GPU: 1.0 GiB"),
        (40 * MIB, 79 * GIB, True, "images kept on the GPU: 40.0 MiB"),
        (
            4 * GIB,
            15 * GIB,
            False,
            "images streamed: 4.0 GiB, more than a quarter of the 15.0 GiB free on the GPU",
        ),
    ],
)
def test_a_quarter_of_what_is_free_is_taken_unasked(size: int, free: int, kept: bool, told: str):
    assert choose(size, free, "on the GPU", asked=False) == (kept, told)


def test_more_is_taken_where_it_is_asked_for():
    assert choose(4 * GIB, 15 * GIB, "on the GPU", asked=True) == (True, "images kept on the GPU: 4.0 GiB")


def test_more_than_there_is_is_refused_in_one_line():
    with pytest.raises(
        InputError, match=r"^--device-cache on: the images take 9.0 GiB, and .* 8.0 GiB\. .*$"
    ):
        choose(9 * GIB, 8 * GIB, "on the GPU", asked=True)


@pytest.mark.parametrize("wanted", ["auto", "off"])
def test_on_a_cpu_they_are_streamed_and_nothing_is_told(split, wanted: str):
    assert device_cache(config(wanted), split, CPU, units=10**9) == (None, "")


def test_on_a_cpu_there_is_room_for_every_image_where_it_is_asked_for(split):
    pixels, told = device_cache(config("on"), split, CPU, units=1)
    assert pixels is not None and (pixels.shape, pixels.dtype) == ((9, SIZE, SIZE, 3), torch.uint8)
    assert told.startswith("images kept in memory: ")


@pytest.mark.parametrize(
    ("lanes", "missing"), [(1, 0), (2, 0), (1, 1)], ids=["all of them", "lanes", "not all of them"]
)
def test_on_a_gpu_they_are_kept_where_one_lane_reads_them_all(
    split, monkeypatch: pytest.MonkeyPatch, lanes: int, missing: int
):
    """Of a GPU with 4,000 bytes free; the room itself is made in the memory of this machine."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4000, 5000))
    original = torch.empty
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, device: original(shape, dtype=dtype))
    tuples = split.num_tuples - missing
    pixels, told = device_cache(config("auto", lanes), split, torch.device("cuda"), units=tuples)
    kept = lanes == 1 and not missing
    assert (pixels is not None) == kept and (told == "images kept on the GPU: 0.0 MiB") == kept


def test_a_split_larger_than_this_machine_is_refused(split):
    huge = Split(split.folder, replace(split.manifest, image_size=10**6), "train")
    with pytest.raises(InputError, match="the images take"):
        device_cache(config("on"), huge, CPU, units=1)
