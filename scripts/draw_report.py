"""Draw docs/report.png: the beginning of the demo's report, as a browser shows it.

python scripts/draw_report.py demo docs/report.png
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from emojigan.trainer.run import REPORT_PAGE

WIDTH, HEIGHT = 1180, 1000  # pixels


def main(demo: Path, out: Path) -> None:
    """Open the page in the Chromium that is installed here."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto((demo / "run" / REPORT_PAGE).resolve().as_uri())
        page.screenshot(path=out)
        chromium.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
