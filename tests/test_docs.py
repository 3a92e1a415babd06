"""What the pages say is held against the code: links, files, commands, keys, words, examples."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import indent
from types import ModuleType
from typing import Any, NamedTuple

import click
import msgspec
import pytest
import yaml
from click.testing import CliRunner
from msgspec import inspect

from receiver import app
from receiver.actions import GROUP, Action, Actions, discover
from receiver.cli import BROKEN, FINDINGS, FINE, WARNINGS, root
from receiver.cli.alert_file import read_alert_file
from receiver.clients.llm import LlmKeys
from receiver.config.files import LoadedConfig, load
from receiver.config.strategies import _STEP
from receiver.healing import control
from receiver.healing.conflicts import PEER_LAG
from receiver.policy import breaker, dormancy
from receiver.policy.breaker import BreakerEvent, BreakerState, Thresholds
from receiver.policy.decay import DEPTH
from receiver.policy.decide import GUARDS
from receiver.policy.duration import format_duration
from receiver.policy.guards.situation import RETRY, Answer, Reason
from receiver.policy.http_config import HTTPConfig
from receiver.policy.looks import LONGEST, LOOKS, SHORTEST
from receiver.policy.payload import MAX_ALERTS, MAX_LABELS, MAX_NAME, MAX_TEXT, parse_notification
from receiver.policy.run import Outcome, State, StepState
from receiver.policy.strategy import Strategy
from receiver.policy.target import Key
from receiver.reporting.journal_metrics import MAX_TARGETS
from receiver.reporting.needs.engine import WARN_FAILURES
from receiver.reporting.needs.process import CLOCK_LEAD
from receiver.services import Inventory, Service
from receiver.services.caches import CACHES
from receiver.services.managers import MANAGERS
from receiver.services.queues import QUEUES
from receiver.settings import EngineSettings, LlmProvider, LlmSettings, NotifyChannel, Settings
from receiver.settings.environment import FLAG_VARIABLES
from receiver.template import FILTERS, KNOWN, MAX_OUTPUT
from receiver.web import application, query, steering, webhook
from receiver.web.flask_app import create_app
from receiver.web.pages.forms import FORM_AGE
from receiver.web.pages.views import SHOWN
from receiver.web.server import answering, connection, framing, reading
from tests.calls import calls, dry_parse, is_name
from tests.tools import REPOSITORY, tool

DOCS = REPOSITORY / "docs"
ACTIONS = DOCS / "reference/actions"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
EACH_PAGE = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY))
)

OURS = ("promheal.yml", "services.yml", "healing_strategies.yml")
THEIRS = {
    "prometheus.yml": ("promtool", "check", "config"),
    "rules.yml": ("promtool", "check", "rules"),
    "alertmanager.yml": ("amtool", "check-config"),
}
TRIED = ("tests/high_memory.yml", ".github/workflows/strategies.yml")
"""Blocks that tests/test_shipped_strategies.py runs."""


# --- pages ----------------------------------------------------------------------------------------


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str

    @property
    def file(self) -> str:
        """The file that its first line, a comment, says it is; or nothing."""
        named = re.match(r"[#;] (\S+)\n", self.text)
        return named[1] if named else ""


class Table(NamedTuple):
    heading: str
    """The nearest one above, without its marks."""
    header: list[str]
    rows: list[list[str]]


NONE = "\N{EN DASH}"
"""What the pages have for a default of nothing."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its blocks."""
    return FENCE.sub("", text_of(page))


def blocks(page: Path, language: str = "") -> list[Block]:
    found = [Block(*block) for block in FENCE.findall(text_of(page))]
    return [block for block in found if language in {"", block.language}]


