"""The demo world is what its truth says, whoever makes it and however often that is interrupted."""

import json
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy.stats import chi2

from emojigan.datasets.emojis.text import canonical, extract
from emojigan.datasets.errors import InputError
from emojigan.datasets.posts.post import Post
from emojigan.datasets.posts.read import read_posts
from emojigan.datasets.worlds import photographs
from emojigan.datasets.worlds.demo import demo_world, draw, shoot
from emojigan.datasets.worlds.make import make_world
from emojigan.datasets.worlds.photographs import EMOJIS, PHOTOGRAPHS, photograph, reactions_to
from emojigan.datasets.worlds.truth import Truth
from emojigan.launch.cli import main

POSTS, SEED = 20, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "made"
    make_world(out, demo_world(POSTS, SEED), workers=1)
    return out


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_the_shares_of_moods_and_the_draws_of_each_sum_to_one():
    for name in PHOTOGRAPHS:
        moods = reactions_to(name).moods
        for sums in (sum(mood.share for mood in moods), *(sum(mood.p.values()) for mood in moods)):
            assert sums == pytest.approx(1, abs=1e-12)


def test_truth_is_of_canonical_emojis_at_least_100():
    assert len(EMOJIS) >= 100
    assert [canonical(emoji) for emoji in EMOJIS] == list(EMOJIS)


def test_one_photograph_is_flat_and_one_has_a_single_emoji():
    tuples = {name: reactions_to(name).tuples() for name in PHOTOGRAPHS}
    assert [name for name, p in tuples.items() if len(p) == 1] == ["horse"]
    assert [name for name, p in tuples.items() if len({*p.values()}) == 1 and len(p) > 1] == ["gravel"]


def test_the_other_photographs_have_one_main_emoji_or_two():
    for name in PHOTOGRAPHS.keys() - {"gravel", "horse"}:
        first, second, third, *_ = sorted(reactions_to(name).tuples().values(), reverse=True)
        assert first >= 2 * second or second >= 2 * third


def test_the_other_photographs_have_two_moods_or_three_that_say_different_things():
    for name in PHOTOGRAPHS.keys() - {"gravel", "horse"}:
        moods = reactions_to(name).moods
        assert 2 <= len(moods) <= 3 and all(mood.share >= 0.1 for mood in moods)
        for one, other in combinations(moods, 2):
            assert sum(min(p, other.p.get(emoji, 0.0)) for emoji, p in one.p.items()) < 0.4


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_tuples_of_posts_are_distributed_as_the_truth(name: str):
    of, rng = reactions_to(name), np.random.default_rng(1)
    p = of.tuples()
    counts = Counter(emoji for _ in range(3000) for emoji in of.draw(rng))
    expected = {emoji: counts.total() * share for emoji, share in p.items()}
    assert counts.keys() <= p.keys()
    # Those of a post are distinct, which only lowers the statistic's mean.
    statistic = sum((counts[emoji] - n) ** 2 / n for emoji, n in expected.items())
    assert statistic <= chi2.ppf(1 - 1e-4, max(len(p) - 1, 1))


def test_people_write_several_emojis_of_one_mood_and_some_none():
    posts = [*draw(2000, SEED)]
    for post in posts:
        moods = reactions_to(post.group).moods
        assert len({*post.emojis}) == len(post.emojis)
        assert any(mood.p.keys() >= {*post.emojis} for mood in moods), post
    share = {n: sum(len(post.emojis) == n for post in posts) / len(posts) for n in range(4)}
    assert 0.03 < share[0] < 0.07 and share[2] > 0.25 and share[3] > 0.03


def test_captions_hold_the_drawn_emojis():
    for post in draw(3000, SEED):
        assert tuple(dict.fromkeys(extract(post.text))) == post.emojis, post.text


def test_captions_write_emojis_in_other_forms_and_in_runs():
    text = "".join(post.text for post in draw(3000, SEED))
    assert all(sign in text for sign in ("\ufe0f", "\u200d", "🏽", "♀"))
    assert any(emoji * 3 in text for emoji in EMOJIS)


def test_photographs_are_posted_about_equally_often():
    counts = Counter(post.group for post in draw(3000, SEED))
    assert counts.keys() == PHOTOGRAPHS.keys()
    assert max(counts.values()) < 2.5 * min(counts.values())


