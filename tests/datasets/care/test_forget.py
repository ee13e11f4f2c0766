"""An account that is forgotten is in no file; all else is as it was; a kill costs nothing."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from emojigan.datasets.build.dataset import build_shards
from emojigan.datasets.build.labels import hash_account
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.survey import Source
from emojigan.datasets.care import forget as module
from emojigan.datasets.care.adopt import adopt
from emojigan.datasets.care.forget import Forgotten, forget
from emojigan.datasets.care.verify import verify
from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.post import Post
from emojigan.datasets.shards.index import Index
from emojigan.datasets.shards.manifest import Manifest, lineage, read_manifest, write_manifest
from emojigan.datasets.store import atomic as files
from emojigan.datasets.store.folder import LocalFolder, open_folder
from emojigan.launch.cli import main

ANN = hash_account(Post("", "Ann", ()))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of two images. Ann has images 0, which Bob posted too, 3, and 4, 5 and 8, which fill shards."""
    folder = tmp_path_factory.mktemp("forget")
    for number in range(9):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"no picture")
    rows = [("Ann", 0), ("Bob", 1), ("Bob", 2), ("Ann", 3), ("Ann", 4), ("Ann", 5), ("Cid", 6), ("Cid", 7)]
    posts = [
        {"id": f"p{n}", "account": account, "image": f"{n}.png", "text": "🔥 😍" if n % 2 else "😍"}
        for account, n in rows
    ]
    posts += [{"id": "again", "account": "Bob", "image": "0.png", "text": "🍕"}]
    posts += [{"id": "c", "account": "Cid", "image": "1.png", "text": "🍕"}]
    posts += [{"id": "p3", "account": "Ann", "image": "8.png", "text": "🔥"}]
    posts += [{"id": "q", "account": "Cid", "image": "bad.png", "text": "🔥"}]
    posts += [{"id": "🦄", "account": "Ann", "image": "8.png", "text": "🦄"}]
    (folder / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    options = BuildOptions(images_per_shard=2, min_count=1, val_share=0, test_share=0)
    source = Source([folder / "posts.jsonl"])
    build_shards(source, LocalFolder(folder / "shards"), options, workers=1, max_bad=1)
    return folder / "shards"


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "shards")


def without(folder: Path, *accounts: str, dry_run: bool = False, workers: int = 1) -> Forgotten:
    return forget(LocalFolder(folder), accounts, dry_run=dry_run, workers=workers)


def manifest_of(folder: Path) -> Manifest:
    return read_manifest(LocalFolder(folder))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tuples(folder: Path) -> Counter[tuple[str, str, str]]:
    """All of post, account, emoji, as the indexes tell them."""
    found: Counter[tuple[str, str, str]] = Counter()
    for shard in manifest_of(folder).shards:
        index = Index.from_bytes((folder / shard.index).read_bytes())
        for post, emoji in zip(index.post.tolist(), index.emoji.tolist(), strict=True):
            found[index.posts[post], index.accounts[post], index.emojis[emoji]] += 1
    return found


def is_whole(folder: Path) -> bool:
    dataset = LocalFolder(folder)
    report = verify(dataset, read_manifest(dataset), workers=1)
    return not report.faults and not report.unnamed


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["shards", "forget", "--workers", "1", *map(str, words)])


def test_only_the_accounts_tuples_go(dataset):
    before = tuples(dataset)
    found = without(dataset, ANN)
    assert tuples(dataset) == Counter({key: n for key, n in before.items() if key[1] != ANN})
    assert found == Forgotten(
        frozenset([ANN]), images=4, tuples=7, train_tuples=7, posts=5, shards=4, dropped=2
    )


def test_what_is_left_is_whole_and_counted(dataset):
    without(dataset, ANN)
    assert is_whole(dataset)


def test_account_and_its_posts_are_in_no_shard(dataset):
    without(dataset, ANN)
    for name, content in contents(dataset).items():
        assert name == "manifest.json" or (ANN.encode() not in content and b'"p3"' not in content)


def test_image_that_others_posted_stays_with_their_emojis(dataset):
    without(dataset, ANN)
    index = Index.from_bytes((dataset / manifest_of(dataset).shards[0].index).read_bytes())
    assert index.keys == ("000000", "000001")
    assert index.samples()[0][1].to_json() == {
        "post": "again",
        "account": hash_account(Post("", "Bob", ())),
        "emojis": ["🍕"],
    }