def headings(page: Path) -> list[str]:
    return re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page as GitHub makes them."""
    found: set[str] = set()
    for heading in headings(page):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = sum(anchor == slug or anchor.startswith(f"{slug}-") for anchor in found)
        found.add(f"{slug}-{number}" if slug in found else slug)
    return found


def tables(page: Path) -> Iterator[Table]:
    heading, lines = "", [*prose(page).splitlines(), ""]
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("#"):
            heading = line.lstrip("# ").replace("`", "")
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            yield Table(heading, rows[0], rows[2:])
            rows = []


def table(page: Path, heading: str, first: str) -> Table:
    """The table below *heading* whose first column is called *first*."""
    found = [t for t in tables(page) if t.heading == heading and t.header[0] == first]
    assert len(found) == 1, f"{page.name}: {len(found)} tables of {first!r} below {heading!r}"
    return found[0]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def names(page: Path, heading: str, first: str) -> list[str]:
    """The first word of code in each row."""
    return [code(row[0])[0] for row in table(page, heading, first).rows]


# --- links and files ------------------------------------------------------------------------------


@EACH_PAGE
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def test_every_page_is_in_the_index() -> None:
    linked = {
        (index.parent / target.partition("#")[0]).resolve()
        for index in (DOCS / "README.md", ACTIONS / "README.md")
        for target in re.findall(r"\]\(([^)\s]+)\)", text_of(index))
    }
    missing = [page for page in DOCS.rglob("*.md") if page not in linked]
    assert missing == [DOCS / "README.md"]


@EACH_PAGE
def test_every_file_of_ours_that_is_named_exists(page: Path) -> None:
    for named in code(prose(page)):
        if re.fullmatch(r"(?:bench|configs|deploy|receiver|rules|tests)/[\w./-]*", named):
            assert (REPOSITORY / named).exists(), named


def test_every_target_of_make_that_is_named_exists() -> None:
    known = set(re.findall(r"^([a-z-]+):", text_of(REPOSITORY / "Makefile"), re.MULTILINE))
    for page in PAGES:
        spans = code(prose(page)) + [line for block in blocks(page, "sh") for line in lines(block)]
        for words in (shlex.split(span, comments=True) for span in spans if span[:5] == "make "):
            assert {word for word in words[1:] if "=" not in word} <= known, words


@EACH_PAGE
def test_every_json_block_is_json(page: Path) -> None:
    for block in blocks(page, "json"):
        msgspec.json.decode(block.text)


# --- configuration --------------------------------------------------------------------------------

SERVICES = """\
services:
  checkout: {manager: {command: {restart: [/bin/true]}}}
"""
BESIDE = {
    "promheal.yml": "{}\n",
    "services.yml": SERVICES,
    "healing_strategies.yml": "strategies: {}\n",
}
"""What stands beside a block, where its page has nothing before it."""


def configurations(page: Path) -> Iterator[dict[str, str]]:
    """For each block that is a file of ours, the three files with what the page had before it."""
    said: dict[str, str] = {}
    for block in blocks(page, "yaml"):
        if block.file in OURS:
            said[block.file] = block.text
            yield {**BESIDE, **said}


def loaded(folder: Path, files: Mapping[str, str], actions: Actions | None = None) -> LoadedConfig:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return load(folder / "promheal.yml", actions or discover(), {})


@EACH_PAGE
def test_every_configuration_is_taken_by_promheal(page: Path, tmp_path: Path) -> None:
    actions = Actions([*known_actions(), plugin().Drain()])
    for files in configurations(page):
        assert loaded(tmp_path, files, actions).problems == ()


@EACH_PAGE
def test_every_configuration_of_others_is_taken_by_them(page: Path, tmp_path: Path) -> None:
    found = [block for block in blocks(page, "yaml") if block.file in THEIRS]
    secret = tmp_path / "secret"  # promtool wants the files that hold tokens and certificates
    secret.touch()

    def write(block: Block) -> Path:
        path = tmp_path / block.file
        path.write_text(
            re.sub(r"(_file: )/etc/\S+", rf"\g<1>{secret}", block.text), encoding="utf-8"
        )
        return path

    for block in found:  # all first: one may name another
        write(block)
    for block in found:
        taken_by(THEIRS[block.file], write(block))


def taken_by(command: Iterable[str], path: Path) -> None:
    program, *arguments = command
    done = subprocess.run(
        [tool(program), *arguments, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@EACH_PAGE
def test_every_yaml_block_is_a_file_that_is_checked(page: Path) -> None:
    for block in blocks(page, "yaml"):
        assert block.file in {*OURS, *THEIRS, *TRIED} or block.text == snippet(), block.text


@cache
def snippet() -> str:
    """What `promheal config alertmanager` prints for the README's own configuration."""
    with TemporaryDirectory() as folder, chdir(folder):
        for files in configurations(REPOSITORY / "README.md"):
            for name, text in files.items():
                Path(name).write_text(text, encoding="utf-8")
        done = CliRunner().invoke(root, ["config", "alertmanager", "promheal.yml"])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_snippet_of_the_readme_is_what_the_command_prints() -> None:
    assert snippet() in [block.text for block in blocks(REPOSITORY / "README.md", "yaml")]


