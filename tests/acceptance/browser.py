"""Debian's Chromium, as a person's browser before the page of a real promheal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright

from tests.tools import REPOSITORY, tool

DESKTOP: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 360, "height": 780}

_FONTS: Final = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><dir>/usr/share/fonts</dir><cachedir>{cache}</cachedir></fontconfig>
"""


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start it, with the fonts that `make tools` fetched, so that it draws the same everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    fonts = folder / "fonts.conf"
    fonts.write_text(
        _FONTS.format(fonts=REPOSITORY / ".tools/usr/share/fonts", cache=folder / "cache")
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=tool("chromium-headless-shell"),
            # Containers have no namespaces for its sandbox; it opens nothing but our own page.
            chromium_sandbox=False,
            env={"FONTCONFIG_FILE": str(fonts), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def page_of(browser: Browser, url: str, **settings: Any) -> Iterator[Page]:
    """Open *url* as a new visitor."""
    visitor = browser.new_context(**{"viewport": DESKTOP, **settings})
    try:
        page = visitor.new_page()
        page.goto(url)
        yield page
    finally:
        visitor.close()
