"""Posts to scores on Ceph's gateway: nothing is kept on this machine but the run, and all is as on a disk."""

import hashlib
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from emojigan.datasets.store.folder import open_folder
from emojigan.launch.cli import main

from .conftest import TINY_NETWORKS


def told(*words: object) -> str:
    result = CliRunner().invoke(main, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


def contents(place: str | Path) -> dict[str, str]:
    folder = open_folder(str(place))
    return {name: hashlib.sha256(folder.read(name)).hexdigest() for name in folder.names()}


def tables(place: str | Path) -> dict[str, list[dict]]:
    """What scores say, without the name of the model, which is that of a folder."""
    folder = open_folder(str(place))
    parts = [name for name in folder.names() if name.endswith(".parquet")]
    return {name: pq.read_table(io.BytesIO(folder.read(name))).to_pylist() for name in parts}


@pytest.mark.soak
def test_build_verify_train_and_score_on_ceph_are_those_of_a_disk(
    posts_folder: Path,
    vectors_file: Path,
    tmp_path: Path,
    ceph: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = []
    for place in "s3://bucket/whole", tmp_path / "whole":
        shards, run, scores = f"{place}/shards", tmp_path / "run" / str(place)[:2], f"{place}/scores"
        told("shards", "build", posts_folder / "posts.jsonl", "--out", shards, "--images-per-shard", 50)
        assert told("shards", "verify", shards).startswith("Whole: ")
        training = [*TINY_NETWORKS, "--steps", 6, "--precision", "float32", "--cache", tmp_path / "cache"]
        told("train", shards, "--vectors", vectors_file, "--out", run, *training)
        told("score", shards, run, "--out", scores)
        found.append((contents(shards), contents(run / "snapshots"), tables(scores)))
    assert found[0] == found[1]
