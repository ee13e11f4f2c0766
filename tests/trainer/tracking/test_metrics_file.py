"""metrics.jsonl is read whatever became of it, and what is read of it is what was written."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.trainer.tracking.metrics_file import MetricsFile, Reading, cut, read_from

WRITTEN = [(1, {"train/nll": 2.5}), (2, {"train/nll": 2.25, "val/nll": 3.0}), (4, {"train/nll": 1.0})]
DAMAGED = (
    b"",
    b"null",
    b"\0\0\0\0\0\0",
    b"[]",
    b"7",
    b'"step"',
    b'{"step": 2, "train/lo',
    b'{"train/nll": 2}',
    b'{"step": null, "train/nll": 2}',
    b'{"step": true, "train/nll": 2}',
    b'{"step": -1}',
    b'{"step": 1e3}',
    b'{"step": 2, "train/nll": null}',
    b'{"step": 2, "train/nll": "many"}',
    b'{"step": 2, "train/nll": {}}',
    b'{"step": 2, "\\ud800": 1}',
    b'{"step": 2, "time": "now"}',
    b'{"step": 2, "a": 1' + b"0" * 400 + b"}",
    b'{"step": 1' + b"0" * 5000 + b"}",
    b"[" * 100_000,
    b"\xff\xfe\x00",
)


def write(path: Path) -> bytes:
    file = MetricsFile(path)
    for step, metrics in WRITTEN:
        file.append(step, metrics)
    file.close()
    return path.read_bytes()


def read(path: Path, most: int = 1 << 20) -> list[tuple[int, dict[str, float]]]:
    """Everything that is in a file, read in blocks."""
    found: list[Reading] = []
    start, position = -1, 0
    while start < position:
        start = position
        readings, position = read_from(path, start, most)
        found += readings
    return [(each.step, each.metrics) for each in found]


@pytest.mark.parametrize("most", [1 << 20, 100], ids=["whole", "in blocks"])
def test_what_was_written_is_read(tmp_path: Path, most: int):
    write(tmp_path / "m")
    assert read(tmp_path / "m", most) == WRITTEN


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda each: repr(each[:20]))
@pytest.mark.parametrize("where", [0, 1, 3])
def test_a_damaged_line_is_dropped_and_counted_and_the_others_are_kept(
    tmp_path: Path, damage: bytes, where: int
):
    path = tmp_path / "m"
    whole = write(path)
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join((*lines[:where], damage + b"\n", *lines[where:])))
    assert read(path) == WRITTEN
    assert cut(path, 4) == 1
    assert path.read_bytes() == whole


def test_a_line_without_an_end_is_left_for_later_and_then_dropped(tmp_path: Path):
    path = tmp_path / "m"
    whole = write(path)
    path.write_bytes(whole[:-1])
    assert read(path) == WRITTEN[:-1]
    assert cut(path, 4) == 1
    assert read(path) == WRITTEN[:-1]


@settings(max_examples=30)  # each is written and synced
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode), step=st.integers(0, 5))
def test_no_content_is_an_error_and_what_is_left_is_whole(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, step: int
):
    path = tmp_path_factory.mktemp("metrics") / "m"
    path.write_bytes(content)
    cut(path, step)
    assert cut(path, step) == 0
    assert len(read(path)) == path.read_bytes().count(b"\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("step"), inner, max_size=3)
    ),
)


@given(json_values)
def test_no_json_is_an_error(content: object):
    reading = Reading.of(json.dumps(content).encode() + b"\n")
    assert reading is None or (isinstance(content, dict) and reading.step == content["step"])


def test_metrics_of_later_steps_are_cut(tmp_path: Path):
    write(tmp_path / "m")
    assert cut(tmp_path / "m", 2) == 0
    assert read(tmp_path / "m") == WRITTEN[:2]


def test_a_file_of_an_earlier_version_tells_no_time(tmp_path: Path):
    (tmp_path / "m").write_text('{"step": 3, "train/nll": 2.0}\n')
    assert read_from(tmp_path / "m", 0, 100) == ([Reading(3, None, {"train/nll": 2.0})], 30)
