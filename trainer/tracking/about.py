"""What MLflow is told of a run beside its metrics: what it is, what it trains on, who started it."""

import getpass
import hashlib
import json
import os
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ...datasets.printable import printable

if TYPE_CHECKING:  # they have torch with them, which a courier needs not wait for
    from ...datasets.store.folder import Folder
    from ..config import Config
    from ..inputs import Inputs

GIT_WITHIN = 5  # seconds
LONGEST = 500  # characters of a parameter


@dataclass(frozen=True)
class About:
    """What is told of a run."""

    params: dict[str, str]
    tags: dict[str, str]
    description: str  # written once, so that people may change it
    shards: str  # address of the dataset
    digest: str  # SHA-256 of its manifest now
    tuples: int  # in its train split

    @classmethod
    def of(
        cls, config: "Config", inputs: "Inputs", shards: "Folder", plan: str, tags: dict[str, str]
    ) -> "About":
        """That of a training."""
        return cls(
            params={key: _param(value) for key, value in config.flat().items()},
            tags={"dataset": inputs.origin.dataset, "vectors": inputs.vectors_hash, **tags},
            description=f"p(emoji | image) for {len(inputs.vocabulary)} emojis. {plan}",
            shards=str(shards),
            digest=inputs.dataset,
            tuples=inputs.train.num_tuples,
        )

    @property
    def profile(self) -> str:
        """The size of the dataset, as MLflow's page shows it."""
        return json.dumps({"num_rows": self.tuples})

    @property
    def source(self) -> str:
        """Where the dataset lies, as MLflow's page shows it."""
        return json.dumps({"uri": printable(self.shards)})


def _param(value: object) -> str:
    """As MLflow keeps it: it would cut a long one, and the run would seem to be of another config."""
    told = str(value)
    return told if len(told) <= LONGEST else f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"


def how_started() -> dict[str, str]:
    """The command of this process, and the versions that it runs, as far as they are known."""
    started = {"command": printable(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))}
    started |= {"revision": revision} if (revision := _revision()) else {}
    for name in ("emojigan", "torch", "numpy"):
        with suppress(PackageNotFoundError):  # it may lie on the path without being installed
            started[name] = version(name)
    return started


def of_this_start() -> dict[str, str]:
    """Tags of who started this process, where and how, and of the code's revision where it is known."""
    started = how_started()
    tags = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": started["command"],
        "mlflow.user": _user(),
        "host": socket.gethostname(),
    }
    return tags | ({"mlflow.source.git.commit": started["revision"]} if "revision" in started else {})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return str(os.getuid())


def _revision() -> str | None:
    """The revision of the checkout that this file is in; None where git has none of it."""
    here = Path(__file__).resolve()
    git = ["git", "-C", str(here.parent)]
    try:
        # A package that is installed inside somebody's own checkout is none of its files.
        for words in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
            done = subprocess.run(
                [*git, *words], capture_output=True, text=True, timeout=GIT_WITHIN, check=True
            )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
