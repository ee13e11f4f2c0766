"""A server runs: from where it listens to the signal that ends it."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn
from starlette.types import ASGIApp

from ....datasets.errors import InputError

GRACE = 10  # seconds that requests have to be answered after the signal


@contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A socket, and the address at which it is found; port 0 for any that is free.

    Raises:
        InputError: the port is taken, or the host is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise InputError(
            f"Nothing can listen at {host}, port {port}: {error.strerror}. Give another --host or --port."
        ) from error
    # Connections have it from here; asyncio sets it only for sockets that say that they are TCP's. Without it
    # the second packet of an answer waits 40 ms for the client to confirm the first.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with found:
        named = f"[{host}]" if ":" in host else host
        yield found, f"http://{named}:{found.getsockname()[1]}"


def run(app: ASGIApp, at: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT; what is asked by then is answered still."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        ws="none",
    )
    # uvicorn raises the signal again when it is done, and what it did before would end the process with it.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[at])
    finally:
        signal.signal(signal.SIGTERM, before)
