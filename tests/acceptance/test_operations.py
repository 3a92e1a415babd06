"""The pages for operators are executed: every block, in order, by bash, in the state it is for.

Before each block of docs/operations.md and docs/safety.md stand comments that no reader sees:

    <!-- state: NAME -->    what promheal is brought into first, by a function below
    <!-- expect: TEXT -->   what the block must print, wherever, however many blanks are in it

`as above` goes on where the block before it ended, and so does a state of CHANGES, which changes
what is there. `any` is run before every other block of both pages.
"""

from __future__ import annotations

import ast
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import promql_parser
import pytest

from receiver.policy.guards.situation import Reason
from tests.acceptance.server import PATIENCE, Promheal, Spies, alert, only_in_a_file, strategy
from tests.acceptance.terminal import Terminal, Ward, ward_in
from tests.tools import REPOSITORY

GUIDE: Final = REPOSITORY / "docs/operations.md"
SAFETY: Final = REPOSITORY / "docs/safety.md"
ANY: Final = "any"
AS_ABOVE: Final = "as above"

# ── the page ──


class Block(NamedTuple):
    """A block of a page, and what its comments say."""

    place: str
    state: str
    expects: list[str]
    script: str


def blocks(page: Path) -> list[Block]:
    found, text = [], page.read_text(encoding="utf-8")
    pattern = r"((?:^<!-- [^\n]* -->\n)*)^```sh\n(.*?)^```$"
    for match in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        said = re.findall(r"<!-- (\w+): (.*) -->", match[1])
        place = f"{page.name}:{text.count(chr(10), 0, match.start(2)) + 1}"
        states = [value for word, value in said if word == "state"]
        assert len(states) == 1, f"{place}: which state is this block for?"
        assert {word for word, _ in said} <= {"state", "expect"}, place
        expects = [value for word, value in said if word == "expect"]
        found.append(Block(place, states[0], expects, match[2]))
    return found


HEAD, *BLOCKS = [*blocks(GUIDE), *blocks(SAFETY)]


def stories() -> Iterator[list[Block]]:
    """The blocks that belong together: from one state to before the next."""
    story: list[Block] = []
    for block in BLOCKS:
        if story and block.state not in {AS_ABOVE, *CHANGES}:
            yield story
            story = []
        story.append(block)
    yield story


# ── the states ──

QUICK: Final = {"first": "50ms", "most": "50ms"}
NEVER: Final = {"failures": 100}
GOOD_KEY: Final = "key-that-works"


