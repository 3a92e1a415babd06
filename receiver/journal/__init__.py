"""What was received, decided and done, durably and in order: the port that every journal offers.

`atomically(work)` runs *work* on a `Transaction`, and returns when its writes are on the disk. What
a decision rests on is read in the transaction that records it.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from receiver.clock import wall
from receiver.errors import ConfigError
from receiver.journal.condition import SOUND, Condition
from receiver.journal.steering import Pause, Steering
from receiver.journal.stored import Stored as Stored
from receiver.policy.alert import Alert, Quarantined
from receiver.policy.breaker import Breaker
from receiver.policy.decide import Decision
from receiver.policy.dormancy import Dormancy
from receiver.policy.run import Doubt, Observation, Outcome, Plan, Run, State, Step
from receiver.policy.target import Key

T = TypeVar("T")

_POSTGRES: Final = {"postgresql", "postgres"}
_json = msgspec.json.Encoder().encode


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """One firing of one fingerprint, from its start until it is resolved."""

    id: int
    alert: Alert
    sender: str
    """`externalURL` of the Alertmanager that said it last, as it says."""
    vouched_by: str = ""
    """The last sender of it that the operator trusts, as it has shown itself; empty for none."""
    vouched_link: str = ""
    """The link that this one gave: others may say other things meanwhile."""
    first_seen: float
    """When its first notification arrived, seconds since the epoch."""
    last_seen: float
    notifications: int


class Want(msgspec.Struct, frozen=True, array_like=True):
    """A strategy that selects an alert, and the target that it names."""

    strategy: str
    target: str
    fingerprint: str


class Admission:
    """What a notification says, ready to be written: made before the journal's turn comes."""

    WIDTH: ClassVar[int] = 5
    """Values of an alert in `firing`."""

    __slots__ = ("firing", "firing_alerts", "resolved", "said_twice")

    def __init__(self, alerts: Iterable[Alert]) -> None:
        firing = {}
        self.resolved: list[tuple[str, float]] = []
        """(fingerprint, end)."""
        self.said_twice = 0
        """Firing alerts that stand in one notification more than once."""
        for alert in alerts:
            if alert.ends_at is None:
                self.said_twice += alert.fingerprint in firing
                firing[alert.fingerprint] = alert
            else:
                self.resolved.append((alert.fingerprint, alert.ends_at))
        self.firing_alerts = len(firing)
        self.firing: list[object] = []
        """Fingerprint, start, labels and annotations as JSON, and link, one alert after another."""
        for alert in firing.values():
            self.firing += (
                alert.fingerprint,
                alert.starts_at,
                _json(alert.labels).decode(),
                _json(alert.annotations).decode(),
                alert.generator_url,
            )


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one notification."""

    opened: int
    repeated: int
    """Firing alerts of an episode that is open already: repeats, retries, HA peers."""
    late: int
    """Firing alerts whose episode has ended: a peer that lags behind."""
    closed: int
    not_open: int
    """Resolved alerts without an open episode."""
    released: frozenset[Key]
    """What a resolved alert asked for until now."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as it was written down."""

    id: int
    strategy: str
    target: str
    verdict: str
    reason: str
    until: float | None
    detail: str
    answers: list[dict[str, Any]]
    """[{guard, verdict, reason, until, detail}] in the order in which they were asked."""
    run: int | None
    episode: int | None
    """The newest that asked for it, the last time; None when nothing fired."""
    at: float
    last_at: float
    times: int


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What the guards rest on."""

    holder: int | None
    holder_reason: str
    acting: int
    last_end: float | None
    last_healed: float | None
    last_outcome: Outcome | None
    """How the last run that acted on this target ended."""
    forgets_at: float | None
    """Of the last run of this strategy that acted on it."""
    starts: tuple[float, ...]
    dormancy: Dormancy
    pauses: tuple[Pause, ...]
    """Those that are in force, the oldest first."""
    veto: str
    """Who said no and why, while anything fires that it was said to; else nothing."""
    breakers: tuple[tuple[str, Breaker], ...]
    """The main one, the strategy's and the target's, by name."""
    touched: int
    """Runs of the strategy that hold a target, or have begun lately; no more than asked for."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A process that carries work, where there are several."""

    id: str
    host: str
    machine: str = ""
    """Which machine or container, for its other processes, who can see whether it lives."""
    pid: int = 0
    born: int = 0
    """When the process was started, in ticks since the machine was."""
    names: tuple[str, ...]
    """What it executes steps for; `` for runs that are bound to no host."""
    version: str
    seen: float
    """When it was last heard of, seconds since the epoch by the server's clock."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What the metrics and the status show of the present."""

    totals: Mapping[tuple[str, tuple[str, ...]], float]
    """Lifetime counters by (metric, label values)."""
    firing: Mapping[str, int]
    """Open episodes by strategy."""
    open_alerts: int
    in_progress: Mapping[str, int]
    """Runs that hold a target, by strategy."""
    states: Mapping[str, int]
    """Unfinished runs by state."""
    waiting: Mapping[str, int]
    """Pending runs by what they wait for."""
    workers: tuple[Worker, ...]
    """The living processes that carry work, where there may be several."""
    without_worker: int
    """Unfinished runs whose steps nobody would execute now."""
    size_bytes: int


class Transaction(Steering):
    """Reads and writes that happen together or not at all."""

    # -- what arrives

    @abstractmethod
    def admit(
        self,
        admission: Admission,
        wants: Sequence[Want],
        *,
        sender: str,
        now: float,
        vouched_by: str = "",
    ) -> Admitted:
        """Fold alerts into episodes: one open episode for each fingerprint.

        *vouched_by* is the sender if the operator trusts its expressions, else empty.
        """

    @abstractmethod
    def quarantine(self, bad: Iterable[Quarantined], *, sender: str, now: float) -> None: ...

    @abstractmethod
    def open_episodes(self, *, limit: int, offset: int = 0) -> list[Episode]: ...

    @abstractmethod
    def episode(self, episode: int) -> Episode | None: ...

    @abstractmethod
    def give_up(self, *, before: float, episode: int | None = None) -> int:
        """Close what was last said before *before*: this episode, or all that no strategy wants."""

    @abstractmethod
    def disputed(self, *, limit: int) -> list[tuple[Episode, float]]:
        """Closed episodes that a later notification said to fire, and when it did."""

    @abstractmethod
    def settle_dispute(self, episode: Episode, wants: Iterable[Want] | None, *, now: float) -> None:
        """Open the episode again for these strategies, or let it rest (None)."""

    @abstractmethod
    def rematch(self, select: Callable[[Alert], Iterable[Want]]) -> None:
        """Match everything that fires anew, after a change of the configuration."""

    # -- what is to be considered

    @abstractmethod
    def keys(self) -> set[Key]:
        """Everything that fires for a strategy, and every unfinished run."""

    @abstractmethod
    def firing(self) -> list[tuple[Key, int]]:
        """Every alert that a strategy is asked for, as (key, episode)."""

    @abstractmethod
    def unfinished_runs(self) -> list[tuple[Key, int, State]]:
        """Every run that has no outcome yet, as (key, id, state)."""

    @abstractmethod
    def known_targets(self) -> list[str]:
        """Every target that fires, or of which a run or a decision is remembered."""

    @abstractmethod
    def asking(self, key: Key, *, limit: int) -> list[Episode]:
        """The alerts that ask for this strategy on this target, the one said last first."""

    def wanted(self, key: Key) -> Episode | None:
        """The first of them, where it only matters whether there is any."""
        return next(iter(self.asking(key, limit=1)), None)

    @abstractmethod
    def unfinished(self, key: Key) -> Run | None:
        """The run of this strategy on this target that has no outcome yet, with its steps."""

    @abstractmethod
    def history(
        self, key: Key, *, now: float, but: int, since: float, most: int, lately: float
    ) -> History:
        """Return what other runs (not *but*) did on this target, and all else that stops us.

        Starts after *since*; *most* runs of the strategy that began after *lately* are enough.
        """

    @abstractmethod
    def pending_on(self, target: str) -> list[Key]: ...

    @abstractmethod
    def next_pending(self, reason: str) -> Key | None: ...

    # -- other processes; without effect where one does it all

    @abstractmethod
    def wake(self, keys: Iterable[Key], at: float | None = None, *, idle: bool = False) -> set[str]:
        """Have *keys* considered at *at*, or as soon as can be, when this transaction is durable.

        *idle*: only those that are not to be considered at any time yet. Returns the queues in
        which that was put; none where the engine is in this process, and told by its own `wake`.
        """

    @abstractmethod
    def hold(self, target: str, seconds: float) -> None:
        """Keep a target that is being considered from others for so long, heard of or not."""

    @abstractmethod
    def has_worker(self, name: str) -> bool:
        """Whether a living process executes steps for this host or label."""

    @abstractmethod
    def workers(self) -> list[Worker]:
        """Return the living processes that carry work."""

    # -- what was decided and done

    @abstractmethod
    def record(self, key: Key, decision: Decision, *, run: int | None, now: float) -> bool:
        """Write a decision down; True when it is news and not a repetition of the last one.

        It repeats the last one of *key* while verdict, reason and run are the same, and something
        fires for the key that had fired then. So what fires when all had ended is news.
        """

    @abstractmethod
    def open_run(
        self,
        key: Key,
        state: State,
        *,
        episode: Episode,
        now: float,
        reason: str = "",
        until: float | None = None,
        plan: Plan | None = None,
        config_hash: str = "",
    ) -> Run: ...

    @abstractmethod
    def change(self, run: Run, state: State, **changes: Any) -> Run:
        """Write a run's next state. Raises AssertionError for one that may not follow."""

    @abstractmethod
    def finish(
        self,
        run: Run,
        outcome: Outcome,
        reason: str,
        *,
        now: float,
        doubt: Doubt | None = None,
        forgets_at: float | None = None,
    ) -> Run: ...

    @abstractmethod
    def doubtful(self, key: Key) -> int:
        """How many runs of *key* have ended inconclusive since one was proven, either way.

        Those only that count: neither those for which Prometheus could not be asked, nor those
        that had nothing to prove.
        """

    @abstractmethod
    def last_heal(self, key: Key) -> Run | None:
        """The last run of *key* that healed, unless its heal is known not to have held."""

    @abstractmethod
    def put_relapse(self, run: int, now: float) -> None:
        """Note that a heal has not held."""

    @abstractmethod
    def relapses(self, *, since: float) -> Mapping[Key, int]:
        """How many heals are known since then not to have held, by what they had healed."""

    @abstractmethod
    def ask_cancel(self, run: int, why: str) -> None:
        """Note that an unfinished run is to be cancelled before its next step."""

    @abstractmethod
    def put_step(self, run: int, step: Step) -> None:
        """Write a step down, but for what it has saved."""

    @abstractmethod
    def save_step(self, run: int, index: int, saved: Mapping[str, Any]) -> None:
        """Write down what undoing a step needs, in place of what it had saved before."""

    @abstractmethod
    def put_observation(self, run: int, observation: Observation) -> None: ...

    @abstractmethod
    def count(self, metric: str, *labels: str, by: float = 1) -> None:
        """Add to a lifetime counter."""

    # -- what people and metrics ask

    @abstractmethod
    def run(self, run: int) -> Run | None: ...

    @abstractmethod
    def runs(
        self,
        *,
        limit: int,
        before: int | None = None,
        strategy: str | None = None,
        state: str | None = None,
        outcome: str | None = None,
    ) -> list[Run]:
        """Newest first, without their steps."""

    @abstractmethod
    def pending_runs(self, reason: str, *, limit: int) -> list[Run]:
        """Return the runs that wait for this reason, oldest first, without their steps."""

    @abstractmethod
    def unhealed(self, *, limit: int) -> list[Run]:
        """Return the last run on each target that acted in vain, while its alert fires.

        Newest first, without their steps. An alert that came after its end is another matter.
        """

    @abstractmethod
    def last_run(self, key: Key) -> Run | None: ...

    @abstractmethod
    def last_decision(self, key: Key) -> Recorded | None: ...

    @abstractmethod
    def observations(self, run: int) -> list[Observation]: ...

    @abstractmethod
    def decisions(self, run: int) -> list[Recorded]: ...

    @abstractmethod
    def latest_decisions(
        self, *, limit: int, before: int | None = None, strategy: str | None = None
    ) -> list[Recorded]:
        """Newest first, also those that led to no run."""

    @abstractmethod
    def snapshot(self) -> Snapshot: ...

    @abstractmethod
    def most_starts(self, strategy: str, *, since: float) -> int:
        """How often the target was acted on that was acted on most, after *since*."""

    @abstractmethod
    def newest(self) -> float:
        """The newest time in the journal; 0 when it is empty."""

    @abstractmethod
    def prune(self, *, before: float, limit: int) -> int:
        """Delete at most *limit* old rows of each kind; return how many went."""


