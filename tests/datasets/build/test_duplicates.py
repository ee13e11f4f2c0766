"""Near-duplicates are found as comparing each with each finds them, and the plan keeps them in one split."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emojigan.datasets.build import duplicates
from emojigan.datasets.build.duplicates import NEAR, near_clusters
from emojigan.datasets.build.options import BuildOptions
from emojigan.datasets.build.plan import Digest, Plan, plan_shards
from emojigan.datasets.shards.layout import SPLITS


def partition(labels) -> set[frozenset[int]]:
    groups = defaultdict(set)
    for position, label in enumerate(labels):
        groups[label].add(position)
    return set(map(frozenset, groups.values()))


def clusters_by_each_with_each(prints: list[int]) -> list[int]:
    labels = list(range(len(prints)))
    for one in range(len(prints)):
        for other in range(one):
            plain = not (prints[one] and prints[other])  # such a picture is like no other
            if not plain and (prints[one] ^ prints[other]).bit_count() <= NEAR:
                labels = [labels[one] if each == labels[other] else each for each in labels]
    return labels


BASES = [0, 2**64 - 1, 0x0123456789ABCDEF, 0xF0F0F0F0F0F0F0F0]
PRINTS = st.builds(
    lambda base, bits: base ^ sum(1 << bit for bit in bits),
    st.sampled_from(BASES),
    st.sets(st.integers(0, 63), max_size=6),
)


@given(st.lists(PRINTS, max_size=40))
@settings(max_examples=300, deadline=None)
def test_clusters_are_those_of_comparing_each_with_each(prints):
    found = near_clusters(np.array(prints, np.uint64))
    assert partition(found.tolist()) == partition(clusters_by_each_with_each(prints))
    assert all(0 <= label < len(prints) for label in found)


@pytest.mark.parametrize("bits", range(NEAR + 3))
def test_no_pair_within_near_bits_is_missed(bits):
    rng = np.random.default_rng(bits)
    base = rng.integers(0, 2**64, 500, np.uint64)
    changes = [
        np.bitwise_or.reduce(np.uint64(1) << rng.choice(64, bits, False).astype(np.uint64)) for _ in base
    ]
    changes = np.array(changes, np.uint64) if bits else np.zeros(500, np.uint64)
    found = near_clusters(np.concatenate([base, base ^ changes]))
    assert np.all((found[:500] == found[500:]) == (bits <= NEAR))


def test_clusters_that_are_joined_bit_by_bit_are_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    flips = rng.integers(0, 64, (2000, 4)).astype(np.uint64)
    prints = np.bitwise_xor.reduce(np.uint64(1) << flips, axis=1)
    expected = near_clusters(prints)
    monkeypatch.setattr(duplicates, "EDGES_AT_ONCE", 50)
    assert partition(near_clusters(prints).tolist()) == partition(expected.tolist())


OPTIONS = BuildOptions(images_per_shard=3, split_by="account")
POSITIONS = {"test": 0, "val": 3 * 2**64 // 20, "train": 2**63}  # of accounts, between 0 and 2^64
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


def to_digests(posts) -> list[Digest]:
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
                near=np.array([BASES[image // 3] ^ 1 << image % 3 for _, image in images], np.uint64),
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
        assert task.images == OPTIONS.images_per_shard or task.split != dict(
            enumerate(each.split for each in plan.tasks)
        ).get(number + 1)
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