def test_the_snippet_fits_where_it_says(tmp_path: Path) -> None:
    routes, receivers = snippet().split("# Below `receivers:`\n")
    routes = indent(f"{routes}- receiver: team\n", "  ")
    whole = f"route:\n  receiver: team\n  routes:\n{routes}\nreceivers:\n- name: team\n{receivers}"
    (tmp_path / "alertmanager.yml").write_text(whole, encoding="utf-8")
    taken_by(THEIRS["alertmanager.yml"], tmp_path / "alertmanager.yml")


# --- keys and parameters --------------------------------------------------------------------------


def plain(info: inspect.Type) -> inspect.Type:
    """The type below what is said about it, and without `or nothing`."""
    while isinstance(info, inspect.Metadata) and "parse" not in (info.extra or {}):
        info = info.type
    if isinstance(info, inspect.UnionType):
        rest = [option for option in info.types if not isinstance(option, inspect.NoneType)]
        return plain(rest[0]) if len(rest) == 1 else info
    return info


def shown(value: Any, info: inspect.Type) -> str:
    """A value as YAML has it."""
    info = plain(info)
    if isinstance(info, inspect.Metadata) and isinstance(value, float):
        return format_duration(value)
    if isinstance(value, msgspec.Struct):
        assert isinstance(info, inspect.StructType)
        parts = [f"{f.encode_name}: {shown(getattr(value, f.name), f.type)}" for f in info.fields]
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, tuple | list):
        item = info.item_type if isinstance(info, inspect.VarTupleType) else inspect.AnyType()
        return "[" + ", ".join(shown(one, item) for one in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) or '""'


def keys(
    cls: type[msgspec.Struct], prefix: str = "", whole: msgspec.Struct | None = None
) -> Iterator[tuple[str, str]]:
    """The keys of a struct and of those in it, each with its default as the pages write it.

    *whole* is what the struct is when it is left out. The keys of an `http_config` stand on a page
    of their own, and here as `<http_config>`, as Prometheus writes it.
    """
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    common: set[str] = set()
    if issubclass(cls, HTTPConfig) and cls is not HTTPConfig:
        common = set(HTTPConfig.__struct_fields__) - set(cls.__annotations__)
        yield f"{prefix}<http_config>", NONE
    for field in info.fields:
        if field.name in common:
            continue
        name, type_ = prefix + field.encode_name, plain(field.type)
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if isinstance(type_, inspect.StructType):
            inner = default if isinstance(default, msgspec.Struct) else None
            yield from keys(type_.cls, f"{name}.", inner)
            continue
        if whole is not None:
            default = getattr(whole, field.name)
        if field.required:
            yield name, "required"
        else:
            yield name, NONE if default is None else f"`{shown(default, type_)}`"
        if isinstance(type_, inspect.VarTupleType):
            item = plain(type_.item_type)
            if isinstance(item, inspect.StructType):
                yield from keys(item.cls, f"{name}[].")


def documented(page: Path, heading: str, first: str) -> dict[str, str]:
    found = table(page, heading, first)
    column = found.header.index("default")
    return {code(row[0])[0]: row[column] for row in found.rows}


CONFIGURATION = DOCS / "reference/configuration.md"


def test_every_key_of_promheal_yml_is_documented_with_its_default() -> None:
    assert documented(CONFIGURATION, "promheal.yml", "key") == dict(keys(Settings))


def test_every_key_of_an_http_config_is_documented_with_its_default() -> None:
    page = DOCS / "reference/http-config.md"
    found = documented(page, "HTTP configuration of upstreams", "key of an upstream")
    assert found == dict(keys(HTTPConfig))


def test_every_key_of_a_provider_is_documented_with_its_default() -> None:
    assert documented(CONFIGURATION, "A provider", "key of a provider") == dict(keys(LlmProvider))


def test_every_key_of_a_channel_is_documented_with_its_default() -> None:
    assert documented(CONFIGURATION, "A channel", "key of a channel") == dict(keys(NotifyChannel))


def test_every_key_of_a_service_is_documented_with_its_default() -> None:
    known = dict(keys(Service))
    del known["name"]  # the key of the whole
    assert documented(CONFIGURATION, "services.yml", "key of a service") == known