class Journal(ABC):
    """Raises JournalError when it cannot store or read; then nothing of the work was stored."""

    trouble: str = ""
    """Why the last attempt to store something failed; nothing when it succeeded."""

    @property
    def writable(self) -> bool:
        """Whether the last attempt to store something succeeded."""
        return not self.trouble

    @property
    def condition(self) -> Condition:
        """Whether it may be used; if not, why, and what there is to do about it."""
        return SOUND

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether it can still come to store anything."""

    @abstractmethod
    def atomically(self, work: Callable[[Transaction], T]) -> T:
        """Run *work*, and return its result once everything it wrote is durable.

        *work* touches nothing but its transaction: when another piece of its group fails, it is
        undone and run once more.
        """

    @abstractmethod
    def submit(self, work: Callable[[Transaction], T], done: Callable[[Stored[T]], None]) -> None:
        """Like `atomically`, without waiting: *done* is told what became of it.

        *done* is called in the journal's own thread, so it must be quick.
        """

    @abstractmethod
    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run *work*, which only reads, beside the writers."""

    @abstractmethod
    def acquire(self) -> bool:
        """Become, or stay, the one process that acts; where it is shared, that keeps house.

        False while another one is.
        """

    # -- where several processes act beside each other; here, that one does it all

    @property
    def shared(self) -> bool:
        """Whether several processes act on it beside each other."""
        return False

    def news(self, timeout: float) -> bool:
        """Wait for something that who keeps house must tell people; False after *timeout* s."""
        raise NotImplementedError(f"who acts alone is told by itself, and not after {timeout} s")

    def now(self) -> float:
        """Return the time that all who share it go by, seconds since the epoch."""
        return wall()

    def secret(self, name: str) -> bytes:  # noqa: ARG002  there is nobody to share it with
        """Return random bytes that all who share it have in common."""
        return secrets.token_bytes(32)

    @abstractmethod
    def close(self) -> None: ...


