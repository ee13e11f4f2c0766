"""Where the trials of a sweep are kept: a journal in its folder, or a PostgreSQL database.

Each line of the journal is a change of a trial. A full disk cuts one off in the middle, and what is written
behind that could not be read by anybody. So whoever has the journal's lock takes away what is no whole line,
before he writes, and after that.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ...datasets.errors import InputError

PASSWORDS = {"password", "sslpassword"}  # in the query of an address


def check_address(address: str) -> None:
    """Refuse a place in which trials are not safe.

    Raises:
        InputError: it is no PostgreSQL, or its password would be written down.
    """
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise InputError(f"--storage: no address of a database: {error}.") from error
    if parts.password or PASSWORDS & parse_qs(parts.query).keys():
        raise InputError(
            "Leave the password out of --storage, for it would stand in sweep.yaml. PGPASSWORD or ~/.pgpass "
            "gives it to each worker."
        )
    if not address.startswith("postgresql://"):
        raise InputError(
            f"--storage {address}: give postgresql://…, or leave it out for a journal file. sqlite is no "
            "place for several workers: it ran a trial twice, and ended a worker with `database is locked`."
        )


def open_database(address: str) -> BaseStorage:
    """A database, with the tables that trials need.

    Raises:
        InputError: it cannot be reached, or not be used.
    """
    driver = address.replace("postgresql://", "postgresql+psycopg2://", 1)
    try:
        return RDBStorage(driver, engine_kwargs={"pool_pre_ping": True})
    except (SQLAlchemyError, ValueError) as error:
        raise InputError(f"{address} cannot be used: {_reason(error)}.") from error


@contextmanager
def answering(address: str | None) -> Iterator[None]:
    """Make an InputError of it where a database goes away meanwhile."""
    try:
        yield
    except StorageInternalError as error:
        raise InputError(
            f"{address} cannot be used any more: {_reason(error.__cause__ or error)}. Run the same command "
            "again when it can: what was trained is kept."
        ) from error


def _reason(error: BaseException) -> str:
    told = error.orig if isinstance(error, DBAPIError) else error
    return str(told).strip().splitlines()[0].rstrip(".")


def open_journal(path: Path) -> BaseStorage:
    """A file of its own, which is made where there is none; on a disk that all workers see."""
    return JournalStorage(_Journal(path))


class _Journal(JournalFileBackend):
    """Optuna's journal, which says what to do where a line of it is damaged."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _WholeLines(path))
        self._path = path

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        try:
            yield from super().read_logs(log_number_from)
        except ValueError as error:
            raise InputError(
                f"{self._path} has a damaged line, and what stands behind it cannot be read. Put back a copy "
                "from before, or create another sweep: what was trained is kept."
            ) from error


class _WholeLines(JournalFileOpenLock):
    """Optuna's lock of a journal; who gets it finds whole lines alone, and leaves such.

    It is a file, and that of a worker that was killed is taken away after 30 s. Optuna's other kind is a link
    to the journal by the path that it was opened with: where that leads nowhere from the link, as a relative
    one does, all wait without end.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal = journal

    def acquire(self) -> bool:
        super().acquire()
        try:
            _cut(self._journal)
        except BaseException:
            super().release()
            raise
        return True

    def release(self) -> None:
        try:
            _cut(self._journal)
        finally:
            super().release()


def _cut(journal: Path) -> None:
    """Take away what is behind the last whole line."""
    with open(journal, "r+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
