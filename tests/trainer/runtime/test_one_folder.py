"""What another machine has just written is seen, however many new folders lead to it."""

import io
import os
from pathlib import Path

import pytest

from emojigan.trainer.runtime import ranks
from emojigan.trainer.runtime.ranks import comes_to_hold


@pytest.mark.parametrize("new", [1, 2, 3])
def test_what_lies_in_new_folders_is_seen_by_a_client_that_remembers_there_were_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: int
):
    """As one of NFS does: it asks for what is in a folder again when that folder is opened."""
    path = Path(tmp_path, *(["new"] * new), "token")
    path.parent.mkdir(parents=True)
    path.write_text("ours")
    remembered = {path, *path.parents[:new]}

    def open_folder(folder: Path, flags: int) -> int:
        look(folder)
        remembered.difference_update(each for each in [*remembered] if each.parent == folder)
        return original(folder, flags)

    def look(at: Path) -> None:
        if remembered & {at, *at.parents}:
            raise FileNotFoundError(at)

    original, read = os.open, io.open
    monkeypatch.setattr(ranks, "SEEN_WITHIN", 0.0)
    monkeypatch.setattr(os, "open", open_folder)
    monkeypatch.setattr(io, "open", lambda at, *given, **more: (look(Path(at)), read(at, *given, **more))[1])
    assert comes_to_hold(path, "ours")