class Place:
    """The machine on which the story happens."""

    def __init__(self, folder: Path, ward: Ward, stack: ExitStack) -> None:
        self.ward = ward
        self.stack = stack
        self.folder = folder
        self.config = folder / "promheal"
        self.broken = folder / "broken"
        self.spies = Spies(folder / "spies")
        self.server = Promheal(self.config, {}, journal=self.config / "promheal.db")
        self.terminal = Terminal(self.server.url)

    def start(
        self, *actions: Mapping[str, Any], settings: Mapping[str, Any] = {}, **keys: Any
    ) -> None:
        """Start it with one strategy, high-latency."""
        what = strategy(*actions or [self.try_()], match="HighLatency", target=["service"])
        self.server.configure({"high-latency": {**what, **keys}}, **settings)
        self.stack.enter_context(self.server)

    def try_(self) -> dict[str, Any]:
        """A step that fails while `broken` is there."""
        return {"action": "command", "argv": ["/bin/test", "!", "-e", str(self.broken)]}

    def try_to_cure(self) -> dict[str, Any]:
        """The same, and what it heals is well then."""
        script = f'test ! -e "{self.broken}" && rm -f "{self.ward.ill}/$PROMHEAL_SERVICE"'
        service = {"PROMHEAL_SERVICE": "{{ labels.service }}"}
        return {"action": "command", "argv": ["sh", "-c", script], "env": service}

    def asked(self) -> dict[str, Any]:
        """The settings of one who has a Prometheus to ask."""
        return {"prometheus": {"url": self.ward.prometheus}}

    def fire(self, *services: str) -> None:
        self.terminal.fire(*(alert("HighLatency", service=service) for service in services))

    def run(self, block: Block) -> str:
        """Execute a block as someone would who has the head of the page in their terminal."""
        assert self.server.process is not None
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        here = {
            "PROMHEAL": self.server.url,
            "CONFIG": str(self.config),
            "DATA": str(self.config),
            "PID": str(self.server.process.pid),
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", HEAD.script + block.script],
            env=here,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        said = f"{block.place}\n{block.script}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"exit code {done.returncode}: {said}"
        for expected in block.expects:
            assert plain(expected) in plain(done.stdout), f"not there: {expected}\n{said}"
        return done.stdout


def plain(text: str) -> str:
    return " ".join(text.split())


def healthy(place: Place) -> None:
    place.start(settings=place.asked())
    place.terminal.until('.status == "healthy"')


def paused(place: Place) -> None:
    healthy(place)
    place.terminal.post("/api/system/heal/pause", reason="the database is being moved")


def paused_and_resumed(place: Place) -> None:
    paused(place)
    place.terminal.post("/api/system/heal/resume", reason="it is moved")


def busy(place: Place) -> None:
    place.spies.hold("heal")
    place.start(place.spies.step("heal"), settings={"engine": {"max_concurrent_runs": 1}})
    place.fire("checkout")
    place.spies.started("heal")
    place.fire("cart")
    place.terminal.until(".waiting.concurrency == 1")


def off(place: Place) -> None:
    place.start(settings={"flags": {"auto_healing": False}})
    place.fire("checkout")
    place.terminal.until(".decisions | length == 1", path="/api/decisions")


def five_failures(place: Place) -> None:
    place.broken.touch()
    place.start(settings={"engine": {"backoff": QUICK}}, grace_period="0s", budget=[])
    place.fire("checkout")
    place.terminal.until(".waiting.breaker_open == 1")


def five_targets(place: Place) -> None:
    place.broken.touch()
    place.start(settings={"engine": {"backoff": QUICK}})
    services = ("cart", "search", "mail", "geo", "checkout")
    for number, service in enumerate(services, start=1):
        place.fire(service)
        place.terminal.until(f".selfHealing.consecutiveFailures == {number}")


def dormant(place: Place) -> None:
    place.broken.touch()
    engine = {
        "backoff": QUICK,
        "main_breaker": NEVER,
        "target_breaker": NEVER,
        "max_concurrent_runs": 10,
    }
    place.start(
        place.try_to_cure(),
        settings={"engine": engine, **place.asked()},
        grace_period="300ms",
        budget=[],
        breaker=NEVER,
    )
    services = ("checkout", "cart", "search", "mail", *(f"shop-{number}" for number in range(6)))
    place.terminal.fire(*place.ward.infect(*services))
    place.terminal.until(".waiting.dormant == 10")


def awake(place: Place) -> None:
    dormant(place)
    place.broken.unlink()
    place.terminal.post("/api/system/heal/resume", reason="repaired")
    place.terminal.until('.status == "healthy"')


def open_for_good(place: Place) -> None:
    place.broken.touch()
    place.start(
        settings={"engine": {"backoff": QUICK, "main_breaker": NEVER, "target_breaker": NEVER}},
        grace_period="0s",
        budget=[],
        breaker={"permanent_after": 1},
    )
    place.fire("checkout")
    place.terminal.until(".waiting.breaker_permanent_open == 1")


def overloaded(place: Place) -> None:
    place.start(settings=providers(9))
    place.terminal.until(".backgroundTasks.totalTasks == 12")


def providers(number: int) -> dict[str, Any]:
    nobody = {"base_url": "http://127.0.0.1:1/v1", "keys": ["NO_KEY"]}
    return {"llm": {"providers": {f"provider-{n + 1}": nobody for n in range(number)}}}


def fewer_providers(place: Place) -> None:
    place.server.configure({}, **providers(2))


def keys_failed(place: Place) -> None:
    url = place.stack.enter_context(provider())
    (place.config / ".env.local").write_text("OPENAI_API_KEY=revoked\n")
    openai = {"base_url": f"{url}/v1", "keys": ["OPENAI_API_KEY"]}
    place.start(settings={"llm": {"providers": {"openai": openai}}})
    place.terminal.until(".llm.keyManagement.failedKeys == 1")


def new_key(place: Place) -> None:
    (place.config / ".env.local").write_text(f"OPENAI_API_KEY={GOOD_KEY}\n")


@contextmanager
def provider() -> Iterator[str]:
    """A provider of language models that knows one key."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            good = self.headers["Authorization"] == f"Bearer {GOOD_KEY}"
            self.send_response(200 if good else 401)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def approvals(place: Place) -> None:
    place.start(mode="approve")
    place.fire("checkout")
    place.terminal.until(".waiting.awaiting_approval == 1")
    place.fire("cart")
    place.terminal.until(".waiting.awaiting_approval == 2")


def acting(place: Place) -> None:
    place.spies.hold("heal")
    place.start(place.spies.step("heal", undo="undo"))
    place.fire("checkout")
    place.spies.started("heal")


def step_ends(place: Place) -> None:
    place.spies.release()
    place.terminal.until('.state == "finished"', path="/api/runs/1")


def storm(place: Place) -> None:
    place.spies.hold("heal")
    place.start(place.spies.step("heal"), settings={"engine": {"max_concurrent_runs": 32}})
    place.fire(*(f"shop-{number}" for number in range(12)))
    place.terminal.until(".waiting.storm == 2")


def observe(place: Place) -> None:
    place.start(mode="observe")
    place.fire("checkout", "cart")
    place.terminal.until(".decisions | length == 2", path="/api/decisions")


def once_unproven(place: Place) -> None:
    place.start()
    place.fire("checkout")
    place.terminal.until(".selfHealing.totalAttempts == 1")


def observe_from_now_on(place: Place) -> None:
    path = place.config / "healing_strategies.yml"
    path.write_text(path.read_text().replace('"match"', '"mode": "observe", "match"'))


def broken_file(place: Place) -> None:
    path = place.config / "healing_strategies.yml"
    path.write_text(path.read_text().replace('"grace_period"', '"grace_perod"'))


def started_again(place: Place) -> None:
    assert place.server.ended() == 0
    place.server.start()


def clock_stepped(place: Place) -> None:
    """What promheal goes by is an hour behind the wall clock, on a machine that has been up."""
    only_in_a_file("with PostgreSQL all go by the server's clock")
    place.start()
    assert place.server.stop() == 0
    place.server.sql("update clock set at = at - 3600")
    place.server.start()


STATES: Final[dict[str, Callable[[Place], None]]] = {
    "healthy": healthy,
    "paused": paused,
    "paused and resumed": paused_and_resumed,
    "two targets, one run at a time": busy,
    "healing is off": off,
    "five targets have failed": five_targets,
    "one target has failed five times": five_failures,
    "dormant": dormant,
    "dormant, then repaired and resumed": awake,
    "a breaker is open for good": open_for_good,
    "twelve background tasks": overloaded,
    "all keys failed": keys_failed,
    "two runs wait for approval": approvals,
    "a run acts": acting,
    "the wall clock was stepped by an hour": clock_stepped,
    "a storm": storm,
    "it observes": observe,
    "one run that proved nothing": once_unproven,
}
CHANGES: Final[dict[str, Callable[[Place], None]]] = {
    AS_ABOVE: lambda _: None,
    "two providers are left in promheal.yml": fewer_providers,
    "a working key is in .env.local": new_key,
    "its step ends": step_ends,
    "a broken file": broken_file,
    "it is started again": started_again,
    "mode is observe in healing_strategies.yml": observe_from_now_on,
}

# ── the tests ──


@pytest.fixture(scope="module")
def wards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with ward_in(tmp_path_factory.mktemp("ward"), "HighLatency") as found:
        yield found


@pytest.fixture
def ward(wards: Ward) -> Iterator[Ward]:
    yield wards
    for ill in wards.ill.iterdir():
        ill.unlink()


@pytest.mark.parametrize(
    "story", list(stories()), ids=lambda story: f"{story[0].place}: {story[0].state}"
)
def test_the_guide_does_what_it_says(story: list[Block], tmp_path: Path, ward: Ward) -> None:
    with ExitStack() as stack:
        place = Place(tmp_path, ward, stack)
        for block in story:
            {**STATES, **CHANGES}[block.state](place)
            place.run(block)


def test_the_head_is_run_before_every_block_and_every_state_is_used() -> None:
    assert HEAD.state == ANY
    assert BLOCKS[0].state in STATES
    assert {block.state for block in BLOCKS} == {*STATES, *CHANGES}


def test_a_block_that_fails_or_does_not_say_what_is_expected_is_found(
    tmp_path: Path, ward: Ward
) -> None:
    with ExitStack() as stack:
        place = Place(tmp_path, ward, stack)
        healthy(place)
        place.run(Block("", ANY, ["b c"], "echo a b; echo c"))
        for script, problem in (
            ('curl -fsS "$PROMHEAL/api/nothing" | cat', "exit code 22"),
            ("false; echo a", "exit code 1"),
            ("echo $UNKNOWN", "exit code 1"),
            ("echo a", "not there: b"),
        ):
            with pytest.raises(AssertionError, match=problem):
                place.run(Block("", ANY, ["b"], script))


def test_a_block_without_a_state_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh\necho\n```\n")
    with pytest.raises(AssertionError, match=r"page\.md:4: which state"):
        blocks(page)


def test_every_issue_of_the_status_has_its_place_in_the_guide() -> None:
    issues = {f"{severity}: {title}" for severity, title in titles_of_needs()}
    assert len(issues) > 25
    table = (
        GUIDE.read_text(encoding="utf-8").partition("## Find your case")[2].partition("\n## ")[0]
    )
    missing = {issue for issue in issues if f"`{issue}`" not in table}
    left = {"CRITICAL: …", "WARNING: … more …"}
    assert missing == left, "what the journal and the readiness say; and said of each kind"
    assert "`CRITICAL: another process acts on this journal`" in table


def titles_of_needs() -> Iterator[tuple[str, str]]:
    """Yield (severity, title) of each need in the code, with … for what is put in."""
    files = sorted((REPOSITORY / "receiver/reporting/needs").glob("*.py"))
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    for node in chain.from_iterable(map(ast.walk, trees)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id == "_first":
            yield "WARNING", f"… more {_texts(node.args[1])[0]}"
        elif node.func.id == "Need":
            given: dict[str | None, ast.expr] = {one.arg: one.value for one in node.keywords}
            severity = "CRITICAL" if "CRITICAL" in ast.unparse(given["severity"]) else "WARNING"
            yield from ((severity, title) for title in _texts(given["title"]))


def _texts(node: ast.expr) -> list[str]:
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(_texts(part)[0] for part in parts)]
        case ast.IfExp(body=yes, orelse=no):
            return [*_texts(yes), *_texts(no)]
        case _:
            return ["…"]


def test_every_reason_to_wait_or_not_to_act_says_when_it_ends() -> None:
    section = (
        GUIDE.read_text(encoding="utf-8").partition("| reason | ends |")[2].partition("\n\n")[0]
    )
    said = [word for row in section.splitlines() for word in re.findall(r"`(\w+)`", row)]
    assert sorted(said) == sorted(Reason)


def test_every_test_that_the_page_of_safety_names_is_there_and_every_guard_is_in_it() -> None:
    page = SAFETY.read_text(encoding="utf-8")
    code = "".join(
        path.read_text(encoding="utf-8") for path in REPOSITORY.glob("tests/**/test_*.py")
    )
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 30
    assert {name for name in named if f"def {name}(" not in code} == set()
    table = page.partition("## What can go wrong")[2].partition("\n## ")[0]
    said = set(re.findall(r"`(\w+)`", table))
    by_choice = {Reason.DISABLED, Reason.REJECTED, Reason.OBSERVE_ONLY, Reason.DRY_RUN}
    assert set(Reason) - said == {*by_choice, Reason.APPROVAL_EXPIRED}


def test_every_metric_of_the_page_of_safety_is_one_and_every_query_can_be_parsed() -> None:
    page = SAFETY.read_text(encoding="utf-8")
    reference = (REPOSITORY / "docs/reference/metrics.md").read_text(encoding="utf-8")
    known = set(re.findall(r"`(promheal_\w+)`", reference))
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bpromheal_[a-z_]+", page)}
    assert len(named) > 10
    assert named <= known
    for block in re.findall(r"^```promql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for query in block.splitlines():
            promql_parser.parse(query)
