"""A world of things tells of each picture by what is in it."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from emojigan.datasets.emojis import glyphs
from emojigan.datasets.emojis.text import extract
from emojigan.datasets.errors import InputError
from emojigan.datasets.worlds import composites
from emojigan.datasets.worlds.composites import (
    SIZE,
    CompositesOptions,
    composites_world,
    draw_picture,
    drawable,
)
from emojigan.datasets.worlds.make import make_world
from emojigan.datasets.worlds.reactions import LOOKED_AT
from emojigan.datasets.worlds.truth import TRUTH, Truth

OPTIONS = CompositesOptions(posts=3000, seed=5, vocabulary=60)
NEEDS_FONT = pytest.mark.skipif(glyphs.emoji_font() is None, reason="needs the font Noto Color Emoji")


@NEEDS_FONT
def test_the_texts_hold_what_was_drawn():
    for post in composites_world(OPTIONS).posts:
        assert tuple(extract(post.text)) == post.emojis


@NEEDS_FONT
def test_posts_are_distributed_as_the_truth():
    world = composites_world(OPTIONS)
    posts = [*world.posts]
    truth = Truth.of(world, posts)
    seen, expected = Counter(), Counter()
    for post in posts:
        seen.update(post.emojis)
        for emoji, p in truth.probabilities[post.group].items():
            expected[emoji] += len(post.emojis) * p
    assert seen.keys() <= expected.keys()
    statistic = sum((seen[emoji] - n) ** 2 / n for emoji, n in expected.items())
    assert statistic <= chi2.ppf(1 - 1e-4, len(expected) - 1)


@NEEDS_FONT
def test_of_several_things_the_larger_are_looked_at_more():
    world = composites_world(OPTIONS)
    one, other = [*world.things][:2]
    reactions = Truth.of(world, [replace(next(iter(world.posts)), group=f"{one} {other}")]).reactions
    moods = reactions[f"{one} {other}"].moods
    first, second = world.things[one].moods, world.things[other].moods
    assert [mood.p for mood in moods] == [mood.p for mood in (*first, *second)]
    shares = [sum(mood.share for mood in each) for each in (moods[: len(first)], moods[len(first) :])]
    assert shares[0] / shares[1] == pytest.approx(LOOKED_AT[0] / LOOKED_AT[1])


@NEEDS_FONT
def test_there_are_pictures_of_one_two_and_three_things_and_none_twice():
    groups = [post.group.split() for post in composites_world(OPTIONS).posts]
    assert {len(group) for group in groups} == {1, 2, 3}
    assert all(len({*group}) == len(group) for group in groups)


@NEEDS_FONT
def test_a_picture_is_of_its_things():
    """The same picture with another thing in it differs there, and has the same ground."""
    world = composites_world(OPTIONS)
    post = next(each for each in world.posts if " " not in each.group)
    other = next(name for name in world.things if name != post.group)
    one, another = (
        np.asarray(draw_picture(5, each)).astype(int) for each in (post, replace(post, group=other))
    )
    assert one.shape == (SIZE, SIZE, 3)
    same = (one == another).all(axis=2).mean()
    assert 0.4 < same < 0.95


@NEEDS_FONT
def test_the_same_seed_makes_the_same_bytes_and_the_truth_is_read_as_it_was_written(tmp_path: Path):
    options = replace(OPTIONS, posts=12)
    for name in ("one", "other"):
        make_world(tmp_path / name, composites_world(options), workers=1)
    one, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "other")
    )
    assert one == other
    world = composites_world(options)
    posts = [*world.posts]
    truth, read = Truth.of(world, posts), Truth.read(tmp_path / "one" / TRUTH)
    assert (dict(read.groups), dict(read.reactions)) == (dict(truth.groups), dict(truth.reactions))
    assert dict(read.probabilities) == dict(truth.probabilities)
    assert sum(read.probabilities[posts[0].group].values()) == pytest.approx(1)


@NEEDS_FONT
def test_a_larger_world_begins_with_the_same_posts():
    small, large = (composites_world(replace(OPTIONS, posts=number)) for number in (40, 80))
    texts = [[(post.id, post.group, post.text) for post in world.posts][:40] for world in (small, large)]
    assert small.things == large.things
    assert texts[0] == texts[1]


@NEEDS_FONT
def test_all_that_the_font_draws_can_be_in_it_and_no_more():
    everything = replace(OPTIONS, vocabulary=len(drawable()))
    assert {*composites_world(everything).emojis} == {*drawable()}
    for number in (5, len(drawable()) + 1):
        with pytest.raises(InputError, match="--vocabulary: it can be"):
            composites_world(replace(OPTIONS, vocabulary=number))


def test_without_a_font_it_says_which_one_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(glyphs, "FONT", "NoSuchFont.ttf")
    caches = (glyphs.emoji_font, glyphs.glyph, drawable)
    try:
        for cached in caches:
            cached.cache_clear()
        with pytest.raises(InputError, match="fonts-noto-color-emoji"):
            composites_world(OPTIONS)
    finally:
        for cached in caches:
            cached.cache_clear()


@NEEDS_FONT
def test_a_font_that_draws_other_emojis_makes_another_world(monkeypatch: pytest.MonkeyPatch):
    here = composites_world(OPTIONS).options
    fewer = drawable()[:-5]
    monkeypatch.setattr(composites, "drawable", lambda: fewer)
    assert composites_world(OPTIONS).options != here


@NEEDS_FONT
def test_a_truth_with_a_thing_that_is_not_known_is_refused(tmp_path: Path):
    world = composites_world(replace(OPTIONS, posts=3))
    truth = Truth.of(world, [*world.posts])
    replace(truth, groups={"a": "🐶 nothing"}).write(tmp_path / TRUTH, world)
    with pytest.raises(InputError, match="is not the truth of a world"):
        Truth.read(tmp_path / TRUTH)
