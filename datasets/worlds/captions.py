"""Captions of the demo world: emojis ─► caption ─► text as people type it."""

import numpy as np

REPEATED = 0.15  # share of the emojis that come as a run
AS_TYPED = 0.4  # share of the emojis in another form than the canonical one, of those that have one
TAGGED = 0.3  # share of the captions with hashtags

SENTENCES = (
    "{}",
    "{} good morning everyone",
    "Weekend mood {}!",
    "can't get over this {}",
    "no words. {} just this",
    "what a day... {}",
    "throwback to last summer {} take me back!!",
    "so so happy {}",
    "Found this on my camera roll {} what do you think?",
    "best. day. ever. {}",
    "#1 of 2024 {} and counting",
    "monday again{}",
    "qué maravilla {}",
    "{}enfin les vacances",
    "{} & chill :)",
)
HASHTAGS = ("#photooftheday", "#instagood", "#nofilter", "#picoftheday", "#throwback", "#weekendvibes")

STYLED = "❤☀☕👁🏍🏛🏙🏖🏞🛠🛰"  # keyboards append U+FE0F to these
VARIANTS = {
    "🙌": ("🙌🏻", "🙌🏾"),
    "👏": ("👏🏽", "👏🏿"),
    "🙏": ("🙏🏼", "🙏🏿"),
    "👌": ("👌🏻", "👌🏽"),
    "👍": ("👍🏼", "👍🏾"),
    "💪": ("💪🏽", "💪🏿"),
    "🏃": ("🏃‍♀️", "🏃🏾", "🏃🏼‍♂️"),
    "🚶": ("🚶‍♀️", "🚶🏽"),
    "🤷": ("🤷‍♀️", "🤷🏻‍♂️", "🤷🏽"),
    "🧘": ("🧘‍♀️", "🧘🏾‍♂️"),
    "👷": ("👷‍♀️", "👷🏽"),
    "🧑‍🚀": ("👩‍🚀", "👨🏽‍🚀"),
}


def caption(rng: np.random.Generator, emojis: tuple[str, ...]) -> str:
    """A text with these emojis and no others, that says nothing of the picture; it may be empty."""
    typed = (" " if rng.random() < 0.5 else "").join(_typed(rng, emoji) for emoji in emojis)
    text = SENTENCES[rng.integers(len(SENTENCES))].format(typed).strip()
    if rng.random() < TAGGED:
        text += "\n.\n" + " ".join(rng.choice(HASHTAGS, rng.integers(1, 4), replace=False))
    return text


def _typed(rng: np.random.Generator, emoji: str) -> str:
    """The emoji as a keyboard writes it, now and then in another form, or several times."""
    if rng.random() < AS_TYPED:
        variants = VARIANTS.get(emoji) or (emoji + "\ufe0f" if emoji in STYLED else emoji,)
        emoji = variants[rng.integers(len(variants))]
    return emoji * (int(rng.integers(2, 5)) if rng.random() < REPEATED else 1)
