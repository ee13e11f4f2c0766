"""Emoji vectors: the built table is sensible and repeatable, files load clean, look-ups follow the chain."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.emojis.text import all_canonical, canonical
from emojigan.datasets.emojis.vectors.names import build_vectors
from emojigan.datasets.emojis.vectors.word2vec import (
    EmojiVectors,
    Origin,
    keyed,
    load_vectors,
    match,
    save_vectors,
)
from emojigan.datasets.errors import InputError
from emojigan.launch.cli import main


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("vectors") / "vectors.bin"
    save_vectors(build_vectors(), path)
    return path


@pytest.fixture(scope="module")
def table(built) -> EmojiVectors:
    return load_vectors(built)


def write(path: Path, rows: dict[str, list[float]], binary: bool = True) -> Path:
    matrix = np.array(list(rows.values()), np.float32)
    keyed(list(rows), matrix).save_word2vec_format(str(path), binary=binary)
    return path


def small(rows: dict[str, int]) -> EmojiVectors:
    matrix = np.array([[value, 1] for value in rows.values()], np.float32)
    return EmojiVectors(tuple(rows), matrix, "")


def test_the_default_table_has_a_unit_row_for_every_emoji(table):
    assert list(table.emojis) == all_canonical(keep_variants=True)
    assert table.matrix.shape == (len(table.emojis), 300)
    assert table.matrix.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(table.matrix, axis=1), 1, atol=1e-5)


def test_another_process_builds_the_same_bytes(built, tmp_path):
    again = tmp_path / "again.bin"
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from emojigan.datasets.emojis.vectors.names import build_vectors\n"
        "from emojigan.datasets.emojis.vectors.word2vec import save_vectors\n"
        "save_vectors(build_vectors(), Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", code, str(again)], env=environment, check=True, timeout=120)
    assert again.read_bytes() == built.read_bytes()


@pytest.mark.parametrize(
    ("emoji", "near"), [("😂", "🤣"), ("❤", "💗"), ("🐶", "🐕"), ("✈", "🛫"), ("📸", "📷"), ("🍕", "🧀")]
)
def test_emojis_of_like_meaning_are_near(table, emoji, near):
    rows, _ = match(table, all_canonical())
    emojis = all_canonical()
    closest = np.argsort(-(rows @ rows[emojis.index(emoji)]))[:8]
    assert near in [emojis[i] for i in closest]


def test_a_variant_is_nearest_to_its_own_emoji(table):
    emojis = all_canonical()
    rows, _ = match(table, emojis)
    nearest = (table.matrix @ rows.T).argmax(axis=1)
    own = [emojis[i] == canonical(e) for e, i in zip(table.emojis, nearest, strict=True)]
    assert np.mean(own) > 0.99


@pytest.mark.parametrize("binary", [True, False])
def test_a_file_loads_binary_or_text(tmp_path, binary):
    loaded = load_vectors(write(tmp_path / "v", {"😀": [1, 2, 3], "❤": [4, 5, 6]}, binary))
    assert loaded.emojis == ("😀", "❤")
    np.testing.assert_array_equal(loaded.matrix, np.array([[1, 2, 3], [4, 5, 6]], np.float32))


def test_keys_become_canonical_and_others_are_dropped(tmp_path):
    rows = {"the": [0.0], "✌️": [1.0], "👍🏽": [2.0], "🇺": [3.0], "\u200d": [4.0], "9️⃣": [5.0]}
    loaded = load_vectors(write(tmp_path / "v", rows))
    assert dict(zip(loaded.emojis, loaded.matrix[:, 0], strict=True)) == {"✌": 1, "👍🏽": 2, "9⃣": 5}


@pytest.mark.parametrize(
    ("twins", "winner"), [(["❤", "❤️"], "❤️"), (["❤️", "❤"], "❤️"), (["⚾", "⚾️"], "⚾"), (["⚾️", "⚾"], "⚾")]
)
def test_of_twins_the_fully_qualified_key_wins(tmp_path, twins, winner):
    loaded = load_vectors(write(tmp_path / "v", {key: [float(key == winner)] for key in twins}))
    assert loaded.matrix.tolist() == [[1.0]]


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(InputError, match="emojigan vectors build --out"):
        load_vectors(tmp_path / "vectors.bin")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x80\x04junk", b"2 3\n", "9 2\n😀 1 2\n".encode(), b"1 0\n"]
)
def test_a_file_that_is_not_word2vec_is_refused(tmp_path, content):
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(InputError, match="word2vec"):
        load_vectors(tmp_path / "v")


@pytest.mark.parametrize(
    ("rows", "message"), [({"the": [1.0]}, "vector of an emoji"), ({"😀": [np.nan]}, "NaN")]
)
def test_a_table_that_cannot_serve_is_refused(tmp_path, rows, message):
    with pytest.raises(InputError, match=message):
        load_vectors(write(tmp_path / "v", rows))


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_file_loads_or_is_refused(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    whole = write(folder / "whole", {"😀": [1, 2], "❤️": [3, 4]}, data.draw(st.booleans())).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = folder / "damaged"
    damaged.write_bytes(whole[:at] + data.draw(st.sampled_from([b"", b"\xff", b"0" + whole[at + 1 :]])))
    try:
        loaded = load_vectors(damaged)
    except InputError:
        return
    assert loaded.matrix.shape[0] == len(loaded.emojis) > 0


def test_saving_replaces_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "new" / "v.bin"
    for value in (1, 2):
        save_vectors(keyed(["😀"], np.full((1, 2), value, np.float32)), path)
    assert load_vectors(path).matrix.tolist() == [[2.0, 2.0]]
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = write(tmp_path / "v.bin", {"😀": [1.0]})
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk"):
        save_vectors(keyed(["😀"], np.zeros((1, 1), np.float32)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("wanted", "given_rows", "expected"),
    [
        ("🏃🏿‍♀", {"🏃🏿‍♀": 1, "🏃‍♀": 2, "🏃": 3}, 1),
        ("🏃🏿‍♀", {"🏃": 3, "🏃‍♀": 2}, 2),  # tone removed
        ("🏃🏿‍♀", {"🏃": 3, "😀": 4}, 3),  # and gender
        ("🧑‍🚀", {"👨‍🚀": 5, "🧑": 6}, 5),  # a variant stands for the folded emoji
        ("❤‍🔥", {"🔥": 8, "❤": 7}, 7.5),  # the mean of its parts
        ("👩🏽‍🚀", {"🚀": 2, "👩": 6, "🧑": 9}, 4),  # of those of their own relatives
        ("❤‍🔥", {"🔥": 8, "😀": 7}, 8),  # or of those that there are
    ],
)
def test_the_closest_relative_stands_in(wanted, given_rows, expected):
    rows, missing = match(small(given_rows), [wanted])
    assert (rows[:, 0].tolist(), missing) == ([expected], [])


def test_match_keeps_the_order_of_the_vocabulary_and_reports_the_missing():
    rows, missing = match(small({"😀": 1, "🔥": 2}), ["🔥", "🥺", "😀", "not an emoji"])
    assert rows.dtype == np.float32
    assert (rows[:, 0].tolist(), missing) == ([2, 1], ["🥺", "not an emoji"])


def test_match_of_nothing_keeps_the_dimension():
    rows, missing = match(small({"😀": 1}), [])
    assert (rows.shape, missing) == ((0, 2), [])


ORIGIN = Origin("sum", {"words.bin": "ab"}, {"words": 3, "alpha": 0.5, "emojis": "😀 ❤️"}, ("😀",))


@pytest.mark.parametrize("ending", ["bin", "bin.gz"])
def test_the_origin_is_in_the_file_and_stock_gensim_reads_it(tmp_path, ending):
    path = tmp_path / f"v.{ending}"
    save_vectors(keyed(["😀", "❤"], np.eye(2, dtype=np.float32)), path, ORIGIN)
    loaded = load_vectors(path)
    assert (loaded.origin, loaded.emojis) == (ORIGIN, ("😀", "❤"))
    stock = KeyedVectors.load_word2vec_format(str(path), binary=True)
    assert stock.index_to_key == ["😀", "❤"]
    np.testing.assert_array_equal(stock.vectors, loaded.matrix)


def test_a_file_without_an_origin_has_none(tmp_path):
    assert load_vectors(write(tmp_path / "v", {"😀": [1.0]})).origin is None


def test_the_origin_is_part_of_the_identity(tmp_path):
    hashes = set()
    for method in ("sum", "train"):
        save_vectors(
            keyed(["😀"], np.ones((1, 2), np.float32)), tmp_path / "v", replace(ORIGIN, method=method)
        )
        hashes.add(load_vectors(tmp_path / "v").sha256)
    assert len(hashes) == 2


@pytest.mark.parametrize("damage", [b"{", b'{"method": "sum"}', b"[]", b"\xff", b'{"filled": 1}'])
def test_a_damaged_origin_is_refused(tmp_path, damage):
    path = write(tmp_path / "v", {"😀": [1.0]})
    path.write_bytes(path.read_bytes() + b"\n# emojigan origin " + damage)
    with pytest.raises(InputError, match="origin is damaged"):
        load_vectors(path)


def test_build_without_a_source_writes_the_default_table(built, tmp_path):
    out = tmp_path / "vectors.bin"
    result = CliRunner().invoke(main, ["vectors", "build", "--out", str(out)])
    assert result.exit_code == 0, result.output
    written, expected = load_vectors(out), load_vectors(built)
    assert (written.emojis, written.origin.method) == (expected.emojis, "names")
    np.testing.assert_array_equal(written.matrix, expected.matrix)
    assert f"{len(written.emojis)} emojis, 300 dimensions, sha256 {written.sha256[:12]}" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--method emoji2vec", "--method emoji2vec needs --from"),
        ("--method sum", "needs --words"),
        ("--method train --descriptions d.tsv", "needs --words"),
        ("--method skipgram", "needs --posts"),
        ("--seed 1", "--seed is for --method train or skipgram, not names"),
        ("--method sum --words w --from f", "--from is for --method emoji2vec, not sum"),
        ("--from f --epochs 3", "--epochs is for --method train or skipgram, not emoji2vec"),
        ("--from missing.bin", "missing.bin: no such file"),
        ("--method sum --words missing.bin", "missing.bin: no such file"),
        ("--method train --words words.txt --descriptions missing.tsv", "missing.tsv: no such file"),
        ("--method train --words words.txt --descriptions bad.tsv", 'line 2: write "description TAB emoji"'),
        ("--method sum --words words.txt --descriptions latin.tsv", "not UTF-8"),
        ("--method sum --words words.txt --descriptions none.tsv", "describes no emoji"),
        ("--method sum --words words.txt --descriptions other.tsv", "knows no word"),
        ("--method train --words words.txt --descriptions one.tsv", "training contrasts two"),
        ("--method sum --words bad.tsv", "not a word2vec file"),
        ("--method sum --words nan.txt", "NaN"),
        ("--method skipgram --posts missing.jsonl", "missing.jsonl: no such file"),
        ("--method skipgram --posts posts.jsonl", "lower --min-count"),
        ("--from words.txt", "0 trained emojis"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("2 2\ndog 1 2\ncat 2 1\n")
    Path("nan.txt").write_text("1 2\ndog nan 2\n")
    Path("bad.tsv").write_text("dog\t🐶\ncat 🐱\n", encoding="utf-8")
    Path("latin.tsv").write_bytes(b"caf\xe9\t1\n")
    Path("none.tsv").write_text("dog\tcat\n")
    Path("other.tsv").write_text("chien\t🐶\n", encoding="utf-8")
    Path("one.tsv").write_text("dog\t🐶\n", encoding="utf-8")
    post = {"id": "1", "account": "a", "image": "1.png", "text": "dog 🐶"}
    Path("posts.jsonl").write_text(json.dumps(post) + "\n")
    result = CliRunner().invoke(main, ["vectors", "build", *options.split(), "--out", "v.bin"])
    assert result.exit_code == 2
    assert message in result.stderr
    errors = [line for line in result.stderr.splitlines() if not line.startswith(("reading:", "training:"))]
    assert [line.startswith("Error: ") for line in errors if line] == [True]
    assert not Path("v.bin").exists()
