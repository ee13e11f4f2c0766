"""A store of their own, for tests that stop it."""

import subprocess
from collections.abc import Iterator

import pytest

from ...stores import moto_server


@pytest.fixture(scope="session")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen, dict[str, str]]]:
    """An S3 server for these tests alone, and what its clients need."""
    with moto_server(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def server(own_server: tuple[subprocess.Popen, dict[str, str]]) -> subprocess.Popen:
    """The process of the server, to be own_server."""
    return own_server[0]


@pytest.fixture(scope="session")
def store(own_server: tuple[subprocess.Popen, dict[str, str]]) -> Iterator[dict[str, str]]:
    """The bucket `bucket` on it, which this process is told of; yields what others must be."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own_server[1].items():
            patch.setenv(name, value)
        yield own_server[1]