def test_other_shards_stay_byte_for_byte(dataset):
    before = contents(dataset)
    without(dataset, ANN)
    after = contents(dataset)
    same = {name for name in before if before[name] == after.get(name)}
    assert {"train/000003.tar", "train/000003.index", "train/000003.stats.json"} <= same
    tars = sorted(name for name in after if name.endswith(".tar"))
    assert [name.partition(".")[0] for name in tars] == ["train/000000", "train/000001", "train/000003"]
    assert not {*tars[:2]} & set(before)


def test_vocabulary_keeps_its_emojis_but_those_that_nobody_is_left_for(dataset):
    assert manifest_of(dataset).vocabulary["🦄"] == 1
    without(dataset, ANN)
    assert manifest_of(dataset).vocabulary == {"😍": 4, "🍕": 2, "🔥": 2}


def test_manifest_records_it(dataset):
    before = manifest_of(dataset)
    without(dataset, ANN)
    after = manifest_of(dataset)
    assert after.sha256() != before.sha256()
    event = {"forgot": [ANN], "images": 4, "tuples": 7, "posts": 5, "train": 7}
    assert after.history == ({"from": before.sha256(), **event},)
    assert (after.posts["read"], after.posts["used"], after.posts["forgotten"]) == (13, 6, 5)


def test_dataset_knows_what_it_was_and_what_was_forgotten_since(dataset):
    identities = [manifest_of(dataset).sha256()]
    for account in (ANN, hash_account(Post("", "Bob", ()))):
        without(dataset, account)
        identities.append(manifest_of(dataset).sha256())
    history = manifest_of(dataset).history
    assert lineage(manifest_of(dataset)) == dict(zip(identities, (history, history[1:], ()), strict=True))


def test_event_that_does_not_name_the_identity_before_it_is_no_link(dataset):
    """Events of version 0.1 and before this one: what the dataset was then is not known."""
    without(dataset, ANN)
    manifest = manifest_of(dataset)
    (event,) = manifest.history
    older = replace(manifest, history=({**event, "from": "x"}, {"forgot": [ANN], "posts": 1}, event))
    assert [len(events) for events in lineage(older).values()] == [3, 1, 0]
    del event["from"]
    assert lineage(manifest) == {manifest.sha256(): ()}


