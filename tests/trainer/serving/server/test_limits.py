"""Whatever is sent, the answer is in words, nothing is left behind, and who asks well is answered."""

import random
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from ....datasets.images.hostile_images import hostile_images
from .conftest import TOKEN
from .serving import JPEG, Answered, Serving, form, photo, serving

BEARER = JPEG | {"Authorization": f"Bearer {TOKEN}".encode().decode("latin-1")}
MB = 2**20
PARAMETERS = (
    *("seed=18446744073709551616", "seed=-1", "seed=null", "seed=1e3", "seed=٣", "seed=", "seed=1&seed=2"),
    *("top_k=0", "top_k=null", "top_k=9.5", f"top_k={'9' * 5000}", "samples=10001", "samples=999999999999"),
    *("readings=1", "readings=null", "readings=true", "given=", "given=null", "given=%00", "given=%F0%9F"),
    *("given=🧀", "deny=😍&deny=😂&deny=🔥&deny=🐶&deny=🌊", "n_samples=5", "=", "%FF=1", "a" * 9000),
    *("given=😍&given=😂&given=🔥&given=🐶&given=🌊", "given=../../etc/passwd"),
)
TYPES = (
    *("application/json", "text/plain", "application/x-www-form-urlencoded", "video/mp4", "multipart/mixed"),
    *(
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
        "image",
        "/",
    ),
    *(f"multipart/form-data; boundary={'b' * 300}", "multipart/form-data; boundary=b; charset=none"),
)
PATHS = (
    "/v1",
    "/v1/ask/",
    "/examples/1",
    "/examples/-1",
    "/examples/../../../etc/passwd",
    "/ask.js/..",
    "//",
)

Request = tuple[str, str, bytes | None, dict[str, str]]  # method, path, body, headers


def images() -> list[Request]:
    return [("POST", "/v1/ask", content, JPEG) for _, content in hostile_images() if len(content) < 4 * MB]


def others() -> Iterator[Request]:
    for each in PARAMETERS:
        yield "POST", "/v1/ask?" + "".join(c if c.isascii() else _quoted(c) for c in each), photo(), JPEG
    for each in TYPES:
        yield "POST", "/v1/ask", photo(), {"Content-Type": each}
    for each in PATHS:
        yield "GET", each, None, {}
    for each in ("PUT", "DELETE", "PATCH", "GET"):
        yield each, "/v1/ask", None, {}
    yield "POST", "/v1/ask", bytes(11_000_000), JPEG
    for content, headers in (
        form(*[photo(side=8)] * 10_000),
        form(*[photo(side=8)] * 33),
        form(photo(), name="file"),
        form(),
    ):
        yield "POST", "/v1/ask", content, headers


def _quoted(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())


def assert_is_refused_in_words(answered: Answered) -> None:
    assert answered.status in (404, 405, 413, 415, 422), answered
    error = answered.json["error"]
    assert error and "\n" not in error and "Traceback" not in error and len(error) < 400


def memory(server: Serving) -> float:
    """MiB that it holds."""
    return psutil.Process(server.process.pid).memory_info().rss / MB


def send_all(server: Serving, requests: list[Request]) -> None:
    before = server.ask(photo()).json
    for each in requests:
        assert_is_refused_in_words(server.send(*each))
    assert server.ask(photo()).json == before
    assert "Traceback" not in server.said.read_text(encoding="utf-8")


def test_hostile_requests_are_refused_in_words_and_leave_nothing(server: Serving):
    few = random.Random(0).sample(images(), 40)
    send_all(server, [*others(), *few])


@pytest.mark.soak
def test_memory_does_not_grow_over_3000_hostile_requests(server: Serving):
    requests = [*images(), *others()]
    assert len(requests) >= 300
    sent, held = 0, []
    while sent < 3000:
        send_all(server, requests)
        sent += len(requests)
        held.append(memory(server))
    half = len(held) // 2
    assert max(held[half:]) < 1.1 * max(held[:half])


def test_of_a_hundred_at_once_each_is_answered_or_sent_away(server: Serving):
    with ThreadPoolExecutor(100) as pool:
        answered = [*pool.map(lambda _: server.ask(photo(side=300)), range(100))]
    good = [each.json for each in answered if each.status == 200]
    away = [each for each in answered if each.status != 200]
    assert len(good) >= 64 and all(each == good[0] for each in good)
    assert all(each.status == 503 and each.headers["retry-after"] == "1" for each in away)


def begun(server: Serving, length: int = 1000) -> socket.socket:
    """A connection that promises a body, and sends a part of it."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    lines = ("POST /v1/ask HTTP/1.1", "Host: here", "Content-Type: image/jpeg", f"Content-Length: {length}")
    token = f"Authorization: Bearer {TOKEN}"
    connection.sendall("\r\n".join([*lines, token, "", ""]).encode() + bytes(10))
    return connection


def test_a_body_that_does_not_come_is_waited_for_a_moment_and_who_finds_no_place_is_sent_away(
    strict: Serving,
):
    slow = [begun(strict) for _ in range(64)]  # at least as many as there are places
    try:
        assert strict.ask(photo(), BEARER).status == 503
        statuses = {each.recv(9999).split()[1] for each in slow}
        assert statuses <= {b"408", b"503"} and b"408" in statuses
    finally:
        for each in slow:
            each.close()
    assert strict.ask(photo(), BEARER).status == 200


def test_a_body_is_counted_whatever_it_says_of_its_length(strict: Serving):
    assert strict.ask(bytes(50_001), BEARER).status == 413
    assert strict.send("POST", "/v1/ask", iter([bytes(30_000)] * 4), BEARER).status == 413  # pyright: ignore
    assert strict.ask(bytes(50_000), BEARER).status == 422


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer nonsense"}, {"Authorization": BEARER["Authorization"][7:]}]
)
def test_who_does_not_know_the_token_learns_nothing(strict: Serving, headers: dict[str, str]):
    assert strict.ask(photo(), JPEG | headers).status == 401
    assert [strict.get(path, headers).status for path in ("/v1/model", "/metrics")] == [401, 401]
    assert [strict.get(path, headers).status for path in ("/", "/health", "/ready")] == [200, 200, 200]


def test_another_page_may_ask_only_if_it_was_allowed(strict: Serving, server: Serving):
    def allowed(of: Serving, origin: str) -> str | None:
        return of.get("/ready", {"Origin": origin}).headers.get("access-control-allow-origin")

    assert allowed(strict, "https://example.org") == "https://example.org"
    assert allowed(strict, "https://example.com") is None and allowed(server, "https://example.org") is None


def test_without_a_token_other_machines_are_warned_about_and_with_one_not(
    strict: Serving, snapshot: Path, tmp_path: Path
):
    assert strict.said.read_text(encoding="utf-8") == ""
    with serving(snapshot, "--host", "0.0.0.0", folder=tmp_path) as open_to_all:
        warning = open_to_all.said.read_text(encoding="utf-8")
        assert warning.startswith("Warning: other machines may ask") and warning.count("\n") == 1
        last = begun(open_to_all, length=10)  # all of it is there
        assert b" 422 " in last.recv(9999)
        half = begun(open_to_all, length=len(photo()) + 10)
        open_to_all.process.send_signal(signal.SIGTERM)
        half.sendall(photo())
        assert half.recv(9999).startswith(b"HTTP/1.1 ")  # what was begun is answered still
        assert open_to_all.process.wait(timeout=60) == 0
        last.close()
        half.close()
