"""What the documentation says of the life of a run, as a model that predicts all of it.

It shares no code with promheal, and no table: states, outcomes and reasons are the words that the
documentation uses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

FOUND: Final = {
    "works": "done", "cures": "done", "fails": "failed", "raises": "failed", "later": "started",
    "skips": "skipped",
}  # fmt: skip
"""What is written down of a step when its call has ended so."""

START: Final = 1_800_000_000.0
GRACE, WITHIN, LATER, STALE, APPROVAL = 30.0, 100.0, 30.0, 5_000.0, 3_600.0
HOLDING: Final = ("acting", "waiting", "verifying", "rolling_back")
"""States in which a run holds its target."""
SETTLE, AT_MOST, RELAPSE, RETRY = 10.0, 200.0, 600.0, 10.0
DOUBTFUL: Final = 3
"""From so many runs in a row on that cannot be proven, each is a failure."""
FAILURES: Final = ("ineffective", "failed", "rolled_back", "rollback_failed", "unknown")


class Act(NamedTuple):
    """What one call of an action does."""

    what: str = "works"
    cancelled: bool = False
    """Meanwhile a person cancels the run."""


class Step(NamedTuple):
    applies: bool = True
    repeatable: bool = False
    undoable: bool = True


class Wish(NamedTuple):
    """What the configuration says; a run under way keeps what it began with."""

    steps: tuple[Step, ...] = (Step(), Step(), Step())
    keep: bool = False
    remembers: float | None = 0.0
    """Seconds that the rule looks back; None: nobody knows."""


class Death(NamedTuple):
    """Where it was found to have died: in this step, that was written down as started."""

    phase: str
    step: int
    attempts: int


class Script:
    """What the next calls do; what is not written there works."""

    def __init__(self, runs: Iterable[Act] = (), undos: Iterable[Act] = (), asked: int = 0) -> None:
        self.of: dict[str, deque[Act]] = {"run": deque(runs), "rollback": deque(undos)}
        self.asked = asked
        """The question to Prometheus, counted from the next one, during which a person cancels."""

    def next_call(self, phase: str) -> Act:
        return self.of[phase].popleft() if self.of[phase] else Act()

    def is_asked(self) -> bool:
        self.asked -= 1
        return self.asked == 0


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


@dataclass
class Found:
    """A step as it is written down."""

    state: str = "started"
    attempts: int = 1


@dataclass
class Row:
    """Failures in a row, as a breaker counts them that never opens."""

    once: bool = False
    """The one target that there is here counts once, however often it fails."""
    failures: int = 0
    heal: int | None = None
    """The run by which it has forgotten failures, and how many."""
    forgotten: int = 0

    def failure(self, run: int) -> None:
        if run == self.heal:  # it did not hold: what was forgotten is remembered
            self.failures += self.forgotten
            self.heal = None
        self.failures = 1 if self.once else self.failures + 1

    def success(self, run: int) -> None:
        self.heal, self.forgotten = (run if self.failures else None), self.failures
        self.failures = 0


@dataclass
class Life:
    """A run."""

    id: int
    name: str
    wish: Wish = field(default_factory=Wish)
    state: str = "pending"
    outcome: str | None = None
    cause: str = ""
    cancel: bool = False
    steps: dict[tuple[str, int], Found] = field(default_factory=dict)
    until: float | None = None
    verify_from: float = 0.0
    acted: bool = False
    ended: float = 0.0
    waits_for: str = ""
    asked_at: float | None = None
    approved_at: float | None = None
    doubt: str | None = None
    forgets_at: float | None = None
    relapsed_at: float | None = None

    def begun(self) -> list[int]:
        """Steps that may have done something, if only half of it; the last one first."""
        return [
            index
            for index in (2, 1, 0)
            if (found := self.steps.get(("run", index))) is not None
            # One that died and then found nothing to do may have done it all the first time.
            and (found.state != "skipped" or found.attempts > 1)
        ]


class Model:
    def __init__(self) -> None:
        self.now = START
        self.fires = False
        self.first_seen = self.seen = 0.0
        self.signal = "firing"
        self.reachable = True
        """Whether Prometheus can be asked."""
        self.wish = Wish()
        self.script = Script()
        self.lives: list[Life] = []
        self.noes: dict[str, float] = {}
        self.calls: list[str] = []
        self.answers: list[str] = []
        self.woken: set[str] = set()
        self.decided: tuple[str, str] | None = None
        self.death: Death | None = None
        self.made = 0
        self.rows: dict[str, Row] = {}
        """By breaker."""
        self.doubts_counted = self.taken_back = 0
        """How often what is inconclusive was a failure, and a relapse made failures remembered."""

    def unfinished(self, name: str) -> Life | None:
        found = [life for life in self.lives if life.name == name and life.outcome is None]
        assert len(found) <= 1
        return found[0] if found else None

    def pending(self) -> list[Life]:
        return [life for life in self.lives if life.state == "pending"]

    def holds(self) -> Life | None:
        """The run that holds the target."""
        return next((life for life in self.lives if life.state in HOLDING), None)

    def consider(self, name: str, death: Death | None, made: int) -> float | None:
        """Return when to look again. Raises Killed when it died in a step; *made* calls by then."""
        self.death, self.made, self.decided = death, made, None
        self.woken.clear()
        life = self.unfinished(name)
        if life is None or life.state == "pending":
            return self.decide(name, life)
        if life.state == "acting":
            return self.forward(life, crashed=True)
        if life.state == "rolling_back":
            return self.backward(life)
        if life.cancel:
            for found in life.steps.values():
                if found.state == "started":
                    found.state = "failed"  # the timer is cut short
            return self.give_up(life, "cancelled")
        if life.state == "verifying":
            return self.look(life)
        assert life.until is not None
        return life.until if self.now < life.until else self.forward(life, crashed=False)

    # -- may it begin?

    def decide(self, name: str, pending: Life | None) -> float | None:
        if not self.fires:
            if pending is not None:
                self.decided = ("deny", "resolved")
                self.finish(pending, "cancelled")
            return None
        answer, reason, until = self.refusal(name, pending)
        self.decided = (answer, reason)
        pending = self.unfinished(name)  # while Prometheus was asked a person may have ended it
        if answer == "deny":
            if reason in {"resolved", "stale"} and self.seen < self.now - STALE:
                self.fires = False  # nobody has said so for too long
            if reason == "approval_expired":
                self.noes[name] = self.now
            if pending is not None:
                self.finish(pending, "cancelled")
            return None
        if pending is None:
            pending = Life(len(self.lives) + 1, name)
            self.lives.append(pending)
        if answer == "wait":
            pending.waits_for, pending.until = reason, until
            if reason == "awaiting_approval" and pending.asked_at is None:
                pending.asked_at = self.now
            return until
        pending.wish, pending.acted, pending.until = self.wish, True, None
        return self.forward(pending, crashed=False)

    def refusal(self, name: str, pending: Life | None) -> tuple[str, str, float | None]:
        busy = self.holds() is not None
        if not busy and not self.rejected(name):  # else the answer could not matter
            if self.script.is_asked() and pending is not None:
                self.cancel(pending)
            self.note_relapse(name, asked=True)
            found = self.doubted()
            if found is not None:
                return found
        else:
            self.note_relapse(name, asked=False)
        if self.rejected(name):
            return "deny", "rejected", None
        if busy:
            return "wait", "busy", None
        last = max(self.acted(), key=lambda life: life.ended, default=None)
        if last is not None:
            until = max(last.ended + GRACE, self.forgets_at(name, last))
            if self.now < until:
                return "wait", "grace_period", until
        if last is not None and last.outcome == "rollback_failed":
            return self.approval(pending)
        return "allow", "", None

    def rejected(self, name: str) -> bool:
        return name in self.noes and self.first_seen <= self.noes[name]

    def acted(self) -> list[Life]:
        return [life for life in self.lives if life.outcome is not None and life.acted]

    def doubted(self) -> tuple[str, str, float | None] | None:
        """What is over, and what nobody confirms."""
        over = self.over()
        if over:
            return "deny", over, None
        if self.signal == "unknown" and not self.reachable:
            return "wait", "condition_unknown", self.now + RETRY
        return None

    def forgets_at(self, name: str, last: Life) -> float:
        """Until when what fires since before the last end may do so for old reasons."""
        own = [life for life in self.acted() if life.name == name]
        if not own or self.first_seen > last.ended:
            return 0.0
        return own[-1].forgets_at or 0.0

    def note_relapse(self, name: str, *, asked: bool) -> None:
        """What fires again soon after a heal makes a failure of it."""
        heals = [life for life in self.lives if life.name == name and life.outcome == "healed"]
        if not heals or heals[-1].relapsed_at is not None:
            return
        heal = heals[-1]
        anew = self.first_seen > heal.ended
        since = self.first_seen if anew else self.now
        # Whether what nobody has ended is true again only Prometheus can tell.
        if (anew or (asked and self.signal == "firing")) and since - heal.ended < RELAPSE:
            heal.relapsed_at = self.now
            for row in self.rows_of(heal)[1:]:
                self.taken_back += row.heal == heal.id
                row.failure(heal.id)

    def rows_of(self, life: Life) -> list[Row]:
        """Of everything, of its strategy and of the target."""
        kinds = ("main", life.name, "target")
        return [self.rows.setdefault(kind, Row(once=kind == "main")) for kind in kinds]

    def count(self, life: Life) -> None:
        """It has ended, and the breakers hear of it; two of them also of what proves nothing."""
        own = [one for one in self.lives if one.name == life.name and one is not life]
        row: list[Life] = []
        for one in own:
            row = [] if one.outcome in {"healed", "ineffective"} else [*row, one]
        doubtful = sum(one.doubt in {"unknown", "old_data"} for one in row)
        for place, counted in enumerate(self.rows_of(life)):
            if life.outcome == "healed":
                counted.success(life.id)
            elif life.outcome in FAILURES:
                counted.failure(life.id)
            elif place and life.doubt in {"unknown", "old_data"} and doubtful + 1 >= DOUBTFUL:
                self.doubts_counted += 1
                counted.failure(life.id)

    def over(self) -> str:
        if self.signal == "cleared":
            return "resolved"
        if self.signal == "unknown":
            healed = [life.ended for life in self.acted() if life.outcome == "healed"]
            if healed and max(healed) >= self.seen:
                return "resolved"
            if self.now - self.seen > STALE:
                return "stale"
        return ""

    def approval(self, pending: Life | None) -> tuple[str, str, float | None]:
        asked_at, approved_at = self.now, None
        if pending is not None:
            approved_at = pending.approved_at
            asked_at = self.now if pending.asked_at is None else pending.asked_at
        if approved_at is not None and self.now < approved_at + APPROVAL:
            return "allow", "", None
        if self.now >= asked_at + APPROVAL:
            return "deny", "approval_expired", None
        return "wait", "awaiting_approval", asked_at + APPROVAL

    # -- steps

    def forward(self, life: Life, *, crashed: bool) -> float | None:
        life.state, life.until = "acting", None
        for index, planned in enumerate(life.wish.steps):
            here = ("run", index)
            found = life.steps.get(here)
            if found is not None and found.state != "started":
                continue
            if not planned.applies:
                life.steps[here] = Found("skipped")
                continue
            self.dies_before(life, here)
            if found is None or crashed:
                refused = self.begins(life, here)
                if refused:
                    return self.give_up(life, refused)
            found = life.steps[here]
            found.state = FOUND[self.call(life, here, f"{life.id} run {index}")]
            if found.state == "failed":
                return self.give_up(life, "failed")
            if found.state == "started":
                life.state, life.until = "waiting", self.now + LATER
                return life.until
        if not life.begun():
            return self.finish(life, "cancelled")
        if life.cancel:
            return self.give_up(life, "cancelled")
        life.state, life.verify_from = "verifying", self.now
        return self.look(life)

    def begins(self, life: Life, here: tuple[str, int]) -> str:
        """Write down that a step begins, or begins anew; return the outcome if it does not."""
        found = life.steps.get(here)
        if found is None:
            if not life.cancel:
                life.steps[here] = Found()
            return "cancelled" if life.cancel else ""
        if life.cancel or not life.wish.steps[here[1]].repeatable:
            found.state = "unknown"  # it is not run again, and nobody knows
            return "cancelled" if life.wish.steps[here[1]].repeatable else "unknown"
        found.attempts += 1
        return ""

    def dies_before(self, life: Life, here: tuple[str, int]) -> None:
        """It was written down as started, and the action was not called."""
        if self.death is None or self.death[:2] != here or self.made > len(self.calls):
            return
        found = life.steps.setdefault(here, Found(attempts=0))
        assert self.death.attempts in {found.attempts, found.attempts + 1}
        found.attempts = self.death.attempts
        raise Killed

    def call(self, life: Life, here: tuple[str, int], said: str) -> str:
        act = self.script.next_call(here[0])
        self.now += 1.0
        self.calls.append(said)
        if act.cancelled:
            self.cancel(life)
        if act.what == "cures":
            self.signal = "cleared"
        if act.what == "dies" or (self.death is not None and self.death[:2] == here):
            raise Killed
        return act.what

    def give_up(self, life: Life, cause: str) -> float:
        if life.cancel and cause == "failed":
            cause = "cancelled"
        if life.wish.keep or not any(life.wish.steps[index].undoable for index in life.begun()):
            return self.finish(life, cause)
        life.state, life.cause, life.until = "rolling_back", cause, None
        return self.backward(life)

    def backward(self, life: Life) -> float:
        undone = [index for index in life.begun() if life.wish.steps[index].undoable]
        for index in undone:
            here = ("rollback", index)
            found = life.steps.get(here)
            if found is not None and found.state != "started":
                continue
            self.dies_before(life, here)
            if found is None:
                found = life.steps[here] = Found()
            elif life.wish.steps[index].repeatable:
                found.attempts += 1
            else:
                found.state = "unknown"
                continue
            known = "known" if life.steps["run", index].state == "done" else "unknown"
            found.state = FOUND[self.call(life, here, f"{life.id} undo {index} {known}")]
        if any(life.steps["rollback", index].state != "done" for index in undone):
            return self.finish(life, "rollback_failed")
        return self.finish(life, "rolled_back" if life.cause == "failed" else life.cause)

    # -- and the proof

    def look(self, life: Life) -> float:
        if self.script.is_asked():
            self.cancel(life)
        remembers = life.wish.remembers
        longest = WITHIN
        if remembers is not None:
            longest = max(WITHIN, min(remembers + SETTLE, AT_MOST))
        deadline = life.verify_from + longest
        if life.cancel:
            return self.give_up(life, "cancelled")
        if self.signal == "cleared":
            return self.finish(life, "healed")
        if self.now < deadline:
            return min(self.now + longest / 20, deadline)
        if self.signal == "firing":
            if remembers is not None and self.now >= life.verify_from + remembers:
                return self.give_up(life, "ineffective")
            life.doubt = "old_data"
        else:
            life.doubt = "unknown" if self.reachable else "unasked"
        if remembers is not None:
            life.forgets_at = life.verify_from + remembers
        return self.finish(life, "inconclusive")

    def finish(self, life: Life, outcome: str) -> float:
        life.state, life.outcome, life.ended, life.until = "finished", outcome, self.now, None
        if life.acted:  # it held the target
            self.count(life)
            self.woken |= {other.name for other in self.pending()}
        return self.now

    def cancel(self, life: Life) -> None:
        if life.cancel or life.state in {"rolling_back", "finished"}:
            self.answers.append("refused")
            return
        self.answers.append("accepted")
        self.noes[life.name] = self.now
        if life.state == "pending":
            self.finish(life, "cancelled")
        else:
            life.cancel = True
            self.woken.add(life.name)
