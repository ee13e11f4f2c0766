"""A Slurm for the tests of this room."""

from collections.abc import Iterator

import pytest

from .slurm import Slurm, slurm_cluster


@pytest.fixture(scope="package")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm
