"""What a process that scores must know: of which model, what is asked, and where it is written.

scores/
  _request.json          the request: what the command that began noted
  000000.parquet         of a part; of shards train/000000.parquet
"""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from ....datasets.errors import InputError
from ....datasets.shards.layout import MANIFEST
from ....datasets.store.folder import Folder
from ...export.asked import load_exported
from ...model.snapshot import Snapshot, load_snapshot
from ..load import finding
from ..model import Model
from .sources import Source

REQUEST = "_request.json"  # what reads a folder of Parquet passes over files whose names begin so


@dataclass(frozen=True)
class Request:
    """All that decides what is written: two folders of the same have the same files."""

    snapshot: str  # digest
    source: str  # identity
    samples: int
    seed: int
    top_k: int
    readings: bool
    deny: tuple[str, ...]
    precision: str  # float32 or bf16


@dataclass(frozen=True)
class Job:
    """What a worker must know."""

    request: Request
    model: str  # an address that it opens
    name: str  # of the model
    most_readings: int | None
    device: str
    out: Folder

    def open(self) -> Model:
        """The model, in this process."""
        return _open(self.model, self.request.snapshot, self.most_readings, self.device)

    @property
    def about(self) -> dict[str, str]:
        """The metadata of each file: emojigan.model, emojigan.snapshot, emojigan.seed, …"""
        content = {"model": self.name, **asdict(self.request)}
        return {
            f"emojigan.{name}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in content.items()
        }

    def begin(self, source: Source) -> None:
        """Refuse what would fail in the work; note what is asked, or refuse a folder of something else."""
        self._refuse(source)
        text = json.dumps(asdict(self.request), ensure_ascii=False, indent=1) + "\n"
        if self.out.size(MANIFEST) is not None:
            raise InputError(f"{self.out} holds a dataset. Choose another --out.")
        if self.out.swap(REQUEST, None, text):
            return
        try:
            noted = json.loads(self.out.read(REQUEST))
        except ValueError as error:
            raise InputError(f"{self.out}/{REQUEST} is damaged. Choose another --out.") from error
        wanted = json.loads(text)
        others = [name for name in wanted if noted.get(name) != wanted[name]]
        if others:
            raise InputError(
                f"{self.out} holds scores of another {' and '.join(others)}. Choose another --out, or remove "
                "it first."
            )

    def _refuse(self, source: Source) -> None:
        model, request = self.open(), self.request
        if source.image_size not in (None, model.image_size):
            raise InputError(
                f"The shards have images of {source.image_size} pixels, and the model sees "
                f"{model.image_size}. Build them with --image-size {model.image_size}, or score the photos "
                "themselves."
            )
        if request.precision != "float32" and not isinstance(model.snapshot, Snapshot):
            raise InputError(f"{self.name} was exported to compute in float32: leave --precision out.")
        model.denied(request.deny)
        if request.readings:  # of any picture, which tells whether there are some
            black = np.zeros((model.image_size, model.image_size, 3), np.uint8)
            model.readings([black], top_k=1, deny=request.deny)


@lru_cache(maxsize=1)
def _open(address: str, digest: str, most_readings: int | None, device: str) -> Model:
    """A model, opened once in each process that works."""
    with finding(address) as found:
        if found.digest != digest:
            raise InputError(f"{address} was changed since it was opened. Run the same command again.")
        if found.is_exported:
            return Model(load_exported(found.snapshot, threads=1), most_readings)
        return Model(load_snapshot(found.snapshot, device), most_readings)
