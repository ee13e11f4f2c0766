"""A run's folder says what it is made from, and what is wrong with it is told in one line."""

import json
from pathlib import Path

import pytest

from emojigan.datasets.errors import InputError
from emojigan.datasets.store.folder import LocalFolder, open_folder
from emojigan.trainer.config import PLAIN, Config
from emojigan.trainer.run import (
    CONFIG,
    INPUTS,
    SNAPSHOTS,
    Origin,
    read_beginning,
    read_origin,
    read_start,
    remove_later_snapshots,
    step_name,
    steps_in,
    to_train_again,
    write_beginning,
)

START = {"command": "emojigan train"}
ORIGIN = Origin({"🔥": 3, "😍": 2}, 4, ((0, "a" * 64),))


@pytest.mark.parametrize("shards", ["s3://bucket/shards", "/data/shards"])
def test_what_a_run_is_made_from_is_read_as_it_was_written(tmp_path: Path, shards: str):
    config = Config.model_validate({"optimizer": {"steps": 7}})
    write_beginning(tmp_path, config, open_folder(shards), Path("/data/vectors.bin"), ORIGIN, START)
    assert (read_origin(tmp_path), read_start(tmp_path)) == (ORIGIN, START)
    assert read_beginning(tmp_path) == (config, open_folder(shards), Path("/data/vectors.bin"))


def test_a_run_that_did_not_note_how_it_was_started_has_no_start(tmp_path: Path):
    write_beginning(tmp_path, Config(), LocalFolder(tmp_path), tmp_path, ORIGIN, START)
    content = json.loads((tmp_path / INPUTS).read_text())
    del content["start"]
    (tmp_path / INPUTS).write_text(json.dumps(content))
    assert read_start(tmp_path) == {}


def test_a_run_is_trained_again_by_its_config_whatever_the_defaults_are(tmp_path: Path):
    again = to_train_again(tmp_path / "a run", "s3://b/shards", Path("v.bin"), "NEW")
    assert again == (
        f"emojigan train s3://b/shards --vectors v.bin --recipe {PLAIN} "
        f"--config '{tmp_path}/a run/config.yaml' --out NEW"
    )


def test_relative_inputs_are_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_beginning(tmp_path, Config(), LocalFolder(Path("shards")), Path("vectors.bin"), ORIGIN, START)
    monkeypatch.chdir("/")
    assert read_beginning(tmp_path)[1:] == (LocalFolder(tmp_path / "shards"), tmp_path / "vectors.bin")


def test_a_key_of_another_version_is_named(tmp_path: Path):
    write_beginning(tmp_path, Config(), LocalFolder(tmp_path), tmp_path, ORIGIN, START)
    file = tmp_path / CONFIG
    file.write_text(file.read_text().replace("max_quarantined", "max_lost"))
    with pytest.raises(InputError, match=r"config.yaml: run.max_lost: unknown key\.$"):
        read_beginning(tmp_path)


def test_names_of_steps_sort_as_steps_do():
    steps = [1, 9, 10, 99_999, 100_000]
    assert sorted(map(step_name, steps)) == [step_name(step) for step in steps]


@pytest.mark.parametrize("content", ["{", "[]", "{}", None])
def test_inputs_that_are_damaged_or_missing_are_told(tmp_path: Path, content: str | None):
    write_beginning(tmp_path, Config(), LocalFolder(tmp_path), tmp_path, ORIGIN, START)
    (tmp_path / INPUTS).write_text(content) if content else (tmp_path / INPUTS).unlink()
    with pytest.raises(InputError, match=r"inputs.json is missing or damaged"):
        read_beginning(tmp_path)


@pytest.mark.parametrize("origin", ["[]", "{}", '{"vocabulary": {}, "images": 1, "datasets": 5}'])
def test_an_origin_that_is_damaged_is_told(tmp_path: Path, origin: str):
    (tmp_path / INPUTS).write_text(f'{{"shards": "s", "vectors": "v", "origin": {origin}}}')
    with pytest.raises(InputError, match=r"inputs.json is missing or damaged"):
        read_origin(tmp_path)


def test_what_the_dataset_was_stays_as_it_becomes_less():
    first = ORIGIN.going_on(0, "a" * 64)
    second = first.going_on(8, "b" * 64)
    assert (first, second.dataset, second.latest) == (ORIGIN, "a" * 64, "b" * 64)
    assert second.going_on(16, "b" * 64) == second
    assert second.going_on(4, "c" * 64).datasets == ((0, "a" * 64), (4, "c" * 64))  # from a checkpoint before


def test_snapshots_behind_the_step_that_a_training_resumes_at_go(tmp_path: Path):
    """They may be of a training with another seed, that was killed before its first checkpoint."""
    for step in (4, 8, 12):
        (tmp_path / SNAPSHOTS / step_name(step)).mkdir(parents=True)
    remove_later_snapshots(tmp_path, 8)
    assert [path.name for path in steps_in(tmp_path / SNAPSHOTS)] == [step_name(4), step_name(8)]
    remove_later_snapshots(tmp_path, 0)
    assert not steps_in(tmp_path / SNAPSHOTS)