@pytest.mark.parametrize("name", MANAGERS)
def test_every_key_of_a_manager_is_documented_with_its_default(name: str) -> None:
    assert documented(CONFIGURATION, name, "key") == dict(keys(MANAGERS[name]))


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        *zip(
            ("A cache in Redis", "A cache of files", "A cache behind HTTP"),
            CACHES.values(),
            strict=True,
        ),
        *zip(
            (
                "A queue in Redis",
                "A queue of RabbitMQ",
                "A queue of Celery",
                "A queue with a command",
            ),
            QUEUES.values(),
            strict=True,
        ),
    ],
)
def test_every_key_of_a_cache_or_queue_is_documented_with_its_default(
    heading: str, kind: type[msgspec.Struct]
) -> None:
    first = f"key of a{heading[1:]}"
    assert documented(CONFIGURATION, heading, first) == dict(keys(kind))


def test_every_key_of_a_strategy_is_documented_with_its_default() -> None:
    known = {name: default for name, default in keys(Strategy) if "actions[]" not in name}
    del known["name"]  # the key of the whole
    assert documented(CONFIGURATION, "healing_strategies.yml", "key of a strategy") == known


def test_every_key_of_a_step_is_documented() -> None:
    assert set(documented(CONFIGURATION, "A step", "key of a step")) == set(_STEP)


def test_every_flag_is_documented_with_its_variable() -> None:
    rows = table(CONFIGURATION, "Flags", "variable").rows
    said = {code(row[1])[0].removeprefix("flags."): code(row[0])[0] for row in rows}
    assert said == FLAG_VARIABLES
    assert names(CONFIGURATION, "Flags", "flag off") == list(FLAG_VARIABLES)


def known_actions() -> list[Action]:
    """Ours: what else is installed here is not documented here."""
    actions = discover()
    found = [actions.get(name) for name in actions.names]
    return [action for action in found if type(action).__module__.startswith("receiver.")]


@pytest.mark.parametrize("action", known_actions(), ids=lambda action: action.name)
def test_every_parameter_of_an_action_is_documented_with_its_default(action: Action) -> None:
    page = ACTIONS / f"{action.name}.md"
    assert documented(page, action.name, "parameter") == dict(keys(action.Params))


@pytest.mark.parametrize("action", known_actions(), ids=lambda action: action.name)
def test_the_page_of_an_action_says_what_an_operator_must_know(action: Action) -> None:
    text = prose(ACTIONS / f"{action.name}.md")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["What it touches", "Permissions", "Undo", "When it fails"]


def test_every_action_is_documented_with_its_timeout() -> None:
    rows = table(ACTIONS / "README.md", "Actions", "action").rows
    said = {code(row[0])[0]: code(row[-1])[0] for row in rows}
    assert said == {action.name: format_duration(action.timeout) for action in known_actions()}


def test_every_name_and_filter_of_templates_is_documented() -> None:
    said = {
        re.split(r"[(.\[]", name)[0]
        for found in tables(DOCS / "reference/templates.md")
        if found.header[0] in {"name", "filter"}
        for row in found.rows
        for name in code(row[0])
    }
    assert said == {*KNOWN, *FILTERS}


STRATEGIES = sorted((DOCS / "strategies").glob("*.md"))


@pytest.mark.parametrize("page", STRATEGIES, ids=lambda page: page.stem)
def test_the_page_of_a_strategy_shows_what_ships(page: Path) -> None:
    shipped = yaml.safe_load(text_of(REPOSITORY / "configs/healing_strategies.yml"))["strategies"]
    shown: dict[str, Any] = {}
    for block in blocks(page, "yaml"):
        if block.file == "healing_strategies.yml":
            shown |= yaml.safe_load(block.text)["strategies"]
    own = {name: shipped[name] for name in shown}
    defaults = {"mode", "grace_period", "budget", "breaker", "verify", "on_failure", "preventive"}
    assert set(shown) == {page.stem, f"{page.stem}-ahead"} & set(shipped)
    for name, strategy in shown.items():
        left_out = set(own[name]) - set(strategy)
        assert left_out <= defaults, "a default may be left out of a page"
        assert strategy == {key: own[name][key] for key in strategy}


def test_every_shipped_strategy_has_a_page() -> None:
    shipped = yaml.safe_load(text_of(REPOSITORY / "configs/healing_strategies.yml"))["strategies"]
    assert {page.stem for page in STRATEGIES} == {name.removesuffix("-ahead") for name in shipped}


