"""The first line of a photo says the mode, or which emojis are not told apart."""

import pytest

from emojigan.launch.commands.predict import _mode


def rows(emojis: str, latents: int = 4096) -> list[dict]:
    return [{"emoji": each, "p": 0.234, "low": 0.21, "high": 0.25, "latents": latents} for each in emojis]


def test_a_mode_is_told_with_its_interval():
    assert _mode(rows("😍"), of_rest=False) == "mostly 😍: 23% [21, 25] of what people write"


def test_of_what_is_left_by_a_deny_list_it_is_said_so():
    assert _mode(rows("😍"), of_rest=True).endswith(" of what else people write")


@pytest.mark.parametrize(
    ("emojis", "latents", "told"),
    [
        ("😍🔥", 4096, "😍 and 🔥 are not told apart by 4,096 latents"),
        ("😍🔥😂🐶", 50, "😍, 🔥, 😂 and 🐶 are not told apart by 50 latents"),
        ("😍🔥😂🐶🌊🎉", 1, "😍, 🔥, 😂, 🐶 and others are not told apart by 1 latent"),
    ],
)
def test_without_a_mode_a_few_of_the_likeliest_are_named(emojis: str, latents: int, told: str):
    assert _mode(rows(emojis, latents), of_rest=False) == f"no mode: {told}"
