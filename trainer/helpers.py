"""How many threads of a rank make batches ahead, for whoever does not say.

cores of this node ÷ its ranks ─► one trains, the others help
"""

import os

import torch

from ..datasets.work.cores import usable_cores
from .config import Config

MOST = 4  # two make 350,000 tuples a second and more from raw shards
MOST_ON_CPU = 2  # of cores that train: on two of them one helper is as good


def num_helpers(config: Config) -> int:
    """As the config says, or as the cores of this node allow to each of its ranks."""
    if config.run.helpers is not None:
        return config.run.helpers
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    most = MOST if torch.cuda.is_available() else MOST_ON_CPU
    return min(max(usable_cores() // ranks - 1, 1), most)
