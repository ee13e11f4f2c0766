"""Writing a file of a store only where nobody else did meanwhile.

what is there now ─► a condition ─► the file, if the store finds that it still holds

S3 compares as it writes. Some of its servers do not, and other stores cannot: their condition is empty.
"""

import time
from collections.abc import Callable

import fsspec

from .trouble import WAITS

Condition = dict[str, str]  # what is given to fsspec's pipe_file and put_file beside the file


def unless_changed(store: fsspec.AbstractFileSystem, path: str) -> Condition:
    """What lets a store write a file only if what is there now is there still; nothing where none can.

    A large file that replaces another is sent in parts, for which s3fs passes on no such condition.
    """
    if "s3" not in store.protocol:
        return {}
    try:
        # Without its quotation marks: with them Ceph finds every file to be another one, and S3 takes both.
        return {"IfMatch": store.info(path)["ETag"].strip('"')}
    except FileNotFoundError:
        return {"mode": "create"}


def write_if(send: Callable[..., None], condition: Condition, is_ours: Callable[[], bool]) -> bool:
    """Write a file on a condition; return whether it was kept.

    A condition that fails tells little: where an answer is lost the client sends the file again, and it meets
    itself. So it counts as kept if what is there is what was sent.

    Args:
        send: writes the file; is called with the condition.
        is_ours: whether what is there now is what is sent.
    """
    waits = iter(WAITS)
    while True:
        try:
            send(**condition)
            return True
        except OSError as error:
            status = _status(error)
            if status == 501 and condition:  # it knows of no conditions
                condition = {}
            elif status == 409 and (wait := next(waits, 0)):  # Amazon: two at once, try again
                time.sleep(wait)
            elif isinstance(error, FileExistsError) or status == 412 or (status == 404 and condition):
                return is_ours()
            else:
                raise


def _status(error: OSError) -> int | None:
    """What a server of S3 answered; None where it did not, or is of another kind."""
    answer = getattr(error.__cause__, "response", None)
    return answer["ResponseMetadata"]["HTTPStatusCode"] if isinstance(answer, dict) else None