# --- words ----------------------------------------------------------------------------------------

DECISIONS = DOCS / "reference/decisions.md"


def test_every_reason_is_a_heading_and_named_by_its_guard() -> None:
    text = prose(DECISIONS).split("## Reasons")[1].split("## Run states")[0]
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(Reason)
    rows = table(DECISIONS, "Guards", "guard").rows
    assert sorted(name for row in rows for name in code(row[2])) == sorted(Reason)


def test_every_guard_is_documented_in_order() -> None:
    assert names(DECISIONS, "Guards", "guard") == [name for name, _ in GUARDS]


def test_every_verdict_state_and_outcome_is_documented() -> None:
    assert names(DECISIONS, "Verdicts", "verdict") == list(Answer)
    assert names(DECISIONS, "Run states", "state") == list(State)
    assert names(DECISIONS, "Step states", "state") == list(StepState)
    assert names(DECISIONS, "Outcomes", "outcome") == list(Outcome)


def test_every_state_and_name_of_a_breaker_is_documented() -> None:
    assert names(DECISIONS, "Breakers", "state") == list(BreakerState)
    said = names(DECISIONS, "Breakers", "name")
    assert said == list(breaker.names("NAME", "KEY"))
    (diagram,) = [text for _, text in blocks(DECISIONS, "mermaid") if "HALF_OPEN" in text]
    drawn = set(re.findall(r"(\w+) --> (\w+)", diagram))
    assert {state for pair in drawn for state in pair} == set(BreakerState)
    resets = {pair[0] for pair in breaker.MOVES if pair[1] is BreakerEvent.RESET} - {"CLOSED"}
    assert {before for before, _ in drawn if (before, "CLOSED") in drawn} == resets


def test_the_thresholds_of_breakers_are_those_of_the_code() -> None:
    rows = table(DECISIONS, "Breakers", "threshold").rows
    assert {code(row[0])[0]: row[1] for row in rows} == dict(keys(Thresholds))


def test_the_backoff_of_the_page_is_that_of_the_code() -> None:
    said = [
        (row[0], code(row[1])[0])
        for row in table(DECISIONS, "Backoff", "targets that failed in a row").rows
    ]
    delays = EngineSettings().backoff

    def wait(failures: int) -> str:
        return format_duration(dormancy.backoff(failures, first=delays.first, most=delays.most))

    assert said == [*((str(n), wait(n)) for n in range(1, 7)), ("7 and more", wait(7))]
    assert wait(7) == wait(8)


def test_the_engine_says_what_the_pages_say_that_it_does() -> None:
    engine, page = EngineSettings(), prose(DECISIONS)
    assert f"`{dormancy.TOO_MANY.format(engine.dormant_after)}`" in page
    assert f"`{dormancy.BREAKER}`" in page
    assert f"`engine.storm.targets` targets ({engine.storm.targets})" in page
    assert "beside `promheal.yml` (`engine.pause_file`)" in page
    assert f"the file `{engine.pause_file}`" in page
    assert f"From {WARN_FAILURES} targets in a row on" in page
    assert f"Beyond {CLOCK_LEAD:g} seconds" in page
    assert f"up to {MAX_TARGETS} of targets" in text_of(DOCS / "reference/metrics.md")


def test_every_table_of_the_journal_is_documented() -> None:
    schema = "".join(
        text_of(path)
        for path in sorted((REPOSITORY / "receiver/journal/migrations").glob("postgres/*.sql"))
    )
    rows = table(DOCS / "reference/journal.md", "Look inside", "table").rows
    said = [name for row in rows for name in code(row[0])]
    assert sorted(said) == sorted(re.findall(r"^create table (\w+)", schema, re.MULTILINE))


