"""Draw docs/serve.png: the page of `emojigan serve`, as a browser shows it.

python scripts/draw_serve.py http://127.0.0.1:8000 demo/world/photos/2bc42e553a894a51.jpg docs/serve.png
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT, COLOURS = 1180, 1000, 128  # pixels; enough colours for a page with a photo


def main(address: str, photo: Path, out: Path) -> None:
    """Show a photo, click the emoji that is the second likeliest, and draw what is seen."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(f"{address}/#top_k=6")
        page.set_input_files("#file", photo)
        page.locator("#emojis button").nth(1).click()
        page.wait_for_selector("#completion li")
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=out)
        chromium.close()
    Image.open(out).convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT).save(out, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
