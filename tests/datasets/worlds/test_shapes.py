"""A world of drawings is what its options say, and the same for the same seed."""

import json
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.stats import chi2

from emojigan.datasets.emojis.text import extract
from emojigan.datasets.errors import InputError
from emojigan.datasets.worlds.make import make_world
from emojigan.datasets.worlds.shapes import SHAPES, SIZE, ShapesOptions, draw_picture, shapes_world
from emojigan.datasets.worlds.truth import TRUTH, Truth
from emojigan.launch.cli import main

OPTIONS = ShapesOptions(posts=4000, seed=5, classes=10, vocabulary=120)


def test_the_texts_hold_what_was_drawn():
    for post in shapes_world(OPTIONS).posts:
        assert tuple(extract(post.text)) == post.emojis


def test_posts_are_distributed_as_the_truth():
    world = shapes_world(replace(OPTIONS, junk=0.1, held_out=6))
    counts: dict[str, Counter] = defaultdict(Counter)
    for post in world.posts:
        counts[post.group].update(post.emojis)
    statistic = freedom = 0
    for group, p in world.probabilities.items():
        expected = {emoji: counts[group].total() * share for emoji, share in p.items()}
        assert counts[group].keys() <= p.keys()
        statistic += sum((counts[group][emoji] - n) ** 2 / n for emoji, n in expected.items())
        freedom += len(p) - 1
    assert statistic <= chi2.ppf(1 - 1e-4, freedom)


def test_some_classes_are_flat_and_some_have_a_single_emoji():
    world = shapes_world(replace(OPTIONS, flat=2, single=3))
    groups = [*world.probabilities.values()]
    assert [len(p) for p in groups[:5]] == [24, 24, 1, 1, 1]
    assert all(len({round(share, 9) for share in p.values()}) == 1 for p in groups[:2])
    assert all(len(p) > 1 for p in groups[5:])


def test_the_others_have_as_many_moods_of_as_many_emojis_as_asked_for():
    world = shapes_world(replace(OPTIONS, moods=4, per_mood=5, skew=2))
    for reactions in [*world.reactions.values()][2:]:
        assert [len(mood.p) for mood in reactions.moods] == [5] * 4
        for mood in reactions.moods:
            first, second, *_ = mood.p.values()
            assert first == pytest.approx(4 * second)


def test_no_post_has_an_emoji_that_is_held_out_and_moods_have_it():
    world = shapes_world(replace(OPTIONS, held_out=8))
    assert len(world.held_out) == 8
    said = {emoji for post in world.posts for emoji in post.emojis}
    meant = {emoji for each in world.reactions.values() for emoji in each.emojis}
    assert not said & {*world.held_out} and meant >= {*world.held_out}
    assert not {emoji for p in world.probabilities.values() for emoji in p} & {*world.held_out}


def test_a_larger_world_has_the_same_truth_and_begins_with_the_same_posts():
    small, large = shapes_world(replace(OPTIONS, posts=40)), shapes_world(replace(OPTIONS, posts=80))
    assert small.reactions == large.reactions
    texts = [[(post.id, post.text) for post in world.posts][:40] for world in (small, large)]
    assert texts[0] == texts[1]


def test_another_seed_makes_another_world():
    one, other = shapes_world(OPTIONS), shapes_world(replace(OPTIONS, seed=6))
    assert one.reactions != other.reactions
    assert next(iter(one.posts)).id != next(iter(other.posts)).id


def test_a_picture_shows_its_class():
    """Its colour is nearer to that of its class than to another."""
    world = shapes_world(replace(OPTIONS, posts=300, classes=96))
    for before, post in pairwise(world.posts):
        picture = draw_picture(OPTIONS.seed, post)
        assert (picture.mode, picture.size) == ("RGB", (SIZE, SIZE))
        assert picture.tobytes() == draw_picture(OPTIONS.seed, post).tobytes()
        assert picture.tobytes() != draw_picture(OPTIONS.seed, before).tobytes()
        hue, saturation, value = (np.asarray(each) for each in picture.convert("HSV").split())
        coloured = (saturation > 150) & (value > 120)  # the ground is grey, or dark
        angle = np.angle(np.exp(2j * np.pi * hue[coloured] / 256).mean()) / (2 * np.pi) * 12
        apart = (angle - int(post.group.split()[1]) + 6) % 12 - 6
        assert abs(apart) < 0.75 and coloured.sum() > 20


def test_outlines_lie_within_a_circle():
    assert len(SHAPES) == 8
    assert all(np.linalg.norm(outline, axis=1).max() <= 1.2 for outline in SHAPES.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 97}, "--classes"),
        ({"vocabulary": 10}, "--vocabulary"),
        ({"vocabulary": 10**6}, "--vocabulary"),
        ({"flat": 6, "single": 5}, "--flat and --single"),
        ({"held_out": 10**4}, "--held-out"),
    ],
)
def test_options_that_do_not_go_together_are_refused(change: dict[str, int], message: str):
    with pytest.raises(InputError, match=message):
        shapes_world(replace(OPTIONS, **change))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "made"
    make_world(out, shapes_world(replace(OPTIONS, posts=40)), workers=1)
    return out


def test_the_same_options_make_the_same_bytes(made: Path, tmp_path: Path):
    make_world(tmp_path / "again", shapes_world(replace(OPTIONS, posts=40)), workers=2)
    for path in made.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(made)).read_bytes() == path.read_bytes()


def test_the_truth_is_read_as_it_was_written(made: Path):
    world, truth = shapes_world(replace(OPTIONS, posts=40)), Truth.read(made / TRUTH)
    assert (truth.reactions, truth.probabilities) == (world.reactions, world.probabilities)
    assert truth.groups == {post.id: post.group for post in world.posts}


def test_pictures_are_jpegs_and_posts_do_not_tell_what_they_show(made: Path):
    lines = [json.loads(line) for line in (made / "posts.jsonl").read_text("utf-8").splitlines()]
    assert all(line.keys() == {"id", "account", "image", "text"} for line in lines)
    with Image.open(made / lines[0]["image"]) as picture:
        assert (picture.format, picture.size) == ("JPEG", (SIZE, SIZE))


def test_the_command_makes_them(tmp_path: Path):
    words = f"world make --kind shapes --out {tmp_path / 'w'} --posts 5 --classes 4 --moods 2 --workers 1"
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 0, result.output
    assert result.stdout == f"5 posts of 4 shapes with 400 emojis in {tmp_path / 'w'}\n"


def test_options_of_shapes_are_none_of_photographs(tmp_path: Path):
    result = CliRunner().invoke(main, ["world", "make", "--out", str(tmp_path / "w"), "--moods", "2"])
    assert (result.exit_code, result.stderr) == (2, "Error: --moods is not of --kind photographs.\n")
    assert not (tmp_path / "w").exists()
