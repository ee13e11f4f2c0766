"""Vectors from captions: emojis are words among words, and those that are used alike are near."""

import json
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gensim.models import KeyedVectors
from hypothesis import example, given
from hypothesis import strategies as st

from emojigan.datasets.emojis.text import all_canonical, display, extract
from emojigan.datasets.emojis.vectors.skipgram import tokens
from emojigan.datasets.emojis.vectors.word2vec import WORD, load_vectors
from emojigan.launch.cli import main


@pytest.fixture(scope="module")
def posts(tmp_path_factory) -> Path:
    """600 captions about food, and as many about the sea; 🦄 is in both, 🤖 in one post; one line is bad."""
    rng = np.random.default_rng(0)
    worlds = (
        (["pizza", "dinner", "cheese", "hungry", "tasty"], "🍕🍔🧀"),
        (["beach", "sand", "surf", "boat", "fish"], "🌊🐬⛵"),
    )
    path = tmp_path_factory.mktemp("posts") / "posts.jsonl"
    with open(path, "w", encoding="utf-8") as file:
        for number in range(1200):
            words, emojis = worlds[number % 2]
            said = [*rng.choice(words, 4), *rng.choice(list(emojis + "🦄"), 2)]
            text = " ".join(map(display, rng.permutation(said))) + ("🤖" if number == 7 else "")
            post = {"id": number, "account": f"a{number}", "image": "none.jpg", "text": text}
            file.write(json.dumps(post, ensure_ascii=False) + "\n")
        file.write("{broken\n")
    return path


def arguments(posts: Path, out: Path, *options: str) -> list[str]:
    return ["vectors", "build", "--method", "skipgram", "--posts", str(posts), "--out", str(out), *options]


@pytest.fixture(scope="module")
def built(posts, tmp_path_factory):
    out = tmp_path_factory.mktemp("vectors") / "vectors.bin"
    result = CliRunner().invoke(main, arguments(posts, out, "--min-count", "20", "--epochs", "10"))
    assert result.exit_code == 0, result.output
    return out, result.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Love my dog😍🐶!", ["love", "my", "dog", "😍", "🐶"]),
        ("wow 😂😂😂 😂", ["wow", "😂"]),
        ("a😂b😂", ["a", "😂", "b", "😂"]),
        ("top 1️⃣0 of 10", ["top", "1⃣", "0", "of", "10"]),
        ("👩🏽‍🚀 and ❤️‍🔥", ["🧑‍🚀", "and", "❤‍🔥"]),
        ("不错😍", ["不", "错", "😍"]),
        ("ℹ️ info ℹ", ["ℹ", "info"]),
        ("#ootd it's ☕️", ["ootd", "it", "s", "☕"]),
        ("", []),
    ],
)
def test_a_caption_becomes_words_and_canonical_emojis(text, expected):
    assert tokens(text) == expected


pieces = st.sampled_from(
    [
        *map(display, all_canonical()[::7]),
        "a",
        "9",
        "#",
        " ",
        "é",
        "日",
        "️",
        "︎",
        "‍",
        "⃣",
        "🏽",
        "🇫",
        "ℹ",
        "\ud800",
    ]
)


@given(st.lists(pieces, max_size=12).map("".join))
@example("日‍❤️‍🔥9️⃣ℹ️")
def test_the_emojis_of_a_caption_are_those_that_shards_count(text):
    found = [token for token in tokens(text) if not WORD.match(token)]
    assert [e for e, _ in groupby(found)] == [e for e, _ in groupby(extract(text))]
    assert all(token and not token.isspace() for token in tokens(text))


def test_emojis_that_are_used_alike_are_near(built):
    vectors = load_vectors(built[0])
    row = dict(zip(vectors.emojis, vectors.matrix, strict=True))
    for emoji, alike, unlike in [("🍕", "🍔", "🌊"), ("🌊", "🐬", "🧀"), ("⛵", "🌊", "🍔")]:
        assert row[emoji] @ row[alike] > row[emoji] @ row[unlike] + 0.5


def test_emojis_alone_are_saved_centred_once_common_enough(built):
    stock = KeyedVectors.load_word2vec_format(str(built[0]), binary=True)
    assert set(stock.index_to_key) == set("🍕🍔🧀🌊🐬⛵🦄")
    assert stock.vectors.shape == (7, 300)
    np.testing.assert_allclose(np.linalg.norm(stock.vectors, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(stock.vectors.mean(axis=0)) < 0.3  # uncentred, almost 1


def test_building_tells_what_was_read(built):
    facts = load_vectors(built[0]).origin.facts
    assert (facts["posts"], facts["posts rejected"], facts["emojis below min_count"]) == (1200, 1, 1)
    assert "posts: 1200\n" in built[1]


def test_another_process_builds_the_same_bytes(built, posts, tmp_path):
    code = "from emojigan.launch.cli import main; main()"
    again = arguments(posts, tmp_path / "again.bin", "--min-count", "20", "--epochs", "10")
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", code, *again], env=environment, check=True, timeout=120)
    assert (tmp_path / "again.bin").read_bytes() == built[0].read_bytes()


def test_captions_do_not_stay_behind(posts, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    CliRunner().invoke(main, arguments(posts, tmp_path / "v.bin", "--epochs", "1"))
    assert [path.name for path in tmp_path.iterdir()] == ["v.bin"]