def test_rejects_lose_the_accounts_lines(dataset):
    assert '"post p3"' in (dataset / "rejects.jsonl").read_text()
    without(dataset, ANN)
    lines = (dataset / "rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["where"] for line in lines] == ["post q"]


def test_rejects_with_any_sign_in_their_ids_lose_the_accounts_lines(dataset):
    """A text's lines end at more signs than those of a file."""
    kept = json.dumps({"where": "post a\u2028b\x85", "reason": "duplicate id"}, ensure_ascii=False) + "\n"
    with open(dataset / "rejects.jsonl", "a", encoding="utf-8") as file:
        file.write(kept)
    without(dataset, ANN)
    assert (dataset / "rejects.jsonl").read_text(encoding="utf-8").endswith("}\n" + kept)
    assert "post p3" not in (dataset / "rejects.jsonl").read_text(encoding="utf-8")


def test_two_accounts_one_after_the_other_leave_what_both_at_once_do(dataset, tmp_path):
    other = shutil.copytree(dataset, tmp_path / "other")
    bob = hash_account(Post("", "Bob", ()))
    without(dataset, ANN)
    without(dataset, bob)
    without(other, ANN, bob, workers=2)
    assert tuples(dataset) == tuples(other) and is_whole(dataset) and is_whole(other)
    assert len(manifest_of(dataset).history) == 2


def test_shard_that_is_written_again_is_named_by_what_is_in_it(dataset, tmp_path):
    """So that whoever writes beside us cannot put other bytes under the same name."""
    same, other = shutil.copytree(dataset, tmp_path / "same"), shutil.copytree(dataset, tmp_path / "other")
    bob = hash_account(Post("", "Bob", ()))
    without(dataset, ANN), without(same, ANN), without(other, bob)
    new = {name: content for name, content in contents(dataset).items() if name.startswith("train/0")}
    assert new == {name: content for name, content in contents(same).items() if name.startswith("train/0")}
    old = {name for name, content in contents(other).items() if contents(dataset).get(name) != content}
    assert len(set(new) - set(old)) == len(new)
    without(dataset, bob)
    names = [shard.name for shard in manifest_of(dataset).shards]
    assert names[1] == "train/000003.tar" and re.fullmatch(r"train/000000\.[0-9a-f]{12}\.tar", names[0])
    assert is_whole(dataset)


def test_everybody_can_be_forgotten(dataset):
    without(dataset, *(hash_account(Post("", name, ())) for name in ("Ann", "Bob", "Cid")))
    assert manifest_of(dataset).shards == () and not list(dataset.rglob("*.tar"))
    assert CliRunner().invoke(main, ["shards", "stats", str(dataset)]).exit_code == 0


def test_dry_run_says_the_same_and_changes_nothing(dataset):
    before = contents(dataset)
    told = without(dataset, ANN, dry_run=True)
    assert contents(dataset) == before
    assert told == without(dataset, ANN)


def test_two_that_forget_at_once_leave_one_whole_dataset_without_those_that_are_told_gone(dataset):
    """Each with 1 where it comes too late: the other is told, and can be run again."""
    words = [
        sys.executable,
        "-c",
        "from emojigan.launch.cli import main; main()",
        "shards",
        "forget",
        dataset,
    ]
    both = [
        subprocess.Popen([*words, "--account", name, "--workers", "1"], stderr=subprocess.PIPE, text=True)
        for name in ("Ann", "Bob")
    ]
    told = [process.communicate(timeout=120)[1].splitlines()[-1] for process in both]
    gone = [name for name, process in zip(("Ann", "Bob"), both, strict=True) if process.returncode == 0]
    assert gone and all(
        process.returncode == 0 or "is being written by `shards forget`" in line
        for process, line in zip(both, told, strict=True)
    )
    left = {account for _, account, _ in tuples(dataset)}
    assert left == {hash_account(Post("", name, ())) for name in {"Ann", "Bob", "Cid"} - {*gone}}
    assert is_whole(dataset)


def test_dataset_that_somebody_changed_meanwhile_stays_as_he_left_it(dataset, monkeypatch):
    """As on a disk without locks."""
    rewrite = module._rewrite

    def overtaken(*arguments):
        found = rewrite(*arguments)
        change = replace(manifest_of(dataset), left_out={"others": 1})
        write_manifest(change, LocalFolder(dataset), replaces=manifest_of(dataset))
        return found

    monkeypatch.setattr(module, "_rewrite", overtaken)
    with pytest.raises(InputError, match="was changed by somebody else meanwhile"):
        without(dataset, ANN)
    assert manifest_of(dataset).left_out == {"others": 1}
    assert not verify(LocalFolder(dataset), manifest_of(dataset), workers=1).faults


def test_store_forgets(built):
    folder = open_folder("memory://forget")
    for name, content in contents(built).items():
        folder.write(name, content)
    forget(folder, [ANN], dry_run=False, workers=1)
    report = verify(folder, read_manifest(folder), workers=1)
    assert (report.faults, report.unnamed) == ([], [])


class Killed(BaseException):
    pass


def killed_after(left: Iterator[int], function: Callable[..., None]) -> Callable[..., None]:
    """A function that works as often as there is something left."""

    def change(*arguments: object) -> None:
        if next(left, None) is None:
            raise Killed
        function(*arguments)

    return change


def test_killed_anywhere_leaves_the_old_dataset_or_the_new_and_goes_on(built, tmp_path, monkeypatch):
    """Ended before each of its changes to the folder, one after the other."""
    whole = shutil.copytree(built, tmp_path / "whole")
    old = tuples(built)
    without(whole, ANN)
    new, expected = tuples(whole), contents(whole)
    for moment in range(100):
        folder = shutil.copytree(built, tmp_path / str(moment))
        left = iter(range(moment))
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "replace", killed_after(left, files.os.replace))
            patch.setattr(LocalFolder, "remove", killed_after(left, LocalFolder.remove))
            try:
                without(folder, ANN)
            except Killed:
                pass
            else:
                break
        assert tuples(folder) in (old, new)
        (folder / "train/.000001.tar.1.tmp").write_bytes(b"left by a kill")
        assert run(folder, "--hash", ANN).exit_code == 0
        assert contents(folder) == expected
    assert 10 < moment < 50


