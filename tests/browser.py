"""A page as a real browser shows it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

WIDTHS = (1280, 400)  # of a desk, and of a hand
NEEDS_CHROMIUM = pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")

CUT = """() => [...document.querySelectorAll('body *')].filter(each => {
    const box = each.getBoundingClientRect();
    const seen = box.width > 1 && box.height > 1 && !each.closest('.hidden, svg, [tabindex]');
    return seen && (box.right > innerWidth + 1 || box.left < -1);
}).map(each => each.outerHTML.slice(0, 80))"""
"""What reaches beyond the window, and does not lie in what can be scrolled."""


@dataclass(frozen=True)
class Seen:
    """What a browser makes of a page."""

    requests: list[str]  # of anything but the page itself
    errors: list[str]
    width: int  # of the page, in pixels
    cut: list[str]
    background: str
    tables: list[int]  # width of what is in each that can be scrolled, beyond what is seen of it


@contextmanager
def browser() -> Iterator["Browser"]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield Browser(chromium)
        chromium.close()


class Browser:
    """Opens pages; made by `browser`."""

    def __init__(self, chromium) -> None:
        self._chromium = chromium

    def look(self, path: Path, width: int, *, dark: bool = False) -> Seen:
        """Open a page, as wide as that."""
        scheme = "dark" if dark else "light"
        page = self._chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path.as_uri())
        seen = Seen(
            requests=[each for each in requests if each != path.as_uri() and not each.startswith("data:")],
            errors=errors,
            width=page.evaluate("document.documentElement.scrollWidth"),
            cut=page.evaluate(CUT),
            background=page.evaluate("getComputedStyle(document.body).backgroundColor"),
            tables=page.evaluate(
                "[...document.querySelectorAll('.scroll')].map(each => each.scrollWidth - each.clientWidth)"
            ),
        )
        page.close()
        return seen


def assert_is_shown_whole(path: Path) -> None:
    """A page asks for nothing, fails at nothing and is cut nowhere, at both widths, by day and by night."""
    with browser() as chromium:
        seen = [chromium.look(path, width, dark=dark) for width in WIDTHS for dark in (False, True)]
    for each, width in zip(seen, (width for width in WIDTHS for _ in range(2)), strict=True):
        assert each.requests == each.errors == each.cut == []
        assert each.width == width and set(each.tables) <= {0}
    assert seen[0].background != seen[1].background
