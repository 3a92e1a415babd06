"""What does one alert cost the journal, from its notification to its end? Measured piece by piece.

Two services of our own, in this process: one that receives and decides, and one for the host that a
run is bound to. Their engines are not started, each job is given to them in its turn, Prometheus
answers what we say, and nobody else writes: so the time of a piece is how long its writer has it,
and for some of them the lock under which runs begin and end.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest import mock

import msgspec
import psycopg

from bench import servers
from receiver.app import Promheal, build
from receiver.app.housekeeping import PRUNE_ROWS
from receiver.bootstrap import Options
from receiver.engine.postgres import PostgresEngine
from receiver.healing.verifier import PrometheusVerifier
from receiver.journal import EVERYTHING, Extent, Transaction
from receiver.journal.extent import Lane
from receiver.journal.postgres import PostgresJournal
from receiver.journal.postgres_server import SCHEMA
from receiver.policy.alert import Notification
from receiver.policy.decay import FORGETS
from receiver.policy.payload import parse_notification
from receiver.policy.proof.binding import Binding
from receiver.policy.proof.judgement import Judgement
from receiver.policy.role import ProcessRole
from receiver.policy.signal import Signal
from receiver.policy.target import Key

T = TypeVar("T")

NAMES: Final = {
    "_Recording.write": "notification",
    "Reconciler._settle.<locals>.settled.<locals>.<lambda>": "decision",
    "Steps._write.<locals>.write": "step",
    "Healing._commit.<locals>.<lambda>": "event",
    "HealingLog._done.<locals>.<lambda>": "healing log",
    "Aftermath.pass_on.<locals>.<lambda>": "passing on",
    "_alone.<locals>.<lambda>": "a count",
}
"""What the functions that write are called here; one that is new has its own name."""
ALERTNAME: Final = "BenchBound"
STRATEGY: Final = "bound"
"""Of `servers.STRATEGIES`: two steps that do next to nothing, on a host."""
WARM: Final = 20
"""Lives before those that are measured."""
PAST: Final = 5_000
"""Runs of the strategy that ended in the last hours."""
OPEN: Final = 100
"""Runs of the strategy that are being proven."""
_COPY: Final = """
    insert into {table} select copy.* from (
        select * from {table} where id = (select max(id) from {table})) as one
    cross join generate_series(1, %(copies)s) as number
    cross join jsonb_populate_record(null::{table}, to_jsonb(one) || jsonb_build_object(
        'id', nextval(pg_get_serial_sequence('{table}', 'id')), {changed})) as copy"""
_PAST: Final = """'target', 'past-' || number, 'state', 'finished', 'outcome', 'healed',
    'acted_at', one.created_at - number, 'finished_at', one.created_at - number + 1"""
_OPEN: Final = """'target', 'open-' || number, 'state', 'verifying', 'outcome', null,
    'finished_at', null, 'acted_at', one.created_at, 'verify_from', one.created_at"""
_FIRING: Final = "'fingerprint', number, 'ends_at', null"
_SIZES: Final = """
    select relname, pg_total_relation_size(oid) from pg_class
    where relnamespace = current_schema()::regnamespace and relkind = 'r'"""
_TRANSACTIONS: Final = """
    select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"""
FIRING: Final = Judgement(
    Signal.FIRING,
    1.0,
    "it is returned, with value 1",
    binding=Binding(expression="bound > 0", labels={"instance": "host-1:9100"}, fed_at=1.0),
)
CLEARED: Final = Judgement(Signal.CLEARED, None, "it is not returned, and its data is fresh")


class Piece(msgspec.Struct, frozen=True):
    """What was stored together, and for how long that was written."""

    name: str
    seconds: float
    trips: float = 0.0
    """To the server and back: how often an answer was waited for."""
    lane: Lane = Lane.EVERYTHING
    """Whose writer: that of everything is one at a time in the whole database."""


class Phase(msgspec.Struct, frozen=True):
    """What happens at once; then the alert waits for something."""

    name: str
    pieces: Sequence[Piece]
    computing: float
    """Seconds of CPU in the process that does it."""
    reads: float
    """Reading transactions beside the writers."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What one life leaves in PostgreSQL."""

    rows: dict[str, float]
    """By table."""
    bytes: dict[str, float]
    """By table, with its indexes."""
    log: float
    """Bytes of the write-ahead log."""
    transactions: float
    jobs: float
    pruning: float
    """Seconds of the lock until retention has deleted it again."""


class Lives(msgspec.Struct, frozen=True):
    phases: Sequence[Phase]
    """Of one life: of each piece the quickest tenth of all."""
    alone: Piece
    """A piece that does nothing but count: what a transaction costs whatever is in it."""
    stored: Stored
    questions: float
    """To Prometheus, in one life."""

    def phase(self, name: str) -> Phase:
        return next(phase for phase in self.phases if phase.name == name)


