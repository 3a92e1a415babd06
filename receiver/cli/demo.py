"""`promheal demo`: make a real service sick, heal it and prove that it is well."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, Final

import click
import msgspec

from receiver.cli import FINDINGS, FINE
from receiver.clock import steady_clock
from receiver.demo.chain import Chain, DemoError, find_programs
from receiver.demo.faults import FAULTS, Fault
from receiver.demo.narrator import Narrator, Tone
from receiver.demo.story import Figures, Story, report
from receiver.demo.watch import Watch
from receiver.settings.environment import environment

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command("demo")
@click.option(
    "--sick",
    "name",
    type=click.Choice(list(FAULTS)),
    default="latency",
    show_default=True,
    help="What goes wrong with the service.",
)
@click.option(
    "--keep",
    is_flag=True,
    help="Afterwards, leave all running and go on telling what happens, until Ctrl-C.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object with the figures; the story goes to standard error.",
)
def command(name: str, *, keep: bool, as_json: bool) -> int:
    """Make a real web service sick, and watch it being healed and proven well.

    Prometheus, Alertmanager, promheal and the service are started on free loopback ports, with one
    temporary folder for all of them, and ended and removed at the end, also by Ctrl-C. Nothing else
    on this machine is touched.

    Exit code 0 only when Prometheus itself says that the service is well again, 1 when it does not,
    2 when something is not installed.
    """
    programs = find_programs()
    with ExitStack() as stack:
        for number in _ENDING:
            before = signal.signal(number, _interrupt)
            stack.callback(signal.signal, number, before)
        narrator = Narrator(sys.stderr if as_json else sys.stdout, environment())
        stack.callback(narrator.clear)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="promheal-demo-")))
        chain = Chain(folder, programs)
        stack.callback(chain.close)
        stack.callback(_ignore)  # let the clean-up finish
        return _play(chain, narrator, FAULTS[name], keep=keep, as_json=as_json)


def _play(chain: Chain, narrator: Narrator, fault: Fault, *, keep: bool, as_json: bool) -> int:
    story: Story | None = None
    figures: Figures | None = None
    problem: DemoError | None = None
    try:
        narrator.title("Starting Prometheus, Alertmanager, promheal and a service")
        chain.start(lambda missing: narrator.waiting(f"waiting for {missing}"))
        clock = steady_clock()
        watch = Watch(chain.url("prometheus"), chain.url("promheal"), clock)
        story = Story(chain, watch, narrator, clock)
        story.wait_well(fault)
        figures = story.tell(fault)
    except DemoError as error:
        problem = error
    if figures is not None:
        _praise(narrator, figures)
    elif problem is not None:
        _blame(narrator, chain, problem)
    if as_json:
        answer = _answer(chain, fault, story, figures, problem)
        click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
    if keep and story is not None:
        _keep(narrator, chain, story)
    return FINE if figures is not None else FINDINGS


def _praise(narrator: Narrator, figures: Figures) -> None:
    narrator.title("Healed", Tone.WELL)
    for what, value in report(figures):
        narrator.note(f"  {what:<32}{value}")


def _blame(narrator: Narrator, chain: Chain, problem: DemoError) -> None:
    narrator.title(f"Not healed: {problem}", Tone.ILL)
    log = chain.log(problem.program) if problem.program else ""
    if log:
        narrator.note(f"The last lines of {problem.program}:")
        narrator.note("\n".join(f"  {line}" for line in log.splitlines()))


def _keep(narrator: Narrator, chain: Chain, story: Story) -> None:
    """Leave it running until a signal, and narrate what happens."""
    narrator.title("All is left running, and what happens is told; Ctrl-C ends and removes it")
    for program in chain.addresses:
        narrator.note(f"  {program:<14}{chain.url(program)}")
    narrator.note(f"  {'files, logs':<14}{chain.folder}")
    narrator.note(f"  {'once more':<14}curl -X POST '{chain.url('shop')}/sick?how=memory'")
    narrator.note(f"  {'ask promheal':<14}promheal run 1 --url {chain.url('promheal')}")
    try:
        with suppress(KeyboardInterrupt):
            story.follow()
    except DemoError as error:
        _blame(narrator, chain, error)


def _answer(
    chain: Chain,
    fault: Fault,
    story: Story | None,
    figures: Figures | None,
    problem: DemoError | None,
) -> dict[str, Any]:
    """Return what --json prints; without a heal there are no figures, and `error` says why."""
    outcome = (story and story.outcome) or "failed"
    if figures is not None:
        outcome = "healed"
    elif outcome == "healed":  # a heal that cannot be proven here is none
        outcome = "unproven"
    return {
        "outcome": outcome,
        "sick": fault.name,
        "alert": fault.alert,
        "error": None if problem is None else str(problem),
        **{
            field: None if figures is None else msgspec.to_builtins(getattr(figures, field))
            for field in Figures.__struct_fields__
        },
        "addresses": {program: chain.url(program) for program in chain.addresses},
    }


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Treat every signal to end as Ctrl-C, and ignore the ones after the first.

    Shells start background jobs with SIGINT ignored; a handler of our own receives it all the same.
    """
    _ignore()
    raise KeyboardInterrupt


def _ignore() -> None:
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
