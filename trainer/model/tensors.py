"""Files of tensors, and what refuses those that are not finite."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from ...datasets.errors import InputError
from ...datasets.store.atomic import telling_where


def not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not tensor.isfinite().all()]


def refuse_not_finite(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Raise InputError, with the name of the first tensor that holds NaN or infinity.

    Args:
        what: is to be written.
    """
    if bad := not_finite(tensors):
        raise InputError(
            f"{what} is not written: {bad[0]} holds NaN or infinity ({len(bad)} of {len(tensors)} tensors). "
            "What was written before is kept. Train into another --out with a lower --learning-rate."
        )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Its library would map the file: for it one that cannot be opened is one that is not there, and one whose
    disk breaks later ends the process.

    Raises:
        SafetensorError: it is damaged.
        OSError: it cannot be read, for the reason that it has.
    """
    with telling_where(path):
        return load(path.read_bytes())


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a new safetensors file, with the permissions that any other file gets there.

    Its library writes without the interpreter, which a training beside it needs all the time.

    Raises:
        OSError: it could not be written, for the reason that it has.
    """
    path.touch()
    permissions = path.stat().st_mode
    try:
        save_file(dict(tensors), path, metadata)
    except SafetensorError as error:
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
    if path.stat().st_mode != permissions:  # some disks have none
        path.chmod(permissions)
