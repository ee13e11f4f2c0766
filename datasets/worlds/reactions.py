"""What one person writes under a picture, whole: a mood, a number of draws, and emojis drawn from the mood.

Reactions ─► draw ─► a reaction
          ─► tuples, pairs, probability ─► the truth, exactly

Of a picture of several things they follow from those to each: `looking_at`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import fsum
from typing import Any

import numpy as np

from ..errors import InputError


@dataclass(frozen=True)
class Mood:
    """One way to see a picture."""

    share: float  # of the people, in (0, 1]
    p: Mapping[str, float]  # emoji → probability of a draw; sums to 1


@dataclass(frozen=True)
class Reactions:
    """Everybody draws from one mood; an emoji that is drawn again is still one emoji of the reaction."""

    moods: tuple[Mood, ...]
    draws: tuple[float, ...]  # share of the people who draw once, twice, …; sums to 1

    def draw(self, rng: np.random.Generator) -> tuple[str, ...]:
        """The distinct emojis of a reaction, in the order in which they were drawn."""
        mood = self.moods[rng.choice(len(self.moods), p=[each.share for each in self.moods])]
        number = 1 + rng.choice(len(self.draws), p=self.draws)
        emojis = list(mood.p)
        drawn = rng.choice(len(emojis), size=number, p=list(mood.p.values()))
        return tuple(dict.fromkeys(emojis[each] for each in drawn))

    @cached_property
    def emojis(self) -> tuple[str, ...]:
        """All that may be said."""
        return tuple(dict.fromkeys(emoji for mood in self.moods for emoji in mood.p))

    def tuples(self) -> dict[str, float]:
        """p(emoji | picture) of a tuple: of one emoji of any reaction. Sums to 1.

        An emoji is in a reaction of n draws with probability 1 − (1 − p)ⁿ.
        """
        included = np.zeros(len(self.emojis))
        for share, n, p in self._cases():
            included += share * (1 - (1 - p) ** n)
        return dict(zip(self.emojis, (included / included.sum()).tolist(), strict=True))

    def pairs(self, emojis: Sequence[str]) -> np.ndarray:
        """Of a pair of emojis of any reaction that has one: float64 [V, V], symmetric, sums to 1.

        Both of two are in a reaction of n draws with probability
        1 − (1 − p)ⁿ − (1 − p')ⁿ + (1 − p − p')ⁿ. It is 0 on the diagonal, and all 0 where nobody draws twice.
        """
        both = np.zeros((len(self.emojis), len(self.emojis)))
        for share, n, p in self._cases():
            if n == 1:
                continue
            one, other = p[:, None], p[None]
            neither = (1 - one - other).clip(min=0) ** n
            both += share * (1 - (1 - one) ** n - (1 - other) ** n + neither)
        np.fill_diagonal(both, 0)
        both = both.clip(min=0)  # rounding leaves less than nothing of some
        place = [emojis.index(emoji) for emoji in self.emojis]
        pairs = np.zeros((len(emojis), len(emojis)))
        pairs[np.ix_(place, place)] = both / (both.sum() or 1)
        return pairs

    def probability(self, reaction: Collection[str]) -> float:
        """p(reaction | picture), of a set of distinct emojis: by inclusion and exclusion of its parts."""
        parts = [part for size in range(len(reaction) + 1) for part in combinations(reaction, size)]
        return fsum(
            (-1) ** (len(reaction) - len(part))
            * mood.share
            * share
            * sum(mood.p.get(emoji, 0.0) for emoji in part) ** number
            for mood in self.moods
            for number, share in enumerate(self.draws, start=1)
            for part in parts
        )

    def without(self, emojis: Collection[str]) -> "Reactions":
        """The same of people who never say some emojis."""
        moods = []
        for mood in self.moods:
            left = {emoji: p for emoji, p in mood.p.items() if emoji not in emojis}
            moods.append(Mood(mood.share, {emoji: p / sum(left.values()) for emoji, p in left.items()}))
        return Reactions(tuple(moods), self.draws)

    def _cases(self) -> list[tuple[float, int, np.ndarray]]:
        """Share, number of draws and the probabilities of all emojis, of each mood and number."""
        return [
            (mood.share * share, number, np.array([mood.p.get(emoji, 0.0) for emoji in self.emojis]))
            for mood in self.moods
            for number, share in enumerate(self.draws, start=1)
        ]

    def to_json(self) -> dict[str, Any]:
        """As truth.json has it."""
        return {
            "moods": [{"share": mood.share, "p": dict(mood.p)} for mood in self.moods],
            "draws": [*self.draws],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Reactions":
        """Read that. Raises InputError where it is none."""
        try:
            moods = tuple(Mood(float(each["share"]), dict(each["p"])) for each in content["moods"])
            return cls(moods, tuple(map(float, content["draws"])))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("the reactions of a truth are damaged") from error


LOOKED_AT = (3, 2, 1)  # how many of the people look at the largest thing, the second, the third


def looking_at(things: Sequence[Reactions]) -> Reactions:
    """What people write under a picture of several things, of which each looks at one.

    Args:
        things: what would be written under a picture of each alone, the largest first; they draw as often.
    """
    looks = LOOKED_AT[: len(things)]
    moods = [
        Mood(mood.share * look / sum(looks), mood.p)
        for look, thing in zip(looks, things, strict=True)
        for mood in thing.moods
    ]
    return Reactions(tuple(moods), things[0].draws)


class Composed(Mapping[str, Reactions]):
    """Reactions by the things in a picture, whose names stand in one text, such as "🐶 🍕"."""

    def __init__(self, things: Mapping[str, Reactions], pictures: Collection[str]) -> None:
        self._things, self._pictures = things, pictures

    def __getitem__(self, picture: str) -> Reactions:
        return looking_at([self._things[name] for name in picture.split()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._pictures)

    def __len__(self) -> int:
        return len(self._pictures)
