"""What a server bears: who may ask, how much it reads and for how long, and how many may wait.

request ─► token ─► place in the queue ─► body, counted as it comes ─► what is asked
"""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER = 2.0  # seconds for which a body is read on that nobody wants


@dataclass(frozen=True)
class Limits:
    """What is refused."""

    max_body: int  # bytes
    queue: int  # requests that wait for their turn, or for their bodies to come
    patience: float  # seconds, in which a body has to come
    token: str | None  # that who asks has to know; None where anybody may ask


def check_token(request: Request, token: str | None) -> None:
    """Refuse who does not know the token; how long that takes does not tell how much of it was right."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    known = token is None or hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
    if not known or (token is not None and scheme.lower() != "bearer"):
        raise HTTPException(
            401,
            "Send the token of this server, as Authorization: Bearer TOKEN.",
            {"WWW-Authenticate": "Bearer"},
        )


class Places:
    """Those of requests that are read, wait or are answered; who finds none free is sent away."""

    def __init__(self, number: int) -> None:
        self.number = self.free = number

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place, taken before anything of a body is read, so that the memory of all bodies has a bound."""
        if not self.free:
            raise HTTPException(503, "Too many requests wait already. Ask again soon.", {"Retry-After": "1"})
        self.free -= 1
        try:
            yield
        finally:
            self.free += 1


async def read_body(request: Request, limits: Limits) -> bytes:
    """All of a body, unless it is larger than it says or may be, or takes too long."""
    if int(request.headers.get("content-length") or 0) > limits.max_body:
        raise _too_large(limits)
    body = bytearray()
    try:
        with anyio.fail_after(limits.patience):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.max_body:
                    raise _too_large(limits)
    except TimeoutError as error:
        raise HTTPException(408, f"The body took longer than {limits.patience:g} seconds.") from error
    return bytes(body)


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(
        413, f"The body is larger than {limits.max_body:,} bytes. Send smaller photos, or fewer at once."
    )


class Lingering:
    """Reads on for a moment before it answers who still sends.

    A connection that is closed at once would be reset, and the client would see that in the place of the
    answer. Who asks first whether to send at all (Expect: 100-continue) is answered at once.
    """

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self._app, self._most = app, 4 * max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        expects = any(name == b"expect" for name, _ in scope["headers"])
        whole = False

        async def receiving() -> Message:
            nonlocal whole
            message = await receive()
            whole = message["type"] != "http.request" or not message.get("more_body")
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and not whole:
                if not expects:
                    await self._read_on(receiving, lambda: whole)
                if not whole:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, receiving, sending)

    async def _read_on(self, receiving: Receive, is_whole) -> None:
        left = self._most
        with anyio.move_on_after(LINGER):
            while left > 0 and not is_whole():
                left -= len((await receiving()).get("body", b""))