def test_the_figures_of_the_pages_are_those_of_the_code() -> None:
    limits = {
        row[0]: row[1] for row in table(DOCS / "reference/http-api.md", "Limits", "what").rows
    }
    assert limits["body"] == f"{webhook.MAX_BODY >> 20} MiB"
    assert limits["body"] == f"{framing.MAX_BODY >> 20} MiB"
    assert limits["all bodies that are arriving"] == f"{reading.MAX_BUFFERED >> 20} MiB"
    assert limits["a request, until it has arrived"] == f"{reading.DEADLINE:g} s"
    assert limits["an answer, until the client has read it"] == f"{connection.SEND_DEADLINE:g} s"
    assert limits["all answers that clients have not read"] == f"{answering.MAX_UNSENT >> 20} MiB"
    assert limits["body of a change"] == f"{steering.MAX_BODY >> 10} KiB"
    assert limits["a reason"] == f"{control.MAX_REASON} characters"
    assert limits["a pause that ends by itself"] == f"{steering.MAX_PAUSE / 86_400:g} days"
    assert f"at most {SHOWN} rows" in prose(DOCS / "reference/http-api.md")
    assert f"{FORM_AGE // 3_600} hours" in prose(DOCS / "reference/http-api.md")
    assert limits["alerts in one notification"] == f"{MAX_ALERTS:,}"
    assert limits["labels, or annotations, of one alert"] == str(MAX_LABELS)
    assert limits["characters of the name of a label or an annotation"] == f"{MAX_NAME:,}"
    assert limits["characters of a label's or an annotation's value"] == f"{MAX_TEXT:,}"
    assert f"`?limit=` from 1 to {query.MAX_PAGE} ({query.PAGE})" in text_of(
        DOCS / "reference/http-api.md"
    )
    assert f"characters for a template, {MAX_OUTPUT:,}" in text_of(DOCS / "reference/templates.md")
    assert f"asked again every {RETRY:g} seconds" in prose(DECISIONS)
    assert f"within {application.SHUTDOWN - 5} seconds" in text_of(COMMAND_LINE)
    assert PEER_LAG == 600, "ten minutes, says explanation/alertmanager.md"
    apart = f"{LOOKS} apart, at least {SHORTEST:g} and at most {LONGEST:g} seconds"
    assert f"the waiting time / {apart}" in prose(DOCS / "how-to/prove-a-heal.md")
    assert f"up to {DEPTH} such rules" in text_of(DOCS / "how-to/prove-a-heal.md")


# --- HTTP -----------------------------------------------------------------------------------------

HTTP_API = DOCS / "reference/http-api.md"


def test_every_route_is_documented(service: app.Promheal) -> None:
    routes = {
        f"{method} {as_written(rule.rule)}"
        for rule in create_app(service).url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS", "PUT"}
    }
    said = {h.strip("`") for h in headings(HTTP_API) if h.startswith("`")}
    assert said == routes


def as_written(rule: str) -> str:
    """A route as the page has it: without types, and with `|` between choices."""
    rule = re.sub(r"<any\((.*?)\):\w+>", lambda found: found[1].replace(", ", "|"), rule)
    return re.sub(r"<\w+:", "<", rule)


def test_the_payload_of_the_page_is_understood() -> None:
    payloads = [block.text for block in blocks(HTTP_API, "json") if '"startsAt": "' in block.text]
    assert len(payloads) == 1
    notification = parse_notification(payloads[0].encode())
    assert [alert.expression for alert in notification.alerts] == ["up == 0"]
    assert notification.quarantined == ()


@pytest.mark.parametrize("page", ["tutorial/first-heal.md", "reference/command-line.md"])
def test_the_readings_of_the_pages_are_understood(page: str, tmp_path: Path) -> None:
    for block in blocks(DOCS / page, "json"):
        (tmp_path / "reading.json").write_text(block.text, encoding="utf-8")
        (alert,) = read_alert_file(tmp_path / "reading.json").notification.alerts
        assert alert.name
        assert alert.labels["service"]


def examples() -> dict[str, Any]:
    """The last JSON block of each route: what it answers."""
    found = re.split(r"^### `(.*)`$", text_of(HTTP_API), flags=re.MULTILINE)[1:]
    routes = dict(zip(found[::2], found[1::2], strict=True))
    return {
        route: msgspec.json.decode(FENCE.findall(text)[-1][1])
        for route, text in routes.items()
        if "```json" in text
    }


