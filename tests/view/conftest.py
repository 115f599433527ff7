from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

#: Milliseconds that a test waits for the page.
PATIENCE = 60_000


@pytest.fixture
def anyio_backend() -> str:
    """The server of the page runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    # A wait ends when what is waited for is there; only a machine that is loaded needs so long.
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # The sandbox needs a user namespace, which containers may lack.
        yield (started := playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]))
        started.close()
