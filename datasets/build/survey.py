"""A first look at a source: how many posts, and hashes of them, before anything is written.

Source ─► chunks ─► survey_posts ─► Survey, or an InputError where too much is bad
"""

import hashlib
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ..errors import InputError
from ..posts.limits import SHOWN, check_broken, too_bad
from ..posts.outcomes import BROKEN_FILES
from ..posts.post import Post, Reject
from ..posts.read import read_posts
from ..printable import printable
from ..work.progress import progress
from .digest import Chunk
from .options import BuildOptions

CHUNK = 512  # posts


@dataclass(frozen=True)
class Source:
    """Where posts come from."""

    paths: Sequence[Path]
    form: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)

    def chunks(self) -> Iterator[Chunk]:
        """The posts, in their order, by CHUNK."""
        posts = read_posts(self.paths, self.form, self.columns)
        number = 0
        while entries := tuple(islice(posts, CHUNK)):
            yield Chunk(number, entries)
            number += 1


@dataclass(frozen=True)
class Survey:
    """A first look at a source."""

    num_posts: int
    broken: Counter[str]  # broken files and parts of files, by reason: each stands where posts would
    fingerprints: list[str]  # of the chunks
    content: str  # hash of the posts without their paths: a copy of them elsewhere has the same

    @property
    def num_entries(self) -> int:
        """Posts, and what stands where posts would."""
        return self.num_posts + self.broken.total()


def survey_posts(
    source: Source, options: BuildOptions, max_bad: float, skip_broken: Collection[int | str]
) -> Survey:
    """Count and hash the posts.

    Raises:
        InputError: a file is broken, too many of the entries are no posts at all, or they lack the time that
            splits them.
    """
    content = hashlib.sha256()
    fingerprints = []
    num_entries = without_time = 0
    bad: Counter[str] = Counter()
    first: list[Reject] = []
    broken: Counter[str] = Counter()
    files: dict[str, str] = {}
    denied: set[str] = set()  # accounts of the deny list that posts are of
    with progress(None, "reading", "posts") as bar:
        for chunk in source.chunks():
            fingerprints.append(chunk.fingerprint(options))
            content.update(chunk.content(options))
            for entry in chunk.entries:
                if isinstance(entry, Post):
                    if account := options.deny.account_of(entry):
                        denied.add(account)
                    without_time += bool(entry.images) and entry.time is None
                elif entry.reason in BROKEN_FILES:
                    broken[entry.reason] += 1
                    files.setdefault(entry.file, entry.reason)
                else:
                    bad[entry.reason] += 1
                    first += [entry][: 3 - len(first)]
            num_entries += len(chunk.entries)
            bar.update(len(chunk.entries))
    check_broken(files, skip_broken)
    num_posts = num_entries - broken.total()
    if bad.total() > max_bad * num_posts:
        raise too_bad(bad, num_posts, max_bad, first)
    if options.split_by == "time" and without_time:
        raise InputError(
            f"{without_time:,} of {num_posts:,} posts have no time that can be read. Name a table's column "
            "with --column time=…, leave these posts out, or choose another --split-by."
        )
    _tell_unknown([account for account in options.deny.accounts if account not in denied])
    return Survey(num_posts, broken, fingerprints, content.hexdigest())


def _tell_unknown(accounts: list[str]) -> None:
    """Say so when accounts of the deny list are nobody's: they may be called otherwise here."""
    if accounts:
        named = ", ".join(f"@{account}" for account in accounts[:SHOWN])
        print(
            f"{len(accounts)} accounts of the deny list are nobody's here: {printable(named)}"
            f"{', …' if len(accounts) > SHOWN else ''}. An archive's are called as in @x/12345 or "
            "@mastodon/https://m.social/users/ann.",
            file=sys.stderr,
        )
