"""Near-duplicates follow an image that they are near to, others do not; a plan keeps them in one split."""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.plan import Digest, Plan, plan_shards
from emojigan.datasets.images import duplicates
from emojigan.datasets.images.duplicates import (
    CURVES,
    NEAR,
    NEIGHBOURS,
    VALUES,
    WIDTH,
    fingerprints,
    near_clusters,
)
from emojigan.datasets.images.read import read_image
from emojigan.datasets.shards.layout import SPLITS
from emojigan.datasets.worlds.demo import draw, shoot

from .posted_images import SCREENS, encoded, joined, squares


def angles(prints: np.ndarray) -> np.ndarray:
    """Sine of the angle between each two fingerprints; 1 where one is plain or they are opposites."""
    values = prints[:, :VALUES].astype(np.float64)
    lengths = np.maximum(np.sqrt(np.square(values).sum(1)), 1e-9)
    cosine = values @ values.T / np.outer(lengths, lengths)
    return np.where(cosine > 0, np.sqrt(np.maximum(1 - cosine**2, 0)), 1)


def leaders_by_each_with_each(prints: np.ndarray) -> list[int]:
    apart = angles(prints)
    leaders: list[int] = []
    found = []
    for image in range(len(prints)):
        near = [leader for leader in leaders if apart[image, leader] <= NEAR]
        found.append(near[0] if near else image)
        leaders += [] if near else [image]
    return found


def random_prints(count: int, seed: int) -> np.ndarray:
    return print_of(np.random.default_rng(seed).normal(0, 32, (count, VALUES)))


def print_of(values: np.ndarray) -> np.ndarray:
    reach = np.full((len(values), 1), 1000 * NEAR)
    return np.concatenate([np.rint(values).clip(-127, 127), reach], axis=1).astype(np.int8)


