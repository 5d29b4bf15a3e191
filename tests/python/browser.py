"""The browser of the machine, with scripts switched off, as people with a phone and people without a mouse use it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Iterator

import pytest

from cluster import ROOT

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1100, "height": 800}
SCREENSHOTS = ROOT / "target/screenshots"


def launched() -> Iterator[object]:
    """A running browser; skips the test when the machine has none and none could be installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed and could not be; `apt-get install chromium` brings it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


def page_of(browser, *, phone: bool = False, dark: bool = False):
    """A fresh page without scripts. Anything it loads beside itself is noted in `page.loaded`."""
    context = browser.new_context(
        java_script_enabled=False,
        viewport=PHONE if phone else DESK,
        is_mobile=phone,
        has_touch=phone,
        device_scale_factor=2 if phone else 1,
        color_scheme="dark" if dark else "light",
    )
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.loaded = []
    page.on("request", lambda request: page.loaded.append(request.url))
    page.refusals = []
    page.on("console", lambda message: page.refusals.append(message.text))
    return page


def shoot(page, name: str) -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=str(path), full_page=True)
    return path


def fits(page) -> bool:
    """Whether nothing sticks out to the right: measured on a copy that may run scripts."""
    context = page.context.browser.new_context(viewport=page.viewport_size, bypass_csp=True)
    copy = context.new_page()
    copy.set_content(page.content())
    wide = copy.evaluate("document.documentElement.scrollWidth")
    context.close()
    return wide <= page.viewport_size["width"]


def focused(page) -> str:
    """Name of what has the keyboard, as those who hear the page are told."""
    return page.locator(":focus").inner_text().strip()


def tab_to(page, text: str, presses_max: int = 40) -> None:
    """Presses Tab until what has the keyboard says `text`."""
    for _ in range(presses_max):
        page.keyboard.press("Tab")
        held = page.locator(":focus")
        if held.count() and held.inner_text().strip() == text:
            return
    raise AssertionError(f"the keyboard does not get to {text!r}")
