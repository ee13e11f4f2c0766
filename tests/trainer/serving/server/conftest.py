"""Two servers of one tiny snapshot: as it comes, and one that is strict."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ...model.test_snapshot import make, save
from .serving import Serving, serving

TOKEN = "sésame"


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("served"), make())


@pytest.fixture(scope="session")
def server(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "examples").mkdir()
    Image.new("RGB", (300, 200), "teal").save(folder / "examples" / "teal.png")
    with serving(snapshot, "--examples", str(folder / "examples"), folder=folder) as found:
        yield found


@pytest.fixture(scope="session")
def strict(snapshot: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """It asks for a token, lets nobody wait, takes small bodies, and lets another page ask."""
    words = ["--queue", "0", "--max-body", "50000", "--cors", "https://example.org", "--host", "0.0.0.0"]
    with serving(snapshot, *words, folder=tmp_path_factory.mktemp("strict"), EMOJIGAN_TOKEN=TOKEN) as found:
        yield found