def changed(prints: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Fingerprints at about that sine of an angle to others."""
    noise = np.random.default_rng(seed).normal(0, 32 * share, (len(prints), VALUES))
    return print_of(prints[:, :VALUES] + noise)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6)), max_size=NEIGHBOURS + 1))
@settings(max_examples=300, deadline=None)
def test_few_images_follow_those_that_comparing_each_with_each_finds(images):
    bases = [np.zeros((1, WIDTH), np.int8), *random_prints(3, 0)[:, None]]
    rows = [changed(bases[base], 0.06, seed) if base else bases[0] for base, seed in images]
    prints = np.concatenate([np.empty((0, WIDTH), np.int8), *rows])
    assert near_clusters(prints).tolist() == leaders_by_each_with_each(prints)


def test_every_image_is_near_to_its_representative_however_long_the_chain(monkeypatch):
    monkeypatch.setattr(duplicates, "AT_ONCE", 100)  # blocks that break the chain
    one, other = random_prints(2, 1)[:, :VALUES].astype(np.float64)
    turn = np.linspace(0, np.pi / 2, 2000)[:, None]
    prints = print_of(np.cos(turn) * one + np.sin(turn) * other)
    prints = prints[np.random.default_rng(2).permutation(len(prints))]
    found = near_clusters(prints)
    apart = angles(prints)
    assert (apart[np.arange(len(prints)), found] < NEAR + 1e-6).all()
    assert (found[found] == found).all()
    assert np.pi / 2 / (2 * NEAR) < len(set(found.tolist())) < len(prints) / 10


def test_thousands_of_copies_of_one_image_are_one_cluster(monkeypatch):
    monkeypatch.setattr(duplicates, "AT_ONCE", 100)
    image = random_prints(1, 3)
    prints = np.concatenate([random_prints(1000, 4), image, changed(np.repeat(image, 3000, 0), 0.05, 5)])
    found = near_clusters(prints)
    assert np.array_equal(found[:1001], np.arange(1001))
    assert np.mean(found[1001:] == 1000) > 0.999


def test_copy_is_found_among_very_many_other_images():
    prints = random_prints(2000, 6)
    crowd = changed(np.repeat(prints[:20], 2000, 0), 0.4, 7)  # much alike, as screens of one app are
    found = near_clusters(np.concatenate([prints, crowd, changed(prints, 0.05, 8)]))
    assert np.mean(found[-2000:] == np.arange(2000)) > 0.995
    assert np.array_equal(found[:-2000], np.arange(42_000))


@pytest.mark.parametrize("spread", [0, 0.05, 0.4, 10])
def test_each_image_is_compared_with_so_many_others_at_most(monkeypatch, spread):
    prints = changed(np.repeat(random_prints(1, 9), 5000, 0), spread, 10)
    compared = []
    honest = duplicates._are_near
    monkeypatch.setattr(duplicates, "_are_near", lambda *rows: compared.append(len(rows[0])) or honest(*rows))
    near_clusters(prints)
    assert 0 < sum(compared) <= (CURVES * NEIGHBOURS + 1) * len(prints)


@pytest.fixture(scope="module")
def posted() -> np.ndarray:
    """Different images of each kind, read from their files: int8 [images, WIDTH]."""
    counts = {"card": 1000, "chat": 150, "feed": 150}
    return np.concatenate([fingerprints(squares(kind, count)) for kind, count in counts.items()])


def test_hardly_a_card_or_screen_is_left_out_of_val_and_test(posted):
    """Of all 1,300, which are different, 0.1 % may be taken for another. Their posts have an account each."""
    splits = (
        np.random.default_rng(0).choice(["train", "val", "test"], len(posted), p=[0.8, 0.1, 0.1]).tolist()
    )
    posts = [(number, split, 1, [number], False) for number, split in enumerate(splits)]
    plan = plan_shards(to_digests(posts, posted), OPTIONS)
    kept: Counter[str] = Counter()
    for task in plan.tasks:
        kept[task.split] += len(task.samples)
    lost = Counter(splits) - kept
    assert lost.total() <= 0.001 * len(posted)
    assert plan.crowd[0] <= 2


def test_picture_with_little_in_it_is_like_no_other():
    """A ground, a sky that grows darker, a sensor's noise, one word: nothing tells them from another's."""
    y, x = np.mgrid[:64, :64] / 63
    rng = np.random.default_rng(0)
    word = np.full((64, 64), 240.0)
    word[30:33, 24:40] = 40
    greys = [0 * y + 200, 40 + 200 * y, 60 + 90 * (x + y), 128 + rng.normal(0, 1.5, y.shape), word]
    pixels = np.stack([np.repeat(np.rint(grey)[..., None], 3, axis=2) for grey in greys]).astype(np.uint8)
    prints = fingerprints(np.concatenate([pixels, pixels]))
    assert near_clusters(prints).tolist() == list(range(10))


def test_copies_of_photographs_are_found_among_cards_and_screens(posted):
    shots = [shoot(post) for post in draw(16, seed=5)]
    first = [read_image(encoded(shot, quality=92)) for shot in shots]
    copies = [
        read_image(content)
        for shot in shots
        for content in (
            encoded(shot, quality=30),
            encoded(
                shot.resize((round(shot.width * 0.3), round(shot.height * 0.3)), Image.Resampling.LANCZOS)
            ),
            encoded(shot.point(lambda level: round(level * 0.9)), quality=80),
            encoded(shot, "WEBP", quality=60),
            encoded(shot, "PNG", compress_level=1),
        )
    ]
    found = near_clusters(
        np.concatenate([fingerprints(np.stack(first)), posted, fingerprints(np.stack(copies))])
    )
    assert found[:16].tolist() == list(range(16))
    assert np.mean(found[-len(copies) :] == np.repeat(np.arange(16), 5)) > 0.95


def test_strong_frame_does_not_hide_that_the_text_in_it_is_another():
    cards = squares("card", 300)
    ground = cards[:, :1, :1].copy()
    framed = 255 - np.broadcast_to(ground, cards.shape)
    framed[:, 5:-5, 5:-5] = cards[:, 5:-5, 5:-5]
    found = near_clusters(fingerprints(framed))
    assert np.mean(found != np.arange(300)) < 0.03


@pytest.mark.soak
def test_of_200_000_mixed_images_hardly_any_is_taken_for_another():
    """At most 0.1 % of all, and 0.5 % of each kind, though each image shares a half with some fifty others.

    Each is the upper half of one on the lower half of another of that ground. Of cards some share all but the
    last line.
    """
    kinds = {kind: squares(kind, 2000) for kind in SCREENS}
    shots = islice(draw(10**6, seed=4), 2000)
    kinds["photograph"] = np.stack([read_image(encoded(shoot(post), quality=85)) for post in shots])
    prints = [
        fingerprints(some)
        for kind, pixels in kinds.items()
        for some in joined(pixels, 50_000, on_one_ground=kind != "photograph")
    ]
    found = near_clusters(np.concatenate(prints))
    links = (found != np.arange(200_000)).reshape(4, 50_000)
    assert links.mean() < 0.001, dict(zip(kinds, links.mean(axis=1), strict=True))
    assert links.mean(axis=1).max() < 0.005
    assert np.bincount(found).max() <= 5


OPTIONS = BuildOptions(images_per_shard=3, split_by="account")
POSITIONS = {"test": 0, "val": 3 * 2**64 // 20, "train": 2**63}  # of accounts, between 0 and 2^64
LOOKS = changed(np.repeat(random_prints(4, 11), 3, 0), 0.03, 12)
POSTS = st.lists(
    st.tuples(
        st.integers(0, 30),  # id
        st.sampled_from(SPLITS),
        st.integers(1, 3),  # tuples
        st.lists(st.integers(0, 11), max_size=2, unique=True),  # images; those of equal number // 3 are near
        st.booleans(),  # whether a chunk ends here
    ),
    max_size=40,
)


def to_digests(posts, looks: np.ndarray = LOOKS) -> list[Digest]:
    chunks = [[]]
    for post in posts:
        chunks[-1].append(post)
        if post[4]:
            chunks.append([])
    digests = []
    for number, chunk in enumerate(filter(None, chunks)):
        images = [(row, image) for row, post in enumerate(chunk) for image in post[3]]
        digests.append(
            Digest(
                chunk=number,
                reasons=["used", "without emoji"],
                denied=0,
                bad_images=0,
                outcome=np.array([0 if post[3] else 1 for post in chunk], np.uint16),
                is_post=np.ones(len(chunk), np.bool_),
                id_hash=np.array([post[0] for post in chunk], np.uint64),
                account=np.array([POSITIONS[post[1]] for post in chunk], np.uint64),
                time=np.zeros(len(chunk), np.int64),
                tuples=np.array([post[2] for post in chunk], np.int32),
                post=np.array([row for row, _ in images], np.int32),
                content=np.array([[7, image] for _, image in images], np.uint64).reshape(-1, 2),
                near=np.array([looks[image] for _, image in images], np.int8).reshape(-1, WIDTH),
            )
        )
    return digests


def plan_one_by_one(posts) -> tuple[dict[str, list[list[tuple[int, int]]]], dict[str, int]]:
    """Each split's images in order, as the (post, image) that share each; and what became of the posts."""
    seen: set[int] = set()
    samples, outcome = [], []
    for number, (identity, split, tuples, images, _) in enumerate(posts):
        outcome.append("duplicate id" if identity in seen else "near" if images else "without emoji")
        if identity not in seen:
            seen.add(identity)
            samples += [(number, image, split, tuples) for image in images]
    votes: dict[int, Counter] = defaultdict(Counter)
    for _, image, split, tuples in samples:
        votes[image // 3][split] += tuples
    winner = {near: max(SPLITS, key=lambda split: count[split]) for near, count in votes.items()}
    shards: dict[str, dict[int, list]] = {split: {} for split in SPLITS}
    for number, image, split, _ in samples:
        if split == winner[image // 3]:
            shards[split].setdefault(image, []).append((number, image))
            outcome[number] = "used"
    return {split: list(images.values()) for split, images in shards.items()}, Counter(outcome)


def images_of(plan: Plan, digests: list[Digest], posts) -> dict[str, list[list[tuple[int, int]]]]:
    first_post = np.cumsum([0, *(len(digest.outcome) for digest in digests)])
    found: dict[str, list[list[tuple[int, int]]]] = {split: [] for split in SPLITS}
    for number, task in enumerate(plan.tasks):
        behind = plan.tasks[number + 1 :][:1]  # of the same split and fold: then this one is full
        assert task.images == OPTIONS.images_per_shard or (task.split, task.fold) not in [
            (each.split, each.fold) for each in behind
        ]
        images: list[list[tuple[int, int]]] = [[] for _ in range(task.images)]
        for image, chunk, row in task.samples.tolist():
            digest = digests[chunk]
            post = int(first_post[chunk] + digest.post[row])
            images[image].append((post, int(digest.content[row, 1])))
        found[task.split] += images
    return found


@given(POSTS)
@settings(max_examples=300, deadline=None)
def test_plan_is_that_of_one_post_after_the_other(posts):
    digests = to_digests(posts)
    plan = plan_shards(digests, OPTIONS)
    expected, outcome = plan_one_by_one(posts)
    assert images_of(plan, digests, posts) == expected
    counts = {"read": len(posts), "used": outcome["used"], "without emoji": outcome["without emoji"]}
    near, duplicate = outcome["near"], outcome["duplicate id"]
    counts |= {"near-duplicate in another split": near} if near else {}
    counts |= {"duplicate id": duplicate} if duplicate else {}
    assert plan.posts == counts
    assert plan.bad.total() == duplicate == sum(len(rows) for _, rows in plan.rejects)


@given(POSTS)
@settings(max_examples=100, deadline=None)
def test_what_looks_alike_is_in_one_fold_and_val_and_test_are_as_without_folds(posts):
    digests, step = to_digests(posts), np.uint64(2**58)  # by which accounts of train lie apart
    for each in digests:
        each.account[each.account == 2**63] += step * each.id_hash[each.account == 2**63]
    whole = images_of(plan_shards(digests, OPTIONS), digests, posts)
    plan = plan_shards(digests, replace(OPTIONS, folds=3))
    parts = images_of(plan, digests, posts)
    assert {split: parts[split] for split in ("val", "test")} == {
        split: whole[split] for split in ("val", "test")
    }
    assert {sample for image in parts["train"] for sample in image} <= {
        sample for image in whole["train"] for sample in image
    }
    folds: dict[int, set[int | None]] = defaultdict(set)
    for task in plan.tasks:
        for _, chunk, row in task.samples.tolist():
            digest = next(digest for digest in digests if digest.chunk == chunk)
            folds[int(digest.content[row, 1]) // 3].add(task.fold)
    assert all(len(each) == 1 for each in folds.values())
