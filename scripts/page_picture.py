"""Take a picture of a report: `python scripts/page_picture.py fanbench-demo.html docs/page.png [ADDRESS]`.

ADDRESS is a view, such as `leaderboard` or `run/arithmetic/gemma-3-270m/1`. It needs Chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = {"width": 1100, "height": 620}


def main() -> None:
    report, picture, *address = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--force-device-scale-factor=1"]
        )
        page = browser.new_page(viewport=SIZE)
        page.goto(f"{Path(report).resolve().as_uri()}#/{address[0] if address else 'matrix'}")
        page.locator("main > *").wait_for()
        page.wait_for_function("!document.body.innerText.includes('Reading…')")
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()
