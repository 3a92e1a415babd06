"""The page in a real Chromium, before a real promheal to which everything has happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from receiver.policy.decide import GUARDS
from tests.acceptance.browser import DESKTOP, PHONE, chromium, page_of
from tests.acceptance.eventful import Scene, eventful
from tests.acceptance.server import PATIENCE, Promheal, alert, strategy

pytestmark = pytest.mark.heavy

SOON = PATIENCE * 1000


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with eventful(tmp_path_factory.mktemp("eventful")) as found:
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def paths(scene: Scene) -> list[str]:
    runs = [
        scene.numbers(name)[0] for name in ("restart", "migrate", "in-vain", "patience", "look")
    ]
    return [
        "/", "/runs", "/runs?outcome=unknown", "/strategies/restart", "/strategies/failover",
        "/runs/999999", *(f"/runs/{run}" for run in runs),
    ]  # fmt: skip


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_every_page_is_for_everybody_and_asks_nobody_else(
    scene: Scene, browser: Browser, viewport: Any, scheme: Any
) -> None:
    url = scene.server.url
    for path in paths(scene):
        asked: list[str] = []
        said: list[str] = []
        with page_of(browser, "about:blank", viewport=viewport, color_scheme=scheme) as page:
            page.on("request", lambda request: asked.append(request.url))
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            answer = page.goto(url + path)
            assert answer is not None
            assert answer.status in {200, 404}, f"{path}: {scene.server.log}"
            page.locator("main details").evaluate_all("all => all.forEach(one => one.open = true)")
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path}\n{found.generate_report()}"
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= viewport["width"], f"{path} scrolls to the side"
        assert asked
        assert [one for one in asked if not one.startswith(url)] == []
        assert [one for one in said if "404" not in one] == [], path


def test_a_rule_of_accessibility_can_fail(scene: Scene, browser: Browser) -> None:
    with page_of(browser, scene.server.url) as page:
        page.evaluate("document.querySelector('main').append(document.createElement('button'))")
        assert Axe().run(page).violations_count == 1


def test_what_happens_is_shown_without_a_reload(browser: Browser, tmp_path: Path) -> None:
    with (
        Promheal(tmp_path, {"x": strategy({"action": "log", "message": "m"}, match="X")}) as server,
        page_of(browser, server.url) as page,
    ):
        expect(page.get_by_text("Nothing fires.")).to_be_visible()
        expect(page.get_by_role("status").first).to_have_text("Live: warning", timeout=SOON)
        page.evaluate("window.mark = 'the same page'")

        server.post(alert("X", service="checkout"))
        row = page.locator("#alerts").get_by_text('service="checkout"')
        expect(row).to_be_visible(timeout=SOON)
        expect(page.locator("#runs").get_by_text("run 1")).to_be_visible(timeout=SOON)
        assert page.evaluate("window.mark") == "the same page"

        server.stop()
        expect(page.get_by_role("status").first).to_contain_text("does not answer", timeout=SOON)


def test_what_is_being_typed_is_left_alone(browser: Browser, tmp_path: Path) -> None:
    with (
        Promheal(tmp_path, {"x": strategy({"action": "log", "message": "m"}, match="X")}) as server,
        page_of(browser, server.url) as page,
    ):
        page.locator("#pauses summary").click()
        reason = page.locator("#pauses").get_by_label("Why")
        reason.fill("half a sen")
        server.ask("/api/system/heal/pause", b'{"reason": "deploy", "scope": "strategy:x"}')
        server.post(alert("X", service="checkout"))
        expect(page.locator("#alerts").get_by_text('service="checkout"')).to_be_visible(
            timeout=SOON
        )
        expect(reason).to_have_value("half a sen")

        reason.fill("mine")
        page.get_by_role("button", name="Pause now").click()
        expect(page.locator("#pauses").get_by_text("mine")).to_be_visible()
        expect(page.locator("#pauses").get_by_text("deploy")).to_be_visible()


def test_a_run_is_approved_with_the_keyboard_alone(scene: Scene, browser: Browser) -> None:
    (number,) = scene.numbers("failover")
    with page_of(browser, f"{scene.server.url}/runs/{number}") as page:
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").startswith("Approve"):
                break
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type("the replica is in step")
        page.keyboard.press("Enter")

        expect(page.get_by_text("A person approved it")).to_be_visible(timeout=SOON)
        assert page.url.endswith(f"/runs/{number}")
    assert scene.server.run(number)["approvedAt"]


def test_a_snapshot_is_read_from_the_page_of_its_run(scene: Scene, browser: Browser) -> None:
    number = scene.numbers("look")[0]
    with page_of(browser, f"{scene.server.url}/runs/{number}") as page:
        page.get_by_role("link", name="The snapshot").click()
        kept = json.loads(page.locator("pre").inner_text())

    assert (kept["run"], kept["strategy"]) == (number, "look")
    decision = kept["decisions"][-1]
    assert (decision["verdict"], decision["run"]) == ("allow", number)
    assert [one["guard"] for one in decision["answers"]] == [name for name, _ in GUARDS]


def test_without_a_script_all_is_there_and_works(browser: Browser, tmp_path: Path) -> None:
    with (
        Promheal(tmp_path, {"x": strategy({"action": "log", "message": "m"}, match="X")}) as server,
        page_of(browser, server.url, java_script_enabled=False) as page,
    ):
        page.locator("#pauses summary").click()
        page.locator("#pauses").get_by_label("Why").fill("deploy")
        page.get_by_role("button", name="Pause now").click()

        expect(page.locator("#pauses td", has_text="deploy")).to_be_visible()
