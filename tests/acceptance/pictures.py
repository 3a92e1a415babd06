"""Draws the page as it is in docs: `python -m tests.acceptance.pictures FOLDER`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.acceptance.browser import DESKTOP, PHONE, chromium, page_of
from tests.acceptance.eventful import eventful


def draw(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        room = Path(scratch)
        with eventful(room / "scene") as scene, chromium(room / "chromium") as browser:
            healed, undone = scene.numbers("restart")[0], scene.numbers("migrate")[0]
            pictures: list[tuple[str, str, dict[str, Any]]] = [
                ("page", "/", {"viewport": DESKTOP}),
                ("page-phone", "/", {"viewport": PHONE}),
                ("run", f"/runs/{healed}", {"viewport": DESKTOP}),
                ("run-rolled-back", f"/runs/{undone}", {"viewport": DESKTOP}),
                ("run-phone", f"/runs/{healed}", {"viewport": PHONE, "color_scheme": "dark"}),
                ("strategy", "/strategies/migrate", {"viewport": DESKTOP}),
            ]
            for name, path, settings in pictures:
                with page_of(browser, scene.server.url + path, **settings) as page:
                    page.get_by_role("status").first.get_by_text("Live").wait_for()
                    page.screenshot(path=folder / f"{name}.png", full_page="phone" not in name)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
