"""Emojis are drawn in colour where there is a font, and not at all where there is none."""

from pathlib import Path

import numpy as np
import pytest

from emojigan.datasets.emojis import glyphs
from emojigan.datasets.emojis.glyphs import emoji_font, glyph


@pytest.mark.parametrize("emoji", ["😍", "❤", "🧑‍🚀", "🇫🇷", "☕"])
def test_glyphs_are_one_square_in_colour(emoji: str):
    pixels = glyph(emoji)
    if pixels is None:
        assert emoji_font() is None
    else:
        assert pixels.shape == (136, 136, 4)
        assert 0.2 < (pixels[..., 3] > 0).mean() < 1
        assert len(np.unique(pixels[pixels[..., 3] == 255], axis=0)) > 10


def test_what_the_font_lacks_has_no_glyph():
    assert glyph("a") is None
    assert glyph("\U0010fffd") is None


def test_an_unusable_font_counts_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "Broken.ttf").write_bytes(b"not a font")
    monkeypatch.setattr(glyphs, "FONT", str(tmp_path / "Broken.ttf"))
    emoji_font.cache_clear()
    assert emoji_font() is None
    emoji_font.cache_clear()
