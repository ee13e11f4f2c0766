"""What is examined: a training that is about to be started, on the ranks that are there."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...datasets.store.folder import Folder
from ..config import Config, RunConfig
from ..inputs import Inputs, read_inputs
from ..run import CHECKPOINTS, read_origin, steps_in
from ..training.checkpoint import Identity, check_resumable, read_networks
from ..validation import read_val
from .meeting import Meeting


@dataclass
class Examined:
    """What is asked for, and what checks find that later ones go on with."""

    meeting: Meeting
    settings: RunConfig
    settle: Callable[[], Config]  # the whole config, with what the dataset makes of it
    shards: Folder
    vectors: Path
    run: Path
    mlflow: "subprocess.Popen[str] | None" = None  # tries it; see `tracking`
    config: Config | None = None
    inputs: Inputs | None = None
    step_seconds: float = 0.0
    kept: str = ""  # that the images are kept on the device, or nothing
    warmed: Callable[[], object] = lambda: None  # waits until what compiles is imported

    def read(self) -> Inputs:
        """Read what a training reads before its first step, for the checks behind, too.

        Raises:
            InputError: it cannot be trained on, or not with these words.
        """
        self.config = self.settle()
        origin = read_origin(self.run) if steps_in(self.run / CHECKPOINTS) else None
        self.inputs = inputs = read_inputs(self.config, self.shards, self.vectors, origin)
        read_val(inputs)
        identity = Identity.of(self.config, inputs.dataset, inputs.vectors_hash)
        check_resumable(self.run / CHECKPOINTS, identity, inputs.lineage)
        if origin is None and self.config.run.init_from:
            read_networks(Path(self.config.run.init_from), ["generator"])
        return inputs

    def known(self) -> tuple[Config, Inputs]:
        """What was read."""
        assert self.config is not None and self.inputs is not None
        return self.config, self.inputs
