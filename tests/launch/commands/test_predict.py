"""The first line of a photo says the mode, or which emojis are not told apart."""

import pytest

from emojigan.launch.commands.predict import _mode
from emojigan.trainer.serving.model import Answer, Estimated


def said(emojis: str, latents: int = 4096) -> Answer:
    likeliest = tuple(Estimated(each, 0.234, 0.21, 0.25) for each in emojis)
    return Answer(likeliest, likeliest, latents)


def test_a_mode_is_told_with_its_interval():
    assert _mode(said("😍"), of_rest=False) == "mostly 😍: 23% [21, 25] of what people write"


def test_of_what_is_left_by_a_deny_list_it_is_said_so():
    assert _mode(said("😍"), of_rest=True).endswith(" of what else people write")


@pytest.mark.parametrize(
    ("emojis", "latents", "told"),
    [
        ("😍🔥", 4096, "😍 and 🔥 are not told apart by 4,096 latents"),
        ("😍🔥😂🐶", 50, "😍, 🔥, 😂 and 🐶 are not told apart by 50 latents"),
        ("😍🔥😂🐶🌊🎉", 1, "😍, 🔥, 😂, 🐶 and others are not told apart by 1 latent"),
    ],
)
def test_without_a_mode_a_few_of_the_likeliest_are_named(emojis: str, latents: int, told: str):
    assert _mode(said(emojis, latents), of_rest=False) == f"no mode: {told}"
