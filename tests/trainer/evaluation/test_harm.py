"""What is told of sensitive emojis: shares of like pictures, and whether posts tell them apart."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from emojigan.datasets.stream.held_out import HeldOut
from emojigan.trainer.evaluation.harm import (
    MOST_KINDS,
    RARE_ONES,
    TOGETHER,
    Concern,
    Harm,
    Kind,
    concerns_of,
    weigh,
)
from emojigan.trainer.evaluation.metrics.scene import Scene

SUPPORT = tuple("😍😂🔫💀")
GUN, SKULL = 2, 3


def scene_of(
    kinds: Sequence[int], observed: Sequence[int], posts: Sequence[str] = (), shares: Sequence[float] = ()
) -> Scene:
    """One image a tuple, whose pixels tell its number; each is a post unless they are named."""
    number = len(kinds)
    pixels = torch.arange(number)[:, None, None, None].expand(-1, 3, 4, 4).to(torch.uint8)
    names = tuple(posts) or tuple(f"p{row}" for row in range(number))
    emojis = tuple(SUPPORT[emoji] for emoji in observed)
    held_out = HeldOut(pixels, names, np.arange(number), emojis, np.arange(number))
    return Scene(
        held_out,
        SUPPORT,
        np.array(observed),
        vectors=np.eye(4),
        shares=np.array(shares or [0.5, 0.3, 0.1, 0.1]),
        truth=None,
        groups=np.array(kinds),
    )


def says(gun: float, rows: int) -> np.ndarray:
    """The same under every picture."""
    return np.tile([0.6 * (1 - gun), 0.4 * (1 - gun), gun, 0.0], (rows, 1))


def of_gun(scene: Scene, q: np.ndarray, raw: np.ndarray | None = None, **factors: np.ndarray) -> Concern:
    (concern,) = weigh(scene, q, q if raw is None else raw, {"gun": [GUN]}, factors)
    return concern


def test_shares_are_means_over_the_tuples_of_each_kind():
    scene = scene_of([0, 0, 1, 1], [GUN, 0, 1, 1])
    q = np.array([[0.5, 0.3, 0.2, 0], [0.5, 0.1, 0.4, 0], [1, 0, 0, 0], [0.9, 0, 0.1, 0]])
    raw = np.array([[0.5, 0.5, 0, 0], [0.2, 0.2, 0.6, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    first, second = of_gun(scene, q, raw).shares
    assert (first.count, first.posted, first.true) == (1, 0.5, None)
    assert (first.says, first.raw) == pytest.approx((0.3, 0.3))
    assert (second.count, second.posted) == (0, 0)
    assert (second.says, second.raw) == pytest.approx((0.05, 0))


@pytest.mark.parametrize(
    ("gun", "told"), [(0.9, "it says 🔫 more often than people on 1 of 1 kinds of pictures"), (0.01, "")]
)
def test_what_is_said_more_than_people_post_it_is_a_concern(gun: float, told: str):
    scene = scene_of([0] * 40, [0, 1] * 20)
    concern = replace(of_gun(scene, says(gun, 40)), emojis=("🔫",), label="🔫")
    harm = Harm((Kind(40, ()),), (concern,), (), "none", (), None, ())
    assert harm.concern == told
    assert replace(harm, concerns=(replace(concern, label=RARE_ONES),)).concern == ""
    assert replace(harm, concerns=()).concern == ""


def test_a_world_of_too_many_kinds_of_pictures_is_told_by_clusters_of_like_ones():
    number = MOST_KINDS + 1
    scene = replace(scene_of(range(number), [0] * number), features=np.zeros((number, 2)))
    assert len(of_gun(scene, says(0.1, number)).shares) == 1
    scene = replace(scene_of(range(MOST_KINDS), [0] * MOST_KINDS), features=np.zeros((MOST_KINDS, 2)))
    assert len(of_gun(scene, says(0.1, MOST_KINDS)).shares) == MOST_KINDS


def test_a_training_with_weights_is_expected_to_say_each_emoji_times_its_weight():
    (share,) = of_gun(scene_of([0], [0]), says(0.2, 1), doubled=np.array([1, 1, 2, 1.0])).shares
    assert share.under == pytest.approx((0.4 / 1.2,))


@pytest.mark.parametrize(("gun", "word"), [(0.3, "more"), (0.1, ""), (0.01, "less")])
def test_a_word_says_what_four_hundred_posts_tell_apart(gun: float, word: str):
    observed = [GUN] * 40 + [0] * 360
    (share,) = of_gun(scene_of([0] * 400, observed), says(gun, 400)).shares
    assert share.word == word
    assert share.excess.low < gun - 0.1 < share.excess.high


@pytest.mark.parametrize(("gun", "word"), [(0.01, ""), (0.5, "more")])
def test_what_nobody_posted_in_few_posts_may_be_posted_in_others(gun: float, word: str):
    """Posts drawn again have none of it, ever: their interval alone would call any probability more."""
    (share,) = of_gun(scene_of([0] * 20, [0] * 20), says(gun, 20)).shares
    assert share.word == word


def test_all_of_a_post_is_drawn_together():
    observed = [GUN] * 50 + [0] * 50
    alone = of_gun(scene_of([0] * 100, observed), says(0.5, 100)).shares[0].excess
    of_four = [f"p{row // 25}" for row in range(100)]
    together = of_gun(scene_of([0] * 100, observed, of_four), says(0.5, 100)).shares[0].excess
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_picture_is_the_one_under_which_it_is_said_most():
    q = says(0.1, 5)
    q[3] = says(0.7, 1)
    concern = of_gun(scene_of([0, 0, 1, 1, 1], [0] * 5), q)
    assert (concern.most, concern.caption, int(concern.image[0, 0, 0])) == (0.7, "post p3", 3)


def test_all_sensitive_emojis_come_first_together_and_then_each():
    scene = scene_of([0], [SKULL])
    found, unseen = concerns_of(scene, "😍😂🔫", {"🔫", "💀", "🍆"})
    assert found == {TOGETHER: [GUN, SKULL], "🔫": [GUN], "💀": [SKULL]}  # 💀 was posted, though not learned
    assert unseen == ("🍆",)
    alone, _ = concerns_of(scene, "😍😂🔫", {"🔫"})
    assert [*alone] == ["🔫"]


def test_an_entry_without_skin_tone_stands_for_all_variants():
    held_out = scene_of([0], [0]).held_out
    support = ("😍", "👍", "👍🏽")
    scene = Scene(held_out, support, np.array([0]), np.eye(3), np.array([0.8, 0.1, 0.1]), None, np.array([0]))
    found, unseen = concerns_of(scene, support, {"👍"})
    assert found["👍"] == [1] and found["👍🏽"] == [2] and unseen == ()


def test_rare_emojis_are_the_rarest_twentieth_of_the_training():
    scene = scene_of([0], [0], shares=[0.9, 0.06, 0.03, 0.01])
    assert concerns_of(scene, SUPPORT, ())[0] == {RARE_ONES: [GUN, SKULL]}
    assert concerns_of(scene_of([0], [0]), SUPPORT, ())[0] == {}  # none is as rare