def open_journal(
    url: str,
    *,
    observe_commit: Callable[[float], None] | None = None,
    patient: bool = False,
) -> Journal:
    """Open the journal at *url*, and bring its schema up to date.

    *url* is sqlite:///data/promheal.db (relative), sqlite:////var/lib/promheal.db (absolute) or
    postgresql://USER@HOST/DATABASE, as libpq reads it. *observe_commit* is told the seconds that
    each commit took. Raises JournalError when it cannot be opened, is damaged, or is not the
    journal that was there. *patient*: then a file's `condition` says so instead, and it becomes
    well by itself when that has been mended; nor is a file's check waited for.
    """
    if url.partition("://")[0] in _POSTGRES:
        found: Journal = _postgres().PostgresJournal(url, observe_commit=observe_commit)
        return found
    path = file_of(url)
    from receiver.journal.sqlite import SqliteJournal  # noqa: PLC0415

    return SqliteJournal(path, observe_commit=observe_commit, patient=patient)


def file_of(url: str) -> Path:
    """Return the path of a journal in a file. Raises ConfigError for any other URL."""
    scheme, separator, path = url.partition("://")
    if scheme != "sqlite" or not separator or not path.startswith("/") or path == "/":
        raise ConfigError(
            f"--storage.url {url!r}: write sqlite:///PATH or postgresql://USER@HOST/DATABASE"
        )
    return Path(path[1:])


def prepare_journal(url: str) -> bool:
    """See whether *url* leads to a journal at all, and return whether it is a shared one.

    For who forks afterwards: it leaves nothing open, and PostgreSQL's client begins no thread here.
    What OpenSSL holds while one ends (its join does not wait for that) is held for ever in a
    process that is forked then. A file is not read through, and may be one that cannot be used now.
    """
    if url.partition("://")[0] in _POSTGRES:
        _postgres().prepare(url)
        return True
    path = file_of(url)
    from receiver.journal.sqlite_file import refuse_wrong  # noqa: PLC0415

    refuse_wrong(path)
    return False


def _postgres() -> ModuleType:
    from importlib import import_module  # noqa: PLC0415

    try:
        return import_module("receiver.journal.postgres")
    except ImportError as error:
        raise ConfigError(
            f"--storage.url postgresql:// needs what is not installed ({error}): "
            "pip install 'promheal[postgres]'"
        ) from None
