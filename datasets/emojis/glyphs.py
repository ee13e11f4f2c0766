"""Emojis as pictures, by the colour font that is installed."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .text import display, name

FONT = "NotoColorEmoji.ttf"
"""Sought by Pillow in the places where systems and users keep their fonts."""

_FONT_SIZE, _SIDE = 109, 136  # [px] the only size of its bitmaps, and how wide they are


@cache
def glyph(emoji: str) -> NDArray[np.uint8] | None:
    """The emoji in colour, RGBA [136, 136, 4]; None if it is unknown or no font can draw it."""
    font = emoji_font()
    if font is None or name(emoji) == emoji:
        return None
    _, top, right, bottom = font.getbbox(display(emoji))
    if bottom <= top:  # newer than the font, which draws nothing for it
        return None
    picture = Image.new("RGBA", (int(right), int(bottom)))
    ImageDraw.Draw(picture).text((0, 0), display(emoji), font=font, embedded_color=True)
    return np.asarray(ImageOps.pad(picture, (_SIDE, _SIDE)))


@cache
def emoji_font() -> ImageFont.FreeTypeFont | None:
    """Noto Color Emoji, if it is installed and Pillow can join the parts of 👩‍🚀 and 🇫🇷."""
    try:
        font = ImageFont.truetype(FONT, _FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
    except OSError:  # not installed, or a build without bitmaps of this size
        return None
    return font if font.layout_engine == ImageFont.Layout.RAQM else None
