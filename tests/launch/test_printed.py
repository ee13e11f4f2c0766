"""Names and ids that come from data, servers or users reach a terminal without orders to it."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from emojigan.datasets.printable import printable
from emojigan.datasets.shards.manifest import read_manifest, write_manifest
from emojigan.datasets.store.folder import LocalFolder
from emojigan.datasets.store.trouble import tell
from emojigan.datasets.stream.quarantine import Quarantined
from emojigan.launch.cli import main
from emojigan.trainer.forgotten import Mark
from emojigan.trainer.serving.retrain import Trained
from emojigan.trainer.training.begin import note_quarantined

ORDERS = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
EVIL = "a\x1b[31m\x9b2J\u202eb"


def printed(*words: str | Path) -> str:
    """What a command prints; none of it is an order to a terminal."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    output = result.output.replace("\r", "")  # of progress bars
    assert not ORDERS.search(output), repr(output)
    return output


@pytest.mark.parametrize(
    "words", [[EVIL], ["shards", EVIL], ["predict", "m", "--top-k", EVIL], ["train", "--" + EVIL]]
)
def test_what_was_typed_wrong_is_told_without_orders(words: list[str]):
    assert "a\\x1b[31m\\x9b2J\\u202eb" in printed(*words)


def test_names_in_and_of_a_dataset_are_told_without_orders(shards: Path, tmp_path: Path):
    place = tmp_path / EVIL
    shutil.copytree(shards, place)
    (place / f"{EVIL}.tar").touch()
    assert "\\x1b[31m" in printed("shards", "verify", place)
    assert f"{printable(EVIL)} is nowhere in" in printed("shards", "forget", place, "--account", EVIL)
    manifest = read_manifest(LocalFolder(place))
    foreign = replace(manifest, vocabulary={**manifest.vocabulary, EVIL: 10_000})
    write_manifest(foreign, LocalFolder(place), replaces=manifest)
    assert "\\x1b[31m" in printed("shards", "stats", place)
    assert "\\u009b2J" in printed("shards", "stats", place, "--json")


def test_runs_of_other_people_are_told_without_orders():
    mark = Mark("2031-05-17", 1, 2, 3, 4)
    for theirs in (mark, replace(mark, train_tuples=0)):
        told = Trained(EVIL, theirs, EVIL, EVIL, EVIL).told(dry_run=True)
        assert not ORDERS.search(told) and printable(EVIL) in told


def test_lines_beside_a_progress_bar_are_told_without_orders(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    tell(EVIL)
    note_quarantined(tmp_path / "quarantine-0.jsonl", Quarantined("s.tar", EVIL, EVIL, 1))
    told = capfd.readouterr().err
    assert told.count(printable(EVIL)) == 3 and not ORDERS.search(told)


def test_no_password_of_an_address_is_printed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:s3cret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = printed("predict", "models:/emojigan@champion", __file__)
    assert "s3cret" not in told and "***@127.0.0.1:9" in told