def test_what_a_killed_command_has_not_removed_is_a_fault(dataset, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(LocalFolder, "remove", killed_after(iter(()), LocalFolder.remove))
        without(dataset, ANN)
    faults = verify(LocalFolder(dataset), manifest_of(dataset), workers=1).faults
    assert faults and {each.reason for each in faults} == {
        "is still there after `shards forget`: run that again"
    }
    assert run(dataset, "--hash", ANN).exit_code == 0 and is_whole(dataset)


def test_parts_of_a_task_that_came_late_go_with_what_was_forgotten(dataset):
    (dataset / ".build").mkdir()
    (dataset / ".build" / "000003.members").write_bytes(b"her pictures")
    without(dataset, ANN)
    assert not (dataset / ".build").exists()


def test_damaged_shard_is_refused_and_nothing_is_forgotten(dataset):
    content = bytearray((dataset / "train/000001.tar").read_bytes())
    content[3000] ^= 1
    (dataset / "train/000001.tar").write_bytes(content)
    before = manifest_of(dataset)
    with pytest.raises(InputError, match="checksum of 000000 differs"):
        without(dataset, ANN)
    assert manifest_of(dataset) == before


def test_command_forgets_names_and_says_what(dataset):
    result = run(dataset, "--account", "Ann")
    assert result.exit_code == 0
    assert result.stdout == "Forgot 1 accounts: 5 posts, 7 tuples, 4 images, in 4 of 5 shards\n"


def test_command_reads_a_file_of_accounts(dataset, tmp_path):
    (tmp_path / "accounts.txt").write_text("Ann \n\n\tBob\r\n")
    result = run(dataset, "--accounts-file", tmp_path / "accounts.txt", "--dry-run")
    assert result.exit_code == 0 and result.stdout.startswith("Would forget 2 accounts: ")


def test_account_that_is_nowhere_is_told_with_1_and_the_others_go(dataset):
    result = run(dataset, "--account", "Nobody", "--account", "Ann")
    assert result.exit_code == 1 and result.stderr.endswith(f"Nobody is nowhere in {dataset}.\n")
    assert manifest_of(dataset).history


def test_account_that_was_forgotten_before_ends_with_0(dataset):
    assert run(dataset, "--account", "Ann").exit_code == 0
    before = contents(dataset)
    assert run(dataset, "--account", "Ann").exit_code == 0
    assert contents(dataset) == before


@pytest.mark.parametrize("words", [(), ("--hash", "Ann")])
def test_nobody_named_is_refused(dataset, words):
    assert run(dataset, *words).exit_code == 2


def test_file_of_accounts_that_is_not_utf8_is_refused(dataset, tmp_path):
    (tmp_path / "accounts.txt").write_bytes(b"Ren\xe9\n")
    result = run(dataset, "--accounts-file", tmp_path / "accounts.txt")
    assert result.exit_code == 2 and "not UTF-8" in result.stderr


@pytest.mark.parametrize("name", ["part-{}", "my.right.{}"])
def test_tars_of_any_name_go_with_what_was_forgotten(dataset, name):
    for path in [*dataset.glob("train/*.index"), *dataset.glob("train/*.json"), dataset / "manifest.json"]:
        path.unlink()
    for path in dataset.glob("train/*.tar"):
        path.rename(path.with_name(f"{name.format(path.stem)}.tar"))
    options = BuildOptions(min_count=1, val_share=0, test_share=0)
    adopt(LocalFolder(dataset), options, max_bad=0, workers=1)
    without(dataset, ANN)
    assert is_whole(dataset)
    for path in dataset.glob("train/*"):
        assert ANN.encode() not in path.read_bytes(), path


def test_tar_that_somebody_put_there_stays(dataset):
    (dataset / "train" / "mine.tar").write_bytes(b"mine")
    without(dataset, ANN)
    assert (dataset / "train" / "mine.tar").exists()
