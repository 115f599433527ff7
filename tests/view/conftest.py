from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def anyio_backend() -> str:
    """The server of the page runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        # The sandbox needs a user namespace, which containers may lack.
        yield (started := playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]))
        started.close()