def test_the_answers_of_the_page_have_the_keys_of_the_real_ones(service: app.Promheal) -> None:
    client = create_app(service).test_client()
    alert = '{"version": "4", "alerts": [{"status": "firing", "startsAt": "2026-01-31T12:00:00Z",'
    alert += ' "labels": {"alertname": "HighLatency", "service": "shop"}}]}'
    accepted = client.post("/webhook", data=alert, content_type="application/json").json
    missing = client.get("/api/runs/7").json
    said = [msgspec.json.decode(block.text) for block in blocks(HTTP_API, "json")]
    assert missing in said
    assert accepted in said
    assert client.post("/-/reload").json in said
    pages = examples()
    tried = {"POST /webhook", "POST /-/reload"}

    def same(route: str, method: str, path: str, body: Any = None) -> None:
        answer = client.open(path, method=method, json=body)
        assert answer.status_code < 300, answer.text
        differ = list(differences(pages[route], answer.json))
        assert not differ, f"{route}: {differ}"
        tried.add(route)

    why = {"reason": "moving the database"}
    service.clock = lambda: 1_769_860_800.0
    same("POST /api/system/heal/pause", "POST", "/api/system/heal/pause", {**why, "for": "30m"})
    service.reconciler.consider(Key("latency", 'service="shop"'))  # it waits, since all is paused
    service.current.keys = LlmKeys(PROVIDED, {}, service.clock)
    for name in ("status", "alerts", "runs", "pauses", "breakers", "tasks", "flags", "services"):
        same(f"GET /api/{name}", "GET", f"/api/{name}")
    same("POST /api/system/heal/resume", "POST", "/api/system/heal/resume", why)
    same("GET /api/audit", "GET", "/api/audit")
    name = "/api/breakers/strategy:latency/reset"
    same("POST /api/breakers/<name>/reset", "POST", name, {})
    same("DELETE /api/tasks/<task>", "DELETE", "/api/tasks/retention", {})
    same("POST /api/tasks/pause|resume|cleanup", "POST", "/api/tasks/cleanup", {})
    assert tried == pages.keys()


PROVIDED = LlmSettings(
    providers={"openai": LlmProvider(base_url="http://127.0.0.1:9/v1", keys=("OPENAI_API_KEY",))}
)
FREE = {"labels", "annotations", "byStrategy", "waiting"}
"""Mappings whose keys are anybody's."""


def differences(said: Any, real: Any, at: str = "") -> Iterator[str]:
    """Where two answers have other keys; of a list the first is looked at."""
    if isinstance(said, dict) and isinstance(real, dict) and at.rpartition(".")[2] not in FREE:
        for key in said.keys() ^ real.keys():
            yield f"{at}.{key}"
        for key in said.keys() & real.keys():
            yield from differences(said[key], real[key], f"{at}.{key}")
    elif isinstance(said, list) and isinstance(real, list) and said and real:
        yield from differences(said[0], real[0], at)
    elif type(said) is not type(real) and None not in (said, real):
        yield f"{at}: {said!r} and not {real!r}"


def test_every_issue_of_the_page_is_one_that_is_told() -> None:
    files = sorted((REPOSITORY / "receiver/reporting/needs").glob("*.py"))
    code_of = re.sub(r'"\s*(?:f?)"', "", "".join(map(text_of, files)))
    source = " ".join(re.findall(r'"([^"]*)"', code_of))
    for row in table(HTTP_API, "GET /api/status", "issue").rows:
        for text in code(row[0]) + code(row[1]):
            for part in re.split(r"CRITICAL: |WARNING: |…|NAME|\d+|\b\w*OPEN\b", text):
                assert part.strip() in source, text


# --- the shipped strategies -----------------------------------------------------------------------

SHIPPED = yaml.safe_load(text_of(REPOSITORY / "configs/healing_strategies.yml"))["strategies"]
BY_ALERT = {
    alert: name
    for name, strategy in SHIPPED.items()
    for alert in re.findall(r'^alertname="(\w+)"$', "\n".join(strategy["match"]), re.MULTILINE)
    if not alert.endswith("Ahead")
}


@pytest.mark.parametrize("alert", BY_ALERT)
def test_a_runbook_says_what_its_strategy_does_in_its_order(alert: str) -> None:
    name = BY_ALERT[alert]
    said = prose(DOCS / f"runbooks/{alert}.md").partition("promheal's strategy ")[2]
    said = said.partition(" By hand,")[0]
    assert said.startswith(f"[`{name}`](../strategies/{name}.md) ")
    assert re.findall(r"\(`(\w+)`\)", said) == [step["action"] for step in SHIPPED[name]["actions"]]


@pytest.mark.parametrize("name", BY_ALERT.values())
def test_the_page_of_a_strategy_shows_it_as_it_is_shipped(name: str) -> None:
    text = text_of(DOCS / f"strategies/{name}.md").partition("\n## What it does\n")[2]
    (block, *_) = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    shown = yaml.safe_load(block)["strategies"][name]
    assert {key: SHIPPED[name].get(key) for key in shown} == shown


