"""A real `emojigan serve` in a process of its own, and how the tests ask it."""

import http.client
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from PIL import Image

PROGRAM = """
import sys
from emojigan.launch.cli import main
from emojigan.launch.commands import serve
serve.PATIENCE = 1.0
main(sys.argv[1:])
"""
JPEG = {"Content-Type": "image/jpeg"}


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Serving:
    """A server that runs."""

    process: subprocess.Popen
    port: int
    said: Path  # what it wrote on stderr

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answered:
        return self.send("GET", path, None, headers or {})

    def ask(self, body: bytes, headers: Mapping[str, str] = JPEG, **settings: Any) -> Answered:
        return self.send("POST", f"/v1/ask?{urlencode(settings, doseq=True)}", body, headers)

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answered:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return Answered(response.status, dict(response.headers.items()), response.read())


@contextmanager
def serving(model: object, *words: str, folder: Path, **environment: str) -> Iterator[Serving]:
    """`emojigan serve model` on a port of its own; a body has a second to come."""
    said = folder / "stderr.txt"
    with open(said, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "serve", str(model), "--port", "0", *words],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with process:
        assert process.stdout
        line = process.stdout.readline()
        assert line, said.read_text(encoding="utf-8")
        try:
            yield Serving(process, int(line.split()[0].rpartition(":")[2]), said)
        finally:
            process.kill()


def photo(seed: int = 0, side: int = 48) -> bytes:
    """A JPEG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 9, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def form(*photos: bytes, name: str = "photo") -> tuple[bytes, dict[str, str]]:
    """A body with several photos, and its headers."""
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{number}.jpg"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for number, content in enumerate(photos)
    ]
    return b"".join([*parts, b"--b--\r\n"]), {"Content-Type": "multipart/form-data; boundary=b"}
