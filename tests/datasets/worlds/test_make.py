"""The demo world is what its truth says, whoever makes it and however often that is interrupted."""

import json
import subprocess
import sys
import time
from collections import Counter
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
from emojigan.datasets.worlds.demo import demo_world, draw, draw_emojis, shoot, systematic
from emojigan.datasets.worlds.make import make_world
from emojigan.datasets.worlds.photographs import EMOJIS, PHOTOGRAPHS, photograph, truth
from emojigan.launch.cli import main

POSTS, SEED = 20, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "made"
    make_world(out, demo_world(POSTS, SEED), workers=1)
    return out


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_every_truth_sums_to_one():
    for name in PHOTOGRAPHS:
        assert sum(truth(name).values()) == pytest.approx(1, abs=1e-12)


def test_truth_is_of_canonical_emojis_at_least_100():
    assert len(EMOJIS) >= 100
    assert [canonical(emoji) for emoji in EMOJIS] == list(EMOJIS)


def test_one_photograph_is_flat_and_one_has_a_single_emoji():
    assert [name for name in PHOTOGRAPHS if len(truth(name)) == 1] == ["horse"]
    flat = [name for name in PHOTOGRAPHS if len(truth(name)) > 1 and len(set(truth(name).values())) == 1]
    assert flat == ["gravel"]


def test_the_other_photographs_have_one_main_emoji_or_two():
    for name in PHOTOGRAPHS.keys() - {"gravel", "horse"}:
        first, second, third, *_ = sorted(PHOTOGRAPHS[name].reactions.values(), reverse=True)
        assert 50 <= first <= 70 or min(first, second) >= 2 * third


@pytest.mark.parametrize("count", [1, 2])
def test_systematic_draw_includes_each_emoji_in_proportion(count: int):
    p = np.array([0.495, 0.005, 0.3, 0.15, 0.05])
    grid = (np.arange(20_000) + 0.5) / 20_000
    drawn = np.array([systematic(p, count, start) for start in grid])
    assert all(len(set(row)) == count for row in drawn.tolist())
    np.testing.assert_allclose(np.bincount(drawn.ravel()) / len(grid), count * p, atol=1e-4)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_drawn_tuples_are_distributed_as_the_truth(name: str):
    p, rng = truth(name), np.random.default_rng(1)
    counts = Counter(emoji for _ in range(4000) for emoji in draw_emojis(rng, p))
    expected = {emoji: counts.total() * share for emoji, share in p.items()}
    assert counts.keys() <= p.keys()
    # Two of a post are distinct, which only lowers the statistic's mean.
    statistic = sum((counts[emoji] - n) ** 2 / n for emoji, n in expected.items())
    assert statistic <= chi2.ppf(1 - 1e-4, max(len(p) - 1, 1))


def test_some_posts_have_two_distinct_emojis_and_some_none():
    drawn = [post.emojis for post in draw(2000, SEED)]
    assert all(len(set(emojis)) == len(emojis) for emojis in drawn)
    share = {n: sum(len(emojis) == n for emojis in drawn) / len(drawn) for n in range(3)}
    assert 0.03 < share[0] < 0.07 and share[2] > 0.1


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
    assert told["photographs"] == {name: truth(name) for name in PHOTOGRAPHS}
    assert told["posts"] == {post.id: post.group for post in draw(POSTS, SEED)}


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


def test_command_says_what_it_made(tmp_path: Path):
    out = tmp_path / "world"
    result = CliRunner().invoke(main, ["world", "make", "--out", str(out), "--posts", "3", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"3 posts of 18 photographs with {len(EMOJIS)} emojis in {out}"
