"""Trouble of this machine or of a store, told from damage of the data.

What a file holds, or that it is not there, is a matter of the data, and the same for all who read them. A
full disk, too many open files, a server that does not answer are matters of here and now: what fails for them
is tried again a while later, and when the trouble lasts the command ends and names it.
"""

import errno
import sys
from collections.abc import Callable
from time import sleep
from typing import TypeVar

from tqdm import tqdm

from ..errors import InputError
from ..printable import printable

T = TypeVar("T")
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds, before the second try, the third, …
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # the OSErrors that are no trouble
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of the disk that is written to
BROKEN = (errno.EIO, errno.ESTALE)  # of any disk
_ADVICE = {
    **dict.fromkeys(FULL, "Free space there, or use another place (--out, --cache, or TMPDIR)."),
    errno.EROFS: "Make it writable, or use another place (--out, --cache, or TMPDIR).",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Raise the limit of open files (ulimit -n)."),
}
_told: set[str] = set()


def patiently(attempt: Callable[[], T], place: object) -> T:
    """What `attempt` returns. After an OSError it is tried again, which is told once for each cause.

    Args:
        attempt: tells of damage by other exceptions, which pass through.
        place: what is read, for an error that does not name its file.

    Raises:
        InputError: the trouble lasts.
    """
    for wait in WAITS:
        try:
            return attempt()
        except OSError as error:
            tell(f"{_cause(error, place)}. Trying again for a while.")
            sleep(wait)
    try:
        return attempt()
    except OSError as error:
        raise InputError(explained(error, place)) from error


def explained(error: OSError, place: object) -> str:
    """A line that says what is wrong and what to do.

    Args:
        place: of an error that does not name its file.
    """
    advice = _ADVICE.get(error.errno or 0, "Mend that, and run the same command again.")
    return f"{_cause(error, place)}. {advice}"


def tell(message: str) -> None:
    """Print a line, once a process, without spoiling a progress bar."""
    if message not in _told:
        _told.add(message)
        tqdm.write(printable(message), file=sys.stderr)


def _cause(error: OSError, place: object) -> str:
    said = error.strerror or " ".join(map(str, error.args)) or type(error).__name__
    return f"{error.filename or place}: {said.splitlines()[0].rstrip('.')}"
