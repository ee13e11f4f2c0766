"""The page in a real browser: a photo in, emojis out, by mouse, keyboard and screen reader, all from here."""

import base64
import shutil
import time
from collections.abc import Iterator

import pytest

from ....browser import CUT, NEEDS_CHROMIUM, WIDTHS
from .conftest import TOKEN
from .serving import Serving, photo

pytestmark = NEEDS_CHROMIUM
FAKE_CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DATA = """([content, type, name]) => {
    const bytes = Uint8Array.from(atob(content), each => each.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, {type}));
    return data;
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", *FAKE_CAMERA]
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium) -> Iterator:
    """Opens a page of a server; at the end it must have failed at nothing, and asked no other server."""
    pages, outside, errors = [], [], []

    def open_page(server: Serving, width: int = WIDTHS[0], hash: str = ""):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.on(
            "request", lambda request: None if server.address in request.url else outside.append(request.url)
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{server.address}/{hash}")
        pages.append(page)
        return page

    yield open_page
    for each in pages:
        each.close()
    assert [each for each in outside if not each.startswith("data:")] == errors == []


def give(page, event: str, content: bytes = b"", kind: str = "image/jpeg") -> None:
    """Drop a file on the page, or paste it."""
    content = content or photo()
    data = page.evaluate_handle(DATA, [base64.b64encode(content).decode(), kind, "photo.jpg"])
    if event == "drop":
        page.dispatch_event("#drop", "drop", {"dataTransfer": data})
    else:
        page.evaluate(
            "data => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))", data
        )


def until(page, script: str) -> None:
    """Wait until it holds; Playwright's own waiting is refused by the page's policy, as eval is."""
    deadline = time.monotonic() + 30
    while not page.evaluate(script):
        assert time.monotonic() < deadline, script
        page.wait_for_timeout(50)


def emojis(page, of: str = "#emojis") -> list[str]:
    page.wait_for_selector(f"{of} li")
    return page.locator(f"{of} li > .emoji").all_inner_texts()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_photo_is_dropped_and_its_emojis_are_seen_whole(server: Serving, opened, width: int):
    page = opened(server, width)
    give(page, "drop")
    said = server.ask(photo()).json["answers"][0]["emojis"]
    assert emojis(page) == [each["emoji"] for each in said]
    page.locator("#emojis button").nth(1).click()
    emojis(page, "#completion")
    assert page.evaluate(CUT) == [] and page.evaluate("document.documentElement.scrollWidth") == width
    widths = page.locator("#emojis i").evaluate_all(
        "bars => bars.map(each => each.getBoundingClientRect().width)"
    )
    assert widths == sorted(widths, reverse=True) and widths[0] > 10 * widths[-1] > 0


def test_what_people_add_is_asked_by_keyboard_and_told_to_a_screen_reader(server: Serving, opened):
    page = opened(server)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"  # Enter opens the system's dialog
    page.set_input_files(":focus", {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo()})
    first, *_ = emojis(page)
    assert page.get_by_role("status").first.inner_text().startswith("Mostly ")
    names = {each["emoji"]: each["name"] for each in server.get("/v1/model").json["vocabulary"]}
    button = page.get_by_role("button", name=f"{names[first]}: what people add to it")
    button.focus()
    page.keyboard.press("Enter")
    added = server.ask(photo(), given=first).json["answers"][0]["completion"]
    assert emojis(page, "#completion") == [each["emoji"] for each in added]
    assert page.evaluate("document.activeElement.dataset.emoji") == first  # the focus is not lost
    assert button.first.get_attribute("aria-pressed") == "true"


def test_a_photo_is_pasted_tried_or_taken(server: Serving, opened):
    page = opened(server)
    give(page, "paste")
    assert emojis(page)
    page.get_by_role("button", name="teal").click()
    until(page, "document.querySelector('#photo').naturalWidth === 300")
    page.get_by_role("button", name="Take a photo").click()
    until(page, "document.querySelector('#video').videoWidth > 0")
    page.get_by_role("button", name="Take it").click()
    until(page, "document.querySelector('#photo').naturalWidth > 300")
    assert emojis(page)


def test_a_link_keeps_the_settings_and_the_line_asks_the_same(server: Serving, opened):
    page = opened(server, hash="#top_k=2&seed=5&deny=🌊&given=😂&given=🧀")
    give(page, "drop")
    said = server.ask(photo(), top_k=2, seed=5, deny="🌊", given="😂").json["answers"][0]
    assert emojis(page) == [each["emoji"] for each in said["emojis"]]
    assert emojis(page, "#completion") == [each["emoji"] for each in said["completion"]]
    line = page.locator("#curl").inner_text()
    assert f"'{server.address}/v1/ask?top_k=2&seed=5&deny=%F0%9F%8C%8A&given=%F0%9F%98%82'" in line


def test_what_cannot_be_read_is_told_and_the_next_photo_is_answered(server: Serving, opened):
    page = opened(server)
    give(page, "drop", b"%PDF-1.7", "application/pdf")
    until(page, "document.querySelector('#mode').textContent.includes('is a PDF')")
    give(page, "drop")
    assert emojis(page)


def test_a_page_asks_for_the_token_and_keeps_it_nowhere(strict: Serving, opened):
    page = opened(strict)
    page.get_by_label("Token of this server").fill(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#token", state="hidden")
    give(page, "drop")
    assert emojis(page)
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert TOKEN not in page.url and "$EMOJIGAN_TOKEN" in page.locator("#curl").inner_text()
