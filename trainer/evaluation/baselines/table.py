"""What a run can be compared with, by the names that `emojigan evaluate --baselines` takes."""

from .baseline import Baseline
from .classifier import classifier
from .cooccurrence import cooccurrence
from .independent import independent
from .marginal import marginal
from .neighbours import neighbours
from .tied import tied
from .variational import variational
from .zero_shot import zero_shot

BASELINES: dict[str, Baseline] = {
    "classifier": classifier,
    "co-occurrence": cooccurrence,
    "neighbours": neighbours,
    "tied": tied,
    "variational": variational,
    "zero-shot": zero_shot,
    "marginal": marginal,
    "independent": independent,
}
"""In the order in which tables show them."""

ALWAYS = ("classifier", "marginal")  # by whose trunk images are told apart; and what a champion must beat
USUAL = (*ALWAYS, "co-occurrence", "neighbours", "independent")
