"""Whatever two commands do to one dataset at once: afterwards it is whole, and nothing else is gone."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from emojigan.datasets.build.labels import hash_account
from emojigan.datasets.care.verify import verify
from emojigan.datasets.posts.post import Post
from emojigan.datasets.shards.index import read_index
from emojigan.datasets.shards.layout import MANIFEST
from emojigan.datasets.shards.manifest import read_manifest
from emojigan.datasets.store.folder import Folder, LocalFolder, open_folder

PROGRAM = """
from emojigan.datasets.store import lock
from emojigan.launch.cli import main
lock.POLL, lock.BEAT, lock.SILENCE = 0.1, 1, 30
main()
"""
COMMANDS = ("build", "build others", "forget", "forget", "adopt", "verify", "train")
MAKES = {"built": COMMANDS, "tars": ("adopt",), "empty": ("build", "build others")}
"""What makes a dataset of each state in which a folder can be."""


def words_of(command: str, url: str, posts: Path, vectors: Path, out: Path, account: str) -> list[str]:
    build = [str(posts / "posts.jsonl"), "--out", url, "--images-per-shard", "50", "--workers", "2"]
    small = "--steps 5 --batch-size 16 --trunk-width 4 --feature-dim 8 --hidden-dim 16 --latent-dim 4"
    tracked = ["--out", str(out / "run"), "--cache", str(out / "cache"), *small.split()]
    return {
        "build": ["shards", "build", *build],
        "build others": ["shards", "build", *build, "--min-count", "1", "--encoding", "jpg"],
        "forget": ["shards", "forget", url, "--account", account, "--workers", "2"],
        "adopt": ["shards", "adopt", url, "--workers", "2"],
        "verify": ["shards", "verify", url, "--workers", "2"],
        "train": ["train", url, "--vectors", str(vectors), *tracked],
    }[command]


def tuples_of(folder: Folder) -> Counter[tuple[str, str, str]]:
    """All of post, account, emoji, as the indexes tell them."""
    found: Counter[tuple[str, str, str]] = Counter()
    for entry in read_manifest(folder).shards:
        index = read_index(folder, entry)
        for post, emoji in zip(index.post.tolist(), index.emoji.tolist(), strict=True):
            found[index.posts[post], index.accounts[post], index.emojis[emoji]] += 1
    return found


def put(shards: Path, state: str, folder: Folder) -> None:
    for path in sorted(shards.rglob("*")) if state != "empty" else ():
        if path.is_file() and (state == "built" or path.suffix == ".tar"):
            folder.write(str(path.relative_to(shards)), path.read_bytes())


@pytest.fixture
def mix(
    shards: Path, posts_folder: Path, vectors_file: Path, environment: dict[str, str], tmp_path: Path
) -> Callable[..., None]:
    """Start two commands, the second at any moment of the first, and look at what they leave."""

    def run(seed: int, place: str, store: dict[str, str], state: str = "", pair: Sequence[str] = ()) -> None:
        rng = random.Random(seed)
        state = state or rng.choice(["built", "built", "tars", "empty"])
        pair = pair or rng.sample([rng.choice(MAKES[state]), rng.choice(COMMANDS)], 2)
        wait, url = rng.uniform(0, 2), f"{place}/{seed}"
        folder, everything = open_folder(url), tuples_of(LocalFolder(shards))
        put(shards, state, folder)

        def begin(number: int, command: str, account: str) -> subprocess.Popen[str]:
            out = tmp_path / f"{seed}-{number}"
            words = words_of(command, url, posts_folder, vectors_file, out, account)
            return subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *words],
                env={**environment, **store},
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

        accounts = rng.sample([f"Ann{number}" for number in range(71)], 2)
        first = begin(0, pair[0], accounts[0])
        time.sleep(wait)
        second = begin(1, pair[1], accounts[1])
        outputs = [process.communicate(timeout=300) for process in (first, second)]
        codes = [first.returncode, second.returncode]
        told = f"{state}, {pair}, {wait:.1f} s: {codes} {outputs}"
        assert all(
            code in (0, 2) and "Traceback" not in err for code, (_, err) in zip(codes, outputs, strict=True)
        ), told
        for number, command in enumerate(pair):
            if folder.size(MANIFEST) is None and command in MAKES[state]:
                assert codes[number] == 2, told  # the other had begun, and could not go on: try again
                assert begin(2, command, "").wait(300) == 0, told
        assert 0 in codes or state != "built" or not {*pair} & {"build", "forget", "verify", "train"}, told
        report = verify(folder, read_manifest(folder), workers=1)
        assert (report.faults, report.unnamed) == ([], []), told
        gone = {
            hash_account(Post("", account, ()))
            for account, command, code in zip(accounts, pair, codes, strict=True)
            if command == "forget" and code == 0
        }
        expected = Counter({key: count for key, count in everything.items() if key[1] not in gone})
        assert tuples_of(folder) == expected, told
        for name in folder.names():
            content = folder.read(name)
            assert name == MANIFEST or not any(account.encode() in content for account in gone), (name, told)

    return run


@pytest.mark.parametrize(
    ("state", "pair"),
    [
        ("built", ("forget", "forget")),
        ("built", ("forget", "build others")),
        ("empty", ("build", "build others")),
        ("tars", ("adopt", "adopt")),
    ],
)
def test_two_commands_on_a_disk(mix, tmp_path, state, pair):
    mix(0, str(tmp_path), {}, state, pair)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_any_two_commands_on_a_disk(mix, tmp_path, seed):
    mix(seed, str(tmp_path), {})


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200, 220))
def test_any_two_commands_on_a_store(mix, ceph, seed):
    mix(seed, "s3://bucket/mixes", ceph)
