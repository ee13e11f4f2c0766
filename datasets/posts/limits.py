"""How bad a source may be: files that cannot be read, and the share of posts that cannot be used.

Files that cannot be read stop the work on a source, unless somebody who knows of them allows it.
Nobody can say how many posts were in such a file: a tar that was cut in its first half may have lost ten
thousand. So the share of bad posts, which `--max-bad` limits, says nothing of it.
"""

from collections import Counter
from collections.abc import Collection, Mapping

from ..errors import InputError
from .post import Reject

SHOWN = 3  # files that a message names


def check_broken(broken: Mapping[str, str], skip: Collection[int | str]) -> None:
    """Refuse broken files, unless they are to be skipped.

    Args:
        broken: why a file is broken, by its path or URL.
        skip: those to go on without, as `broken` has them, and how many others.

    Raises:
        InputError: names the first of the files that are not to be skipped.
    """
    others = {file: reason for file, reason in broken.items() if file not in skip}
    if len(others) > max((each for each in skip if isinstance(each, int)), default=0):
        named = [f"{file}: {reason}" for file, reason in others.items()]
        more = [f"{len(named) - SHOWN} more"] if len(named) > SHOWN else []
        raise InputError(
            f"{len(named)} broken files, whose posts cannot be counted ({'; '.join(named[:SHOWN] + more)}). "
            f"Copy them again, or go on without what cannot be read of them: --skip-broken {len(named)}, or "
            "--skip-broken FILE for each."
        )


def too_bad(
    bad: Counter[str], num_posts: int, max_bad: float, first: list[Reject], more: str = ""
) -> InputError:
    """What to raise where more posts are bad than may be; names the first."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(bad.items()))
    named = "; ".join(f"{reject.where}: {reject.reason}" for reject in first[:3])
    return InputError(
        f"{bad.total()} of {num_posts} posts are bad ({reasons}), more than --max-bad {max_bad:g} allows: "
        f"{named}.{more}"
    )
