"""How to ask, as OpenAPI tells it. The readable page is made from the same, so the two cannot differ."""

from importlib.metadata import version
from typing import Any

from ..model import MAX_SAMPLES
from .question import MOST_PHOTOS, Question

Schema = dict[str, Any]

P = {"type": "number", "minimum": 0, "maximum": 1}
EMOJI = {"type": "string", "description": "An emoji, in the form that fonts draw in colour."}
ABOUT = {  # of each parameter of a question
    "top_k": "How many emojis are told, the likeliest first.",
    "samples": f"Latents drawn for each photo, at most {MAX_SAMPLES:,}; 0 for as many as it takes to tell "
    "the likeliest emoji from the others.",
    "seed": "Seed of the latents, 0 to 2⁶³ − 2: the same seed, the same answer.",
    "readings": "Tell the kinds of reactions that a photo has, too.",
    "given": "Tell what people add to this emoji, too.",
    "deny": "An emoji that is never said; the others keep their ratios.",
}
REFUSALS = {
    "401": "The token is missing or wrong.",
    "408": "The body came too slowly.",
    "413": "The body is too large; nothing of it was decoded.",
    "415": "The body is of another type.",
    "422": "A parameter makes no sense, the model cannot say what is asked for, or no photo can be read.",
    "503": "Too many requests wait already; Retry-After says in how many seconds to ask again.",
}


def document() -> Schema:
    """The OpenAPI document of this server."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "EmojiGAN",
            "version": version("emojigan"),
            "description": "What would people write under a photo? Photos are neither stored nor logged.",
        },
        "paths": {"/v1/ask": {"post": _ask()}, "/v1/model": {"get": _model()}, **_plain()},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _ask() -> Schema:
    binary = {"schema": {"type": "string", "format": "binary"}}
    several = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": MOST_PHOTOS}
    form = {"schema": {"type": "object", "properties": {"photo": several}, "required": ["photo"]}}
    return {
        "operationId": "ask",
        "summary": "Which emojis people would write under photos.",
        "description": "A photo that cannot be read says why in its place, and stops no other.",
        "security": [{"token": []}, {}],
        "parameters": [_parameter(name) for name in ABOUT],
        "requestBody": {
            "required": True,
            "description": f"A photo as image/* or application/octet-stream, or up to {MOST_PHOTOS} as parts "
            "called photo of multipart/form-data: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF.",
            "content": {"application/octet-stream": binary, "image/*": binary, "multipart/form-data": form},
        },
        "responses": {"200": _says("Answers", "An answer for each photo."), **_refusals(*REFUSALS)},
    }


def _parameter(name: str) -> Schema:
    default = getattr(Question(), name)
    schema: Schema = {"type": {bool: "boolean", int: "integer"}.get(type(default), "array")}
    if schema["type"] == "array":
        schema["items"] = {"type": "string"}
    else:
        schema["default"] = default
    if schema["type"] == "integer":
        schema["minimum"] = int(name == "top_k")
    return {"name": name, "in": "query", "required": False, "description": ABOUT[name], "schema": schema}


def _model() -> Schema:
    return {
        "operationId": "model",
        "summary": "Which model answers, what it can say, and how good it is.",
        "security": [{"token": []}, {}],
        "responses": {"200": _says("Facts", "What is known of it."), **_refusals("401")},
    }


def _plain() -> Schema:
    told = {
        "health": ("It lives.", "application/json"),
        "ready": (
            "It can answer; which model does, and why a newer one could not take its place.",
            "application/json",
        ),
        "metrics": ("Numbers for Prometheus.", "text/plain"),
    }
    return {
        f"/{name}": {
            "get": {
                "operationId": name,
                "summary": about,
                "responses": {"200": {"description": "Always.", "content": {kind: {}}}},
            }
        }
        for name, (about, kind) in told.items()
    }


def _refusals(*statuses: str) -> Schema:
    return {status: _says("Refusal", REFUSALS[status]) for status in statuses}


def _says(name: str, about: str) -> Schema:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    return {"description": about, "content": content}


def _object(description: str, needed: Schema, **others: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": needed | others,
        "required": [*needed],
    }


def _list(name: str, description: str) -> Schema:
    return {
        "type": "array",
        "items": {"$ref": f"#/components/schemas/{name}"},
        "description": description,
    }


def _text(description: str, *, may_be_null: bool = False) -> Schema:
    return {"type": ["string", "null"] if may_be_null else "string", "description": description}


def _schemas() -> Schema:
    likely = {"emoji": EMOJI, "p": P | {"description": "How likely people write it."}}
    interval = {
        "low": P | {"description": "Where the 95 % interval of what all latents would say begins."},
        "high": P | {"description": "Where it ends."},
    }
    called = {
        "name": _text("As models:/emojigan/3, or where it was loaded from."),
        "version": _text("Of a registered model.", may_be_null=True),
        "digest": _text("SHA-256 of the checksums of its weights."),
    }
    model = _object("Which model answered.", called)
    return {
        "Answers": _object(
            "What a question gets.",
            {"model": model, "answers": _list("Answer", "One for each photo, in their order.")},
            error=_text("There where none of the photos can be read."),
        ),
        "Answer": _object(
            "What is said of a photo; or its name and an error alone.",
            {"photo": _text("Its filename, if it had one.")},
            error=_text("Why it cannot be read."),
            emojis=_list("Estimated", "The likeliest first."),
            likeliest={
                "type": "array",
                "items": EMOJI,
                "description": "Those that are not told apart from the first: one of them is the mode.",
            },
            latents={"type": "integer", "description": "How many were asked."},
            readings=_list("Reading", "There if they were asked for, the largest share first."),
            given={"type": "array", "items": EMOJI, "description": "What was given."},
            completion=_list("Likely", "What people add to it, the likeliest first."),
        ),
        "Likely": _object("An emoji, and how likely people write it.", likely),
        "Estimated": _object("The same with its interval.", likely | interval),
        "Reading": _object(
            "A kind of reaction to a photo.",
            {
                "share": P | {"description": "Of the people."},
                "emojis": _list("Likely", "The likeliest first."),
            },
        ),
        "Facts": _facts(called),
        "Refusal": _object("Why there is no answer.", {"error": _text("In words, in one line.")}),
    }


def _facts(called: Schema) -> Schema:
    return _object(
        "What is known of the model.",
        {
            **called,
            "step": {"type": "integer", "description": "Of its training."},
            "image_size": {"type": "integer", "description": "Pixels of a side of what it sees of a photo."},
            "dataset": _text("SHA-256 of the manifest that it was trained on."),
            "vectors": _text("SHA-256 of the file of vectors."),
            "scores": {"type": "object", "description": "On validation posts, by name; lower is better."},
            "completion": {"type": "boolean", "description": "Whether it can be asked with `given`."},
            "readings": {"type": "boolean", "description": "Whether it can be asked for readings."},
            "warning": _text("There where posts that it learned from are forgotten.", may_be_null=True),
            "card": _text("Markdown, of a registered model.", may_be_null=True),
            "vocabulary": {
                "type": "array",
                "items": {"type": "object"},
                "description": "The emojis that it knows, and their names.",
            },
        },
    )
