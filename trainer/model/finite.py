"""Nothing that is not finite is ever written."""

from collections.abc import Mapping

import torch

from ...datasets.errors import InputError


def refuse_not_finite(tensors: Mapping[str, torch.Tensor], what: str) -> None:
    """Raise InputError, with the name of the first tensor that holds NaN or infinity.

    Args:
        what: is to be written.
    """
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise InputError(
            f"{what} is not written: {bad[0]} holds NaN or infinity ({len(bad)} of {len(tensors)} tensors). "
            "What was written before is kept. Train into another --out with a lower --learning-rate."
        )
