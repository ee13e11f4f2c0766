"""What lies in the folder of a dataset is known by its name alone, and nobody else's file is removed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emojigan.datasets.shards.layout import (
    BEGUN,
    MANIFEST,
    REJECTS,
    SPLITS,
    index_name,
    is_begun,
    leftovers,
    note_name,
    part_name,
    rewritten_name,
    split_of,
    statistics_name,
    tar_name,
)

TARS = st.builds(tar_name, st.sampled_from(SPLITS), st.integers(0, 10**6 - 1))


def files_of(tar: str) -> list[str]:
    return [tar, index_name(tar), statistics_name(tar)]


@given(st.sets(TARS), st.sets(TARS))
def test_of_the_shards_that_are_not_kept_nothing_is_left_and_of_the_others_all(kept: set[str], old: set[str]):
    names = [MANIFEST, REJECTS, *(name for tar in kept | old for name in files_of(tar))]
    expected = {name for tar in old - kept for name in files_of(tar)}
    assert set(leftovers(names, kept)) == expected


HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(TARS, st.lists(HASHES, min_size=1))
def test_a_shard_that_was_rewritten_is_known_by_what_is_beside_it(tar: str, contents: list[str]):
    for content in contents:
        tar = rewritten_name(tar, content)
    assert leftovers([tar, index_name(tar)], []) == [tar, index_name(tar)]


@given(TARS, st.lists(HASHES, min_size=1))
def test_the_name_of_a_rewritten_shard_tells_its_last_content_alone(tar: str, contents: list[str]):
    expected = tar.removesuffix(".tar") + f".{contents[-1][:12]}.tar"
    for content in contents:
        tar = rewritten_name(tar, content)
    assert tar == expected


@pytest.mark.parametrize(
    "name",
    ["holiday.tar", "train/holiday.tar", "other/000000.tar", "train/deep/000000.tar", "notes.txt", MANIFEST],
)
def test_what_somebody_put_there_stays(name: str):
    assert leftovers([name], []) == []


@pytest.mark.parametrize("name", [".manifest.json.12-ab.tmp", "train/.000000.tar.12-ab.tmp"])
def test_what_a_killed_process_was_writing_goes(name: str):
    assert leftovers([name], ["train/000000.tar"]) == [name]


@given(TARS)
def test_a_tar_goes_before_what_tells_that_it_is_ours(tar: str):
    """So that after a kill in between the rest still tells."""
    assert leftovers(files_of(tar), [])[0] == tar


def test_a_build_is_begun_when_there_are_its_note_parts_or_statistics_of_shards():
    assert is_begun([BEGUN]) and is_begun([part_name(0)]) and is_begun(["train/000000.stats.json"])


def test_what_an_adoption_leaves_is_no_build():
    """Else a build would take the tars of somebody else for its own."""
    names = ["a.tar", index_name("a.tar", "val"), "train/000000.tar", "train/000000.train.index"]
    assert not is_begun([*names, note_name("train/000000.tar"), "train/000000.index", "train/notes.txt"])


def test_the_split_is_the_folder():
    assert [split_of(name) for name in ("val/000000.tar", "a/val/0.tar", "000000.tar")] == ["val", None, None]
