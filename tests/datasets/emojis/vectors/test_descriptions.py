"""Vectors from descriptions: sums are sums, and emoji2vec's training is the published one and learns."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from emojigan.datasets.emojis.vectors import descriptions as description_vectors
from emojigan.datasets.emojis.vectors.descriptions import description_loss, fit
from emojigan.datasets.emojis.vectors.word2vec import keyed, load_vectors, save_vectors
from emojigan.launch.cli import main

WORDS = ("dog", "cat", "pet", "sea", "wave", "Water")
DESCRIPTIONS = """dog\t🐶
dog pet\t🐶
Pet cat\t🐱
sea WAVE zyzzyva\t🌊
Water sea\t🏖️
qwerty\t🍕
letter\t🇺
"""
RNG = np.random.default_rng(0)


@pytest.fixture
def files(tmp_path) -> tuple[str, str]:
    """A file of orthogonal words, and one of descriptions."""
    save_vectors(keyed(WORDS, 3 * np.eye(6, 8, dtype=np.float32)), tmp_path / "words.bin")
    (tmp_path / "descriptions.tsv").write_text(DESCRIPTIONS, encoding="utf-8")
    return str(tmp_path / "words.bin"), str(tmp_path / "descriptions.tsv")


def build(method: str, files: tuple[str, str], out: Path, *options: str):
    words, descriptions = files
    arguments = ["--method", method, "--words", words, "--descriptions", descriptions, "--out", str(out)]
    result = CliRunner().invoke(main, ["vectors", "build", *arguments, *options])
    assert result.exit_code == 0, result.output
    return load_vectors(out), result.stdout


def test_an_emoji_is_the_sum_of_its_words_each_once(files, tmp_path):
    vectors, _ = build("sum", files, tmp_path / "v.bin")
    rows = {
        e: {WORDS[i]: value for i, value in enumerate(row) if value}
        for e, row in zip(vectors.emojis, vectors.matrix.tolist(), strict=True)
    }
    assert rows == {
        "🐶": {"dog": 3, "pet": 3},
        "🐱": {"cat": 3, "pet": 3},  # Pet is known in lower case alone
        "🌊": {"sea": 3, "wave": 3},
        "🏖": {"Water": 3, "sea": 3},
    }


def test_what_no_word_vector_is_for_is_told(files, tmp_path):
    vectors, output = build("sum", files, tmp_path / "v.bin")
    assert "words without a vector: 2\n" in output  # zyzzyva, qwerty
    assert "emojis without a known word: 🍕\n" in output
    assert vectors.origin.sources.keys() == {"words.bin", "descriptions.tsv"}


def test_our_own_names_and_keywords_describe_where_no_file_does(files, tmp_path):
    out = tmp_path / "v.bin"
    result = CliRunner().invoke(
        main, ["vectors", "build", "--method", "sum", "--words", files[0], "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    vectors = load_vectors(out)
    assert {"🐶", "🐱", "🌊"} <= set(vectors.emojis)
    dog = dict(zip(WORDS, vectors.matrix[vectors.emojis.index("🐶")], strict=False))
    assert (dog["dog"], dog["pet"], dog["sea"]) == (3, 3, 0)


def test_training_recovers_who_shares_words(files, tmp_path):
    vectors, output = build("train", files, tmp_path / "v.bin", "--epochs", "600")
    np.testing.assert_allclose(np.linalg.norm(vectors.matrix, axis=1), 1, atol=1e-5)
    row = dict(zip(vectors.emojis, vectors.matrix, strict=True))
    assert row["🐶"] @ row["🐱"] > row["🐶"] @ row["🌊"] + 0.3
    assert row["🌊"] @ row["🏖"] > row["🌊"] @ row["🐱"] + 0.3
    facts = vectors.origin.facts
    assert facts["loss of the last epoch"] < 0.3 < facts["loss of the first epoch"]
    assert "epochs: 600\n" in output


def test_the_seed_decides_all(files, tmp_path):
    hashes = [
        build("train", files, tmp_path / f"{i}.bin", "--epochs", "3", "--seed", seed)[0].sha256
        for i, seed in enumerate("001")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_gradient_is_the_papers():
    vectors, fitting, other = (torch.tensor(RNG.normal(size=(5, 7)), requires_grad=True) for _ in range(3))
    loss = description_loss(vectors, fitting, other)
    loss.backward()
    v, f, o = (each.detach().numpy() for each in (vectors, fitting, other))
    yes, no = (1 / (1 + np.exp(-(v * text).sum(axis=1, keepdims=True))) for text in (f, o))
    np.testing.assert_allclose(loss.item(), -(np.log(yes) + np.log(1 - no)).mean() / 2, rtol=1e-12)
    assert vectors.grad is not None
    np.testing.assert_allclose(vectors.grad.numpy(), ((yes - 1) * f + no * o) / 10, rtol=1e-12, atol=1e-15)


def test_vectors_start_evenly_within_a_tenth():
    vectors, losses = fit(np.zeros((50, 200), np.float32), np.arange(50), epochs=0, seed=0)
    assert losses == []
    assert -0.1 <= vectors.min() < -0.099
    assert 0.099 < vectors.max() <= 0.1
    assert vectors.std() == pytest.approx(0.1 / 3**0.5, rel=0.02)


def test_what_does_not_fit_is_drawn_evenly_from_other_emojis(monkeypatch):
    owner = np.array([0, 0, 0, 1, 2, 2])
    drawn = []

    def spy(vectors, fitting, other):
        drawn.extend(zip(fitting.argmax(1).tolist(), other.argmax(1).tolist(), strict=True))
        return description_loss(vectors, fitting, other)

    monkeypatch.setattr(description_vectors, "description_loss", spy)
    fit(np.eye(6, dtype=np.float32), owner, epochs=300, seed=0)
    assert all(owner[text] != owner[other] for text, other in drawn)
    for text in range(6):
        counts = np.bincount([other for each, other in drawn if each == text], minlength=6)
        expected = 300 / (owner != owner[text]).sum() * (owner != owner[text])
        assert np.abs(counts - expected).max() < 40  # four standard deviations
