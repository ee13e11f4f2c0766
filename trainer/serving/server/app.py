"""The server: which addresses there are, and what each answers.

GET  /              a page for people         GET /v1/model        which model it is, and what it can say
POST /v1/ask        photos in, answers out    GET /health, /ready  it lives; it can answer
GET  /api           how to ask, for people    GET /metrics         for Prometheus
GET  /openapi.json  the same, for programs    GET /examples/0      a photo to try

Photos are neither stored nor logged. What is asked is worked on by as many threads as there are cores; the
rest waits, as many as are given a place.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ....datasets.errors import InputError
from ....datasets.pages.page import render
from ....datasets.printable import printable
from ....datasets.work.cores import usable_cores
from ..model import pixels_of
from .api import document
from .limits import Limits, Lingering, Places, check_token, read_body
from .live import Live
from .numbers import Numbers
from .question import Question, answers, photos_in

HERE = Path(__file__).parent
THUMBNAIL = 160  # pixels
LONGEST = 300  # characters of what is told of an error: what was sent is in it
ASKING = ["authorization", "content-type"]  # headers of who asks from another page
HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; "
    b"img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"permissions-policy": b"camera=(self), microphone=(), geolocation=()",
    b"cache-control": b"no-store",
}
WORDS = {404: "There is nothing at this address. /api tells what there is.", 405: "/api tells how to ask."}


@dataclass(frozen=True)
class House:
    """What the answers of a server are made from."""

    live: Live
    limits: Limits
    places: Places
    numbers: Numbers
    pool: ThreadPoolExecutor
    examples: tuple[Path, ...]


def application(
    live: Live, limits: Limits, examples: Sequence[Path] = (), origins: Sequence[str] = ()
) -> ASGIApp:
    """The server of a model.

    Args:
        examples: photos that the page offers to try.
        origins: of other pages that may ask, as https://example.org.

    Raises:
        InputError: an example cannot be read.
    """
    threads = usable_cores()
    places = Places(threads + limits.queue)
    numbers = Numbers(live, places)
    cross = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=ASKING,
    )
    routes = _routes(_page(examples, limits))
    app = Starlette(
        routes=routes,
        middleware=[cross] if origins else [],
        exception_handlers={
            HTTPException: _refused,
            InputError: _not_asked_well,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False
    app.state.house = House(live, limits, places, numbers, ThreadPoolExecutor(threads), tuple(examples))
    paths = frozenset(route.path for route in routes)
    return Outermost(Lingering(app, limits.max_body), paths, numbers)


def _routes(page: str) -> list[Route]:
    return [
        Route("/", _of(HTMLResponse(page))),
        Route("/ask.js", _of(FileResponse(HERE / "ask.js", media_type="text/javascript"))),
        Route("/api", _of(HTMLResponse(render(HERE / "api.html.j2", api=document())))),
        Route("/openapi.json", _of(JSONResponse(document()))),
        Route("/v1/ask", ask, methods=["POST"]),
        Route("/v1/model", model),
        Route("/examples/{number:int}", example),
        Route("/health", _of(JSONResponse({"healthy": True}))),
        Route("/ready", ready),
        Route("/metrics", metrics),
    ]


def _of(response: Response):
    """An endpoint that always answers this."""

    async def endpoint(request: Request) -> Response:
        return response

    return endpoint


def _page(examples: Sequence[Path], limits: Limits) -> str:
    thumbnails = [(path.stem, pixels_of(path, THUMBNAIL, str(path))) for path in examples]
    return render(
        HERE / "ask.html.j2",
        examples=thumbnails,
        max_body=limits.max_body,
        needs_token=limits.token is not None,
        thumbnail=THUMBNAIL,
    )


async def ask(request: Request) -> Response:
    """What people react with to the photos of a body."""
    begin, house = time.perf_counter(), _house(request)
    try:
        check_token(request, house.limits.token)
        question = Question.of(request.query_params)
        with house.places.one():
            photos = await photos_in(request, await read_body(request, house.limits))
            served = house.live.served
            work = asyncio.get_running_loop().run_in_executor
            told = await work(house.pool, answers, served.model, photos, question)
    finally:
        house.numbers.seconds.observe(time.perf_counter() - begin)
    bad = sum("error" in each for each in told)
    house.numbers.photos.labels("answered").inc(len(told) - bad)
    house.numbers.photos.labels("unreadable").inc(bad)
    content = {"model": served.called, "answers": told}
    if bad == len(told):
        content["error"] = told[0]["error"] if bad == 1 else "None of the photos can be read."
    return JSONResponse(content, 422 if bad == len(told) else 200)


async def model(request: Request) -> Response:
    """Which model answers, what it can say, and how good it is."""
    check_token(request, _house(request).limits.token)
    return JSONResponse(_house(request).live.served.facts)


async def example(request: Request) -> Response:
    """A photo to try."""
    examples, number = _house(request).examples, request.path_params["number"]
    if number >= len(examples):
        raise HTTPException(404)
    return FileResponse(examples[number], media_type="application/octet-stream")


async def ready(request: Request) -> Response:
    """That questions are answered, by whom, and whether a newer model could not take its place."""
    live = _house(request).live
    return JSONResponse({"ready": True, "model": live.served.called, "reload_error": live.trouble})


async def metrics(request: Request) -> Response:
    """The numbers of this server."""
    check_token(request, _house(request).limits.token)
    return PlainTextResponse(_house(request).numbers.text(), media_type="text/plain; version=0.0.4")


def _house(request: Request) -> House:
    return request.app.state.house


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(
        {"error": WORDS.get(error.status_code, error.detail)}, error.status_code, headers=error.headers
    )


async def _not_asked_well(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": printable(error)[:LONGEST]}, 422)


async def _gone(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "The body ended before it was whole."}, 400)


async def _failed(request: Request, error: Exception) -> Response:
    """What is not foreseen; uvicorn logs where it happened."""
    return JSONResponse({"error": "This server failed at that, and has noted where."}, 500)


class Outermost:
    """Puts the headers on every answer, and counts it."""

    def __init__(self, app: ASGIApp, paths: frozenset[str], numbers: Numbers) -> None:
        self._app, self._paths, self._requests = app, paths, numbers.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
                path = scope["path"] if scope["path"] in self._paths else "other"
                self._requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, sending)
