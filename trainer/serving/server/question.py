"""What a request asks, and the answer that it gets.

?top_k=5&given=😂  ─► Question ─┐
body ─► Sent, Sent, … ──────────┴─► answers, as JSON tells them
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from starlette.datastructures import QueryParams, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ....datasets.errors import InputError
from ....datasets.printable import printable
from ..model import Model, pixels_of

MOST_PHOTOS = 32  # of one request
NUMBERS, FLAGS, LISTS = ("top_k", "samples", "seed"), ("readings",), ("given", "deny")
DIGITS = 20  # of a number that could be meant


@dataclass(frozen=True)
class Question:
    """What is asked about each photo; the words are those of `Model`."""

    top_k: int = 10
    samples: int = 0
    seed: int = 0
    readings: bool = False
    given: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: QueryParams) -> "Question":
        """That of the parameters of an address.

        Raises:
            InputError: one is unknown, or makes no sense.
        """
        for name in query:
            if name not in (*NUMBERS, *FLAGS, *LISTS):
                known = ", ".join((*NUMBERS, *FLAGS, *LISTS))
                raise InputError(f"{name} is no parameter. There are: {known}.")
        numbers = {name: _number(name, query.getlist(name)) for name in NUMBERS if name in query}
        flags = {name: _flag(name, query.getlist(name)) for name in FLAGS if name in query}
        given, deny = (tuple(query.getlist(name)) for name in LISTS)
        return replace(cls(given=given, deny=deny), **numbers, **flags)


@dataclass(frozen=True)
class Sent:
    """A photo as it came."""

    name: str
    content: bytes


def _number(name: str, values: Sequence[str]) -> int:
    value = values[0]
    if len(values) > 1 or not (value.isascii() and value.isdigit() and len(value) <= DIGITS):
        raise InputError(f"{name} is one whole number, as in {name}=5: it is {', '.join(values)[:40]!r}.")
    return int(value)


def _flag(name: str, values: Sequence[str]) -> bool:
    if len(values) > 1 or values[0] not in ("true", "false"):
        raise InputError(f"{name} is true or false: it is {', '.join(values)[:40]!r}.")
    return values[0] == "true"


async def photos_in(request: Request, body: bytes) -> list[Sent]:
    """The photos of a body: it is one, or a form with several."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _photos_of_form(request, body)
    if kind and kind != "application/octet-stream" and not kind.startswith("image/"):
        raise HTTPException(
            415,
            f"Send a photo as image/jpeg or application/octet-stream, or up to {MOST_PHOTOS} as parts "
            "`photo` of multipart/form-data.",
        )
    if not body:
        raise InputError("There is no photo in the body.")
    return [Sent("photo", body)]


async def _photos_of_form(request: Request, body: bytes) -> list[Sent]:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(request.headers, chunks(), max_files=MOST_PHOTOS, max_fields=0)  # pyright: ignore[reportArgumentType]
    parser.spool_max_size = len(body) + 1  # else what is over a megabyte goes to a file on the disk
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, ValueError) as error:
        raise InputError(
            f"The form cannot be read: it has 1 to {MOST_PHOTOS} parts `photo`, each with a filename."
        ) from error
    parts = form.multi_items()
    if not parts or any(name != "photo" for name, _ in parts):
        raise InputError(f"A form has 1 to {MOST_PHOTOS} parts, and all are called `photo`.")
    files = [part for _, part in parts if isinstance(part, UploadFile)]
    return [
        Sent(file.filename or f"photo {number}", await file.read()) for number, file in enumerate(files, 1)
    ]


def answers(model: Model, photos: Sequence[Sent], question: Question) -> list[dict[str, Any]]:
    """What a model says of each photo; of one that cannot be read, why, and that stops no other.

    Raises:
        InputError: the model cannot say what is asked for.
    """
    return [_answer(model, photo, question) for photo in photos]


def _answer(model: Model, photo: Sent, question: Question) -> dict[str, Any]:
    try:
        pixels = [pixels_of(photo.content, model.image_size, photo.name)]
    except InputError as error:
        return {"photo": photo.name, "error": printable(error)}
    common = {"top_k": question.top_k, "seed": question.seed, "deny": question.deny}
    (said,) = model.ask(pixels, samples=question.samples, **common)
    told = {
        "photo": photo.name,
        "emojis": [asdict(each) for each in said.emojis],
        "likeliest": [each.emoji for each in said.likeliest],
        "latents": said.latents,
    }
    if question.readings:
        (readings,) = model.readings(pixels, **common)
        told["readings"] = [asdict(each) for each in readings]
    if question.given:
        (added,) = model.complete(pixels, question.given, samples=question.samples, **common)
        told |= {"given": question.given, "completion": [asdict(each) for each in added]}
    return told