def test_few_accounts_post_much_and_many_little():
    counts = sorted(Counter(post.account for post in draw(3000, SEED)).values(), reverse=True)
    assert 200 < len(counts) <= 301
    assert sum(counts[: len(counts) // 5]) > 0.4 * 3000 > sum(counts[len(counts) // 2 :])


def test_post_does_not_tell_its_photograph(made: Path):
    lines = (made / "posts.jsonl").read_text("utf-8").splitlines()
    assert all(json.loads(line).keys() == {"id", "account", "image", "text"} for line in lines)
    ids = [json.loads(line)["id"] for line in lines]
    assert len(set(ids)) == POSTS and all(len(i) == 16 for i in ids)


def test_posts_are_read_as_posts(made: Path):
    posts = list(read_posts([made / "posts.jsonl"]))
    assert len(posts) == POSTS
    assert all(isinstance(post, Post) and post.images[0].read() for post in posts)


def test_truth_file_tells_options_distributions_and_photographs(made: Path):
    told = json.loads((made / "truth.json").read_text("utf-8"))
    assert told["options"] == {"posts": POSTS, "seed": SEED}
    assert told["emojis"] == list(EMOJIS)
    assert told["photographs"] == {name: reactions_to(name).tuples() for name in PHOTOGRAPHS}
    assert told["posts"] == {post.id: post.group for post in draw(POSTS, SEED)}
    truth = Truth.read(made / "truth.json")
    assert truth.reactions == {name: reactions_to(name) for name in PHOTOGRAPHS}


def test_pictures_are_colour_jpegs_of_640_to_1080_pixels(made: Path):
    for path in (made / "photos").iterdir():
        with Image.open(path) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert all(640 <= side <= 1080 for side in picture.size)


def test_pictures_come_in_all_aspects_within_bounds():
    sizes = [shoot(post).size for post in draw(60, SEED)]
    assert {round(width / height, 1) for width, height in sizes} == {0.8, 1.0, 1.3, 1.7}
    assert all(640 <= side <= 1080 for size in sizes for side in size)


def test_every_photograph_opens_in_colour():
    for name in PHOTOGRAPHS:
        assert photograph(name).mode == "RGB"


def test_world_is_the_same_for_any_number_of_workers(made: Path, tmp_path: Path):
    make_world(tmp_path / "again", demo_world(POSTS, SEED), workers=2)
    assert content(tmp_path / "again") == content(made)


def test_interrupted_world_goes_on_to_the_same_end(made: Path, tmp_path: Path):
    out = tmp_path / "resumed"
    whole = content(made)
    kept = sorted(name for name in whole if name.startswith("photos/"))[:7]
    for name in [*kept, "truth.json"]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(whole[name])
    (out / "photos" / ".half.jpg.1.tmp").write_bytes(b"half")
    before = {name: (out / name).stat().st_mtime_ns for name in kept}
    make_world(out, demo_world(POSTS, SEED), workers=1)
    assert content(out) == whole
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == before


def test_killed_run_leaves_no_workers_behind(tmp_path: Path):
    code = f"""if __name__ == "__main__":
    from pathlib import Path
    from emojigan.datasets.worlds.demo import demo_world
    from emojigan.datasets.worlds.make import make_world
    make_world(Path({str(tmp_path / "world")!r}), demo_world(10_000, 0), workers=1)"""
    (tmp_path / "main.py").write_text(code)
    # The workers inherit the pipe: it ends only when the last of them has ended.
    with subprocess.Popen([sys.executable, tmp_path / "main.py"], stdout=subprocess.PIPE) as run:
        while not list((tmp_path / "world" / "photos").glob("*.jpg")):
            assert run.poll() is None
            time.sleep(0.05)
        run.kill()
        assert run.communicate(timeout=10) == (b"", None)


def test_complete_world_is_left_as_it_is(made: Path, capsys: pytest.CaptureFixture[str]):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    make_world(made, demo_world(POSTS, SEED), workers=1)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"posts": POSTS + 1, "seed": SEED}, {"posts": POSTS, "seed": SEED + 1}])
def test_world_of_other_options_is_refused(made: Path, options: dict[str, int]):
    with pytest.raises(InputError, match="choose another folder"):
        make_world(made, demo_world(**options), workers=1)


def test_posts_of_somebody_else_are_left_alone(tmp_path: Path):
    (tmp_path / "posts.jsonl").write_text("{}")
    with pytest.raises(InputError, match="other posts"):
        make_world(tmp_path, demo_world(POSTS, SEED), workers=1)
    assert (tmp_path / "posts.jsonl").read_text() == "{}"


def test_missing_photographs_are_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(photographs, "find_spec", lambda package: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[demo\]'"):
        make_world(tmp_path / "world", demo_world(POSTS, SEED), workers=1)
    assert not (tmp_path / "world").exists()


def test_complete_world_needs_no_photographs(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(photographs, "find_spec", lambda package: None)
    make_world(made, demo_world(POSTS, SEED), workers=1)
    assert "nothing to do" in capsys.readouterr().err


def test_command_says_what_it_made(tmp_path: Path):
    out = tmp_path / "world"
    result = CliRunner().invoke(main, ["world", "make", "--out", str(out), "--posts", "3", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"3 posts of 18 photographs with {len(EMOJIS)} emojis in {out}"
