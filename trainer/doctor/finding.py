"""What a check found, and how it is told.

what each rank tells, Told ─► a check's judge ─► Finding ─► a line for people, or one of JSON
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...datasets.printable import printable_json

State = Literal["fine", "warning", "failure", "skipped"]
MARKS: dict[State, str] = {"fine": "ok", "warning": "warn", "failure": "FAIL", "skipped": "-"}


@dataclass(frozen=True)
class Told:
    """What one rank tells in a check."""

    rank: int
    host: str
    facts: dict[str, Any]  # plain values, as JSON has them
    error: str = ""  # why there are no facts


Judge = Callable[[Sequence[Told]], tuple[State, str]]
"""A pure function of what the ranks told, in their order, the first one's first: a state, and a sentence."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    check: str
    state: State
    told: str  # what is so, and where it is not well, what to do
    seconds: float = 0.0

    def line(self) -> str:
        """For people."""
        return f"{MARKS[self.state]:<4}  {self.check:<10}  {self.told}"

    def json(self) -> str:
        """For programs."""
        return printable_json(asdict(self))


def verdict(findings: Sequence[Finding]) -> str:
    """What all checks together come to, in a line."""
    failed, warned = (sum(each.state == state for each in findings) for state in ("failure", "warning"))
    if failed:
        return f"{failed} of {len(findings)} checks failed: mend that before you train."
    if warned:
        return f"It can be trained here; {warned} of {len(findings)} checks warn."
    return "It can be trained here."


def errors(told: Iterable[Told]) -> str:
    """What ranks say that have no facts, the same once; empty where all have."""
    by_error: dict[str, list[int]] = {}
    for each in told:
        if each.error:
            by_error.setdefault(each.error, []).append(each.rank)
    return "; ".join(f"{ranks(numbers)}: {error}" for error, numbers in by_error.items())


def ranks(numbers: Iterable[int]) -> str:
    """Ranks as people name them: "rank 3", "ranks 0-7, 9"."""
    numbers = sorted(numbers)
    return f"rank{'s' if len(numbers) > 1 else ''} {spans(numbers)}"


def spans(numbers: Sequence[int]) -> str:
    """Sorted numbers, those that follow each other as one: "0-7, 9"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in found)


def differences(told: Sequence[Told], key: str) -> str:
    """A fact that is not the same on all ranks: "2.13.0 on ranks 0-7, 2.12.1 on ranks 8-15"; else empty."""
    by_value: dict[str, list[int]] = {}
    for each in told:
        by_value.setdefault(str(each.facts.get(key, "none")), []).append(each.rank)
    if len(by_value) == 1:
        return ""
    return ", ".join(f"{value} on {ranks(numbers)}" for value, numbers in by_value.items())