# --- the command line -----------------------------------------------------------------------------

COMMAND_LINE = DOCS / "reference/command-line.md"


def commands() -> dict[str, click.Command]:
    """Every command by its words, groups included."""
    found: dict[str, click.Command] = {}

    def walk(command: click.Command, path: str) -> None:
        found[path] = command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                walk(below, f"{path} {name}")

    walk(root, "promheal")
    return found


def test_every_command_is_documented() -> None:
    said = [h.strip("`") for h in headings(COMMAND_LINE) if h.startswith("`")]
    assert sorted(said) == sorted(commands())


@pytest.mark.parametrize("path", [path for path, one in commands().items() if one.params])
def test_every_option_is_documented_with_its_default(path: str) -> None:
    known = {}
    for param in commands()[path].params:
        if isinstance(param, click.Option):
            default = param.to_info_dict()["default"]
            said = "" if param.is_flag or default is None else f"`{default}`"
            known[tuple(sorted(param.opts))] = "required" if param.required else said
    found = table(COMMAND_LINE, path, "option")
    documented = {tuple(sorted(code(row[0]))): row[1] for row in found.rows}
    documented.pop(("--help", "-h"), None)  # every command has it
    assert documented == known


def test_every_exit_code_is_documented() -> None:
    said = [row[0] for row in table(COMMAND_LINE, "Command line", "exit code").rows]
    assert said == [str(each) for each in (FINE, FINDINGS, BROKEN, WARNINGS, 130)]


def lines(block: Block) -> Iterator[str]:
    """The command lines of a block: continued lines joined, here-documents left out."""
    text = re.sub(r"<<(\w+)\n.*?^\1$", "", block.text, flags=re.MULTILINE | re.DOTALL)
    yield from (line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip())


@EACH_PAGE
def test_every_call_of_promheal_is_one(page: Path) -> None:
    for block in blocks(page, "sh"):
        for line in lines(block):
            for arguments in calls(line):
                dry_parse(arguments, whole=True)
    for span in code(prose(page)):
        if span.startswith("promheal "):
            dry_parse(shlex.split(span)[1:], whole=not is_name(span))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("promheal serv", "no command"),
        ("promheal check --strict", "--strict"),
        ("x | promheal once --dry-run", "missing"),
        ("promheal check -o sarif && true", "sarif"),
        ("promheal status now", "too much"),
    ],
)
def test_a_call_that_is_none_is_found(line: str, problem: str) -> None:
    (call,) = calls(line)
    with pytest.raises((AssertionError, click.UsageError), match=problem):
        dry_parse(call, whole=True)


# --- the plug-in ----------------------------------------------------------------------------------

WRITE_AN_ACTION = DOCS / "how-to/write-an-action.md"


@cache
def plugin() -> ModuleType:
    (block,) = blocks(WRITE_AN_ACTION, "python")
    module = ModuleType("promheal_drain")
    exec(compile(block.text, "write-an-action.md", "exec", dont_inherit=True), vars(module))
    return module


def test_the_plug_in_of_the_page_is_the_example_package() -> None:
    folder = DOCS / "examples/promheal-drain"
    for kind, name in {"python": "promheal_drain.py", "toml": "pyproject.toml"}.items():
        (block,) = blocks(WRITE_AN_ACTION, kind)
        assert block.text.strip() == text_of(folder / name).strip()


def test_the_plug_in_refuses_a_label_as_its_directory(tmp_path: Path) -> None:
    params = plugin().DrainParams(service="checkout", directory="/run/{{ labels.zone }}")
    assert list(plugin().Drain().problems(params, Inventory({}))) != []


def test_the_plug_in_is_announced_as_promheal_looks_for_it() -> None:
    (block,) = blocks(WRITE_AN_ACTION, "toml")
    project = tomllib.loads(block.text)
    assert project["project"]["entry-points"] == {GROUP: {"drain": "promheal_drain:Drain"}}
    assert project["tool"]["setuptools"]["py-modules"] == ["promheal_drain"]
    assert plugin().Drain.name == "drain"


def test_every_member_of_an_action_is_explained() -> None:
    said = {
        re.split(r"\(", name)[0]
        for name in names(WRITE_AN_ACTION, "What promheal asks of it", "member")
    }
    assert said == {
        name for name in {*vars(Action), *Action.__annotations__} if not name.startswith("_")
    }
