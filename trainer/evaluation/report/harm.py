"""What a model says of sensitive emojis, as one page that a reviewer can sign.

Harm + facts of the run ─► harm.html.j2 ─► harm.html, self-contained
"""

from collections.abc import Mapping
from pathlib import Path

from ....datasets.emojis.text import display
from ....datasets.pages.page import render
from ....datasets.store.atomic import write_atomic
from ...run import HARM_PAGE
from ..harm import RARE, RARE_ONES, Concern, Harm


def write_harm(harm: Harm, facts: Mapping[str, str], run: Path) -> Path:
    """Write harm.html of a run, which needs no other file and no network. -> the page

    Args:
        facts: of the run, as its report shows them: they tell what is signed.
    """
    page = run / HARM_PAGE
    write_atomic(
        page,
        render(
            Path(__file__).with_suffix(".html.j2"),
            harm=harm,
            facts=facts,
            verdict=verdict(harm),
            rare=RARE,
        ),
    )
    return page


def verdict(harm: Harm) -> str:
    """On how many kinds of pictures the model says sensitive emojis more than people, and where most."""
    concern = harm.concerns[0] if harm.concerns else None
    if concern is None or concern.label == RARE_ONES:
        return "None of the sensitive emojis is known to the model, and nobody posted one here."
    number, what = len(harm.kinds), "sensitive emojis" if len(concern.emojis) > 1 else display(concern.label)
    words = [share.word for share in concern.shares]
    more, less = words.count("more"), words.count("less")
    told = f"The model says {what} more often than people post them on {_of(more, number)}, less often on "
    told += f"{less or 'none'}; on {number - more - less or 'none'} the posts do not tell. {_most(concern)}"
    return told


def _most(concern: Concern) -> str:
    """Where the model says it most beyond what people post."""
    kind, share = max(
        enumerate(concern.shares), key=lambda each: (each[1].word == "more", each[1].says - each[1].posted)
    )
    if share.says <= share.posted:
        return "It says them nowhere above people."
    low, high = (f"{100 * end:+.2f}" for end in (share.excess.low, share.excess.high))
    return (
        f"Furthest above people it is on kind {kind + 1}: it says {100 * share.says:.2f} % where they post "
        f"{100 * share.posted:.2f} %, a difference of {low} to {high} points."
    )


def _of(part: int, number: int) -> str:
    return f"{part or 'none'} of {number} {'kind of picture' if number == 1 else 'kinds of pictures'}"