def notification(instance: str, *, ended: str = "") -> Notification:
    """What Alertmanager says of one alert, with as many labels as alerts have."""
    alert = {
        "status": "resolved" if ended else "firing",
        "labels": {
            "alertname": ALERTNAME, "instance": instance, "job": "bench", "service": "checkout",
            "severity": "critical", "team": "core", "cluster": "eu-1",
        },
        "annotations": {
            "summary": f"Bench alert on {instance}",
            "description": "The value is above its threshold for a while now.",
            "runbook_url": "https://example.com/runbooks/bench",
        },
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": ended or "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1",
    }  # fmt: skip
    body = {"version": "4", "externalURL": "http://alertmanager.example:9093", "alerts": [alert]}
    return parse_notification(msgspec.json.encode(body))


class _Traced:
    """The writes and reads of both, as they come."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.pieces: list[Piece] = []
        self.reads = 0
        self._connection = connection
        self._since = time.process_time()
        self._held: list[float] = []

    @contextmanager
    def service(self, options: Options) -> Iterator[Promheal]:
        service = build(options)
        journal = service.journal
        assert isinstance(journal, PostgresJournal)
        atomically, read = journal.atomically, journal.read

        def write(work: Callable[[Transaction], T], extent: Extent = EVERYTHING) -> T:
            result = atomically(work, extent)
            name = NAMES.get(work.__qualname__, work.__qualname__)
            self.pieces.append(Piece(name, self._held[-1], lane=extent.lane))
            return result

        def count(work: Callable[[Transaction], T]) -> T:
            self.reads += 1
            return read(work)

        with ExitStack() as stack:
            stack.callback(service.close)
            for target, name, value in (
                (journal, "atomically", write),
                (journal, "read", count),
                (service.engine, "_consider", service.reconciler.consider),
                *((one, "_observe_commit", self._held.append) for one in journal._writers.values()),  # noqa: SLF001
            ):
                stack.enter_context(mock.patch.object(target, name, value))
            yield service

    def carry(self, service: Promheal, key: Key) -> None:
        """Give *service* the job of *key*, as procrastinate would."""
        row = self._connection.execute(
            "update procrastinate_jobs set status = 'doing' where id = ("
            " select id from procrastinate_jobs where lock = %s and status = 'todo'"
            " order by scheduled_at is not null, scheduled_at limit 1) returning id",
            [key[1]],
        ).fetchone()
        assert row is not None, f"nothing is to be considered on {key[1]}"
        assert isinstance(service.engine, PostgresEngine)
        first = len(self.pieces)
        service.engine._consider_job(row[0], key)  # noqa: SLF001  what its worker calls
        for place, name in ((first, "claim"), (-1, "end of the job")):
            self.pieces[place] = msgspec.structs.replace(self.pieces[place], name=name)

    def taken(self, name: str) -> Phase:
        now = time.process_time()
        phase = Phase(name, self.pieces, now - self._since, self.reads)
        self.pieces, self.reads, self._since = [], 0, now
        return phase


def measure(folder: Path, url: str, lives: int) -> Lives:
    """Have *lives* alerts fire, be acted on, proven and resolved, one after another."""
    central = Options(config_file=folder / "promheal.yml", storage_url=url, data=folder)
    bound = msgspec.structs.replace(
        central, role=ProcessRole(frozenset({servers.HOST}), decides=False)
    )
    with (
        psycopg.connect(url, autocommit=True, options=f"-csearch_path={SCHEMA}") as connection,
        mock.patch.object(PrometheusVerifier, "confirm", judge := mock.Mock()),
        mock.patch.object(PrometheusVerifier, "look", judge),
        mock.patch.object(PrometheusVerifier, "decay", return_value=FORGETS),
        (traced := _Traced(connection)).service(central) as decides,
        traced.service(bound) as acts,
    ):

        def live(numbers: Iterable[int]) -> list[list[Phase]]:
            return [
                list(_life(traced, decides, acts, judge, f"host-{number}.example:9100"))
                for number in numbers
            ]

        live(range(WARM))
        _fill(connection)
        traced.taken("starting")
        before = _stored(connection)
        judge.reset_mock()
        every = live(range(WARM, WARM + lives))
        after = _stored(connection)
        alone = [_alone(traced, acts) for _ in range(lives)]
        pruning = _pruned(traced, decides) / (WARM + lives + PAST)
    stored = Stored(
        rows={name: (after.rows[name] - before.rows[name]) / lives for name in after.rows},
        bytes={name: (after.bytes[name] - before.bytes[name]) / lives for name in after.bytes},
        log=(after.log - before.log) / lives,
        transactions=(after.transactions - before.transactions) / lives,
        jobs=(after.jobs - before.jobs) / lives,
        pruning=pruning,
    )
    phases = [_typical(same) for same in zip(*every, strict=True)]
    return Lives(phases, _quiet(alone), stored, judge.call_count / lives)


def with_trips(near: Lives, distant: Lives, seconds: float) -> Lives:
    """Return *near* with the round trips that show when each takes *seconds* longer."""

    def counted(piece: Piece, other: Piece) -> Piece:
        trips = max(0.0, (other.seconds - piece.seconds) / seconds)
        return msgspec.structs.replace(piece, trips=trips)

    phases = [
        msgspec.structs.replace(
            phase,
            pieces=[counted(*pair) for pair in zip(phase.pieces, other.pieces, strict=True)],
        )
        for phase, other in zip(near.phases, distant.phases, strict=True)
    ]
    alone = counted(near.alone, distant.alone)
    return msgspec.structs.replace(near, phases=phases, alone=alone)


def _fill(connection: psycopg.Connection[Any]) -> None:
    """Have the strategy be as busy as it is where there are many: runs that ended, and open ones.

    They are copies of one that was real.
    """
    connection.execute(_COPY.format(table="run", changed=_PAST).encode(), {"copies": PAST})
    connection.execute(_COPY.format(table="run", changed=_OPEN).encode(), {"copies": OPEN})
    connection.execute(_COPY.format(table="episode", changed=_FIRING).encode(), {"copies": OPEN})
    connection.execute(
        b"insert into wanted (strategy, target, episode)"
        b" select %s, 'open-' || fingerprint, id from episode where ends_at is null",
        [STRATEGY],
    )
    connection.execute("analyze")


def _stored(connection: psycopg.Connection[Any]) -> Stored:
    """Return what is stored now."""
    connection.execute("select pg_stat_force_next_flush()")
    sizes = dict(connection.execute(_SIZES).fetchall())
    rows = {name: float(_one(connection, f"select count(*) from {name}")) for name in sizes}
    return Stored(
        rows=rows,
        bytes={name: float(size) for name, size in sizes.items()},
        log=float(_one(connection, "select pg_current_wal_lsn() - '0/0'")),
        transactions=float(_one(connection, _TRANSACTIONS)),
        jobs=float(_one(connection, "select last_value from procrastinate_jobs_id_seq")),
        pruning=0.0,
    )


def _pruned(traced: _Traced, service: Promheal) -> float:
    """Have retention delete all that has ended; return for how many seconds the lock was held."""
    before = service.clock() + 1.0
    while service.journal.atomically(lambda t: t.prune(before=before, limit=PRUNE_ROWS)):
        pass
    return sum(piece.seconds for piece in traced.taken("pruned").pieces)


def _one(connection: psycopg.Connection[Any], question: str) -> Any:
    row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def _life(
    traced: _Traced, decides: Promheal, acts: Promheal, judge: mock.Mock, instance: str
) -> Iterator[Phase]:
    key = Key(STRATEGY, f'instance="{instance}"')
    assert isinstance(acts.engine, PostgresEngine)
    acts.engine._leases.beat()  # noqa: SLF001  what it does every few seconds
    decides.intake.admit(notification(instance))
    yield traced.taken("notified")
    judge.return_value = FIRING
    traced.carry(decides, key)
    yield traced.taken("decided")
    traced.carry(acts, key)
    yield traced.taken("done")
    for _ in range(2):
        traced.carry(decides, key)
        yield traced.taken("looked at")
    judge.return_value = CLEARED
    traced.carry(decides, key)
    yield traced.taken("proven")
    judge.return_value = FIRING
    traced.carry(decides, key)
    yield traced.taken("considered again")
    decides.intake.admit(notification(instance, ended="2026-01-01T01:00:00Z"))
    yield traced.taken("resolved")
    judge.return_value = CLEARED
    traced.carry(decides, key)
    yield traced.taken("let go")


def _alone(traced: _Traced, service: Promheal) -> Piece:
    service.journal.atomically(lambda transaction: transaction.count("bench"))
    (piece,) = traced.taken("alone").pieces
    return piece


def _typical(same: Sequence[Phase]) -> Phase:
    """Of phases that are the same but for their alert, one: the names must agree."""
    names = [piece.name for piece in same[0].pieces]
    assert all([piece.name for piece in phase.pieces] == names for phase in same), names
    pieces = [_quiet(pieces) for pieces in zip(*(phase.pieces for phase in same), strict=True)]
    return Phase(
        same[0].name,
        pieces,
        _least_disturbed([phase.computing for phase in same]),
        statistics.median(phase.reads for phase in same),
    )


def _quiet(pieces: Sequence[Piece]) -> Piece:
    seconds = _least_disturbed([piece.seconds for piece in pieces])
    return Piece(pieces[0].name, seconds, lane=pieces[0].lane)


def _least_disturbed(seconds: Sequence[float]) -> float:
    """The quickest tenth: whatever else the machine does makes it longer, and never shorter."""
    return statistics.quantiles([*seconds, *seconds[:1]], n=10, method="inclusive")[0]
