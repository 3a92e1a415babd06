"""What Alertmanager said: alerts folded into episodes, and which strategies each one asks for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec

from receiver.journal.statements import BIGGEST, Row, Statements, json_text
from receiver.policy.alert import Alert, Quarantined, Status
from receiver.policy.target import Key

_decode_labels = msgspec.json.Decoder(dict[str, str]).decode


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """One firing of one fingerprint, from its start until it is resolved."""

    id: int
    alert: Alert
    sender: str
    """`externalURL` of the Alertmanager that sent it last, by its own word."""
    vouched_by: str = ""
    """The last sender that the operator trusts, by the identity it proved; empty for none."""
    vouched_link: str = ""
    """The `generatorURL` that this sender gave; others may have sent another one since."""
    first_seen: float
    """When its first notification arrived, seconds since the epoch."""
    last_seen: float
    notifications: int
    ended_by: str = ""
    """`told`, by a notification; `proven`, by Prometheus; `given_up`, for nothing was heard of it
    any more, which is no time at which it had cleared; empty while it fires."""
    cleared_at: float | None = None
    """When the alert's own expression first proved that it had cleared."""


class Want(msgspec.Struct, frozen=True, array_like=True):
    """A strategy that selects an alert, and the target that it names."""

    strategy: str
    target: str
    fingerprint: str


class Admission:
    """The alerts of a notification, encoded before the writer's turn comes."""

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
                json_text(alert.labels),
                json_text(alert.annotations),
                alert.generator_url,
            )


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one notification."""

    opened: int
    repeated: int
    """Firing alerts whose episode is open already: repeats, retries, HA peers."""
    late: int
    """Firing alerts whose episode has ended: a peer that lags behind."""
    closed: int
    not_open: int
    """Resolved alerts without an open episode."""
    released: frozenset[Key]
    """What the resolved alerts asked for until now."""


class EpisodeRows(Statements):
    @abstractmethod
    def _admit_firing(
        self, admission: Admission, *, sender: str, vouched_by: str, now: float
    ) -> tuple[int, int]:
        """Write the firing alerts; return how many were repeated, and how many are new."""

    def admit(
        self,
        admission: Admission,
        wants: Sequence[Want],
        *,
        sender: str,
        now: float,
        vouched_by: str = "",
    ) -> Admitted:
        """Fold alerts into episodes: at most one open episode for each fingerprint.

        *vouched_by* is the sender if the operator trusts its expressions, else empty.
        """
        repeated, opened = self._admit_firing(
            admission, sender=sender, vouched_by=vouched_by, now=now
        )
        late = admission.firing_alerts - opened - repeated
        if late:
            firing, width = admission.firing, Admission.WIDTH
            said = [firing[at : at + 2] for at in range(0, len(firing), width)]
            self._execute("note_conflict", **self._table(said), now=now)
        self._want(wants)
        resolved = admission.resolved
        closed: list[int] = []
        released: frozenset[Key] = frozenset()
        if resolved:
            found = self._execute("admit_resolved", **self._table(resolved), sender=sender, now=now)
            closed = [row[0] for row in found.fetchall()]
            if closed:
                released = frozenset(self._unwant(closed))
        return Admitted(
            opened=opened,
            repeated=repeated + admission.said_twice,
            late=late,
            closed=len(closed),
            not_open=len(resolved) - len(closed),
            released=released,
        )

    def quarantine(self, bad: Iterable[Quarantined], *, sender: str, now: float) -> None:
        for one in bad:
            self._execute("quarantine", now=now, sender=sender, problem=one.problem, raw=one.raw)

    def open_episodes(self, *, limit: int, offset: int = 0) -> list[Episode]:
        return [_episode(row) for row in self._execute("open_episodes", limit=limit, offset=offset)]

    def episode(self, episode: int) -> Episode | None:
        row = self._execute("episode_by_id", id=episode).fetchone()
        return None if row is None else _episode(row)

    def episodes(self, *, limit: int, before: int | None = None) -> list[Episode]:
        """Newest first."""
        rows = self._execute("episodes", limit=limit, before=BIGGEST if before is None else before)
        return [_episode(row) for row in rows]

    def episodes_of(self, fingerprint: str, *, limit: int) -> list[Episode]:
        """Of one alert, newest first."""
        rows = self._execute("episodes_of_alert", fingerprint=fingerprint, limit=limit)
        return [_episode(row) for row in rows]

    def asking(self, key: Key, *, limit: int) -> list[Episode]:
        """The alerts that ask for this strategy on this target, the latest heard of first."""
        rows = self._execute("asking", strategy=key.strategy, target=key.target, limit=limit)
        return [_episode(row) for row in rows]

    def wanted(self, key: Key) -> Episode | None:
        """The first of `asking`, where it only matters whether there is any."""
        return next(iter(self.asking(key, limit=1)), None)

    def firing(self) -> list[tuple[Key, int]]:
        """Every alert that a strategy is asked for, as (key, episode)."""
        return [(Key(row[0], row[1]), row[2]) for row in self._execute("firing")]

    def number_firing(self) -> int:
        return int(self._one("open_alerts"))

    def firing_after(self, after: int, *, limit: int) -> list[tuple[Episode, set[Key]]]:
        """The open episodes with the next ids, and what each asks for."""
        page = [_episode(row) for row in self._execute("firing_after", after=after, limit=limit)]
        asked: dict[int, set[Key]] = {episode.id: set() for episode in page}
        if page:
            for row in self._execute("wanted_after", after=after, last=page[-1].id):
                asked.get(row[2], set()).add(Key(row[0], row[1]))
        return [(episode, asked[episode.id]) for episode in page]

    def match_anew(self, episodes: list[int], wants: Sequence[Want]) -> set[Key]:
        """Have these open episodes ask for *wants* only; return whom that concerns."""
        released = set(self._unwant(episodes))
        self._want(wants)
        return released | {Key(want.strategy, want.target) for want in wants}

    def selected(self, episode: int) -> list[Key]:
        """What an episode asked for while it was open, by all configurations of that time."""
        return [Key(row[0], row[1]) for row in self._execute("selected", episode=episode)]

    def clear(self, episode: int, *, now: float) -> None:
        """Note that the alert's own expression has proven that it fires no more."""
        self._execute("clear", id=episode, now=now)

    def clear_firing(self, fingerprint: str, *, now: float) -> None:
        """As `clear`, of the open episode of an alert, if there is one."""
        self._execute("clear_firing", fingerprint=fingerprint, now=now)

    # -- ends that nobody told us, and those that are contradicted

    def give_up(self, *, before: float, episode: int | None = None) -> int:
        """Close what was last heard of before *before*; return how many that were.

        This episode, or all that no strategy is asked for.
        """
        if episode is None:
            return self._changed("give_up", before=before)
        given_up = self._changed("give_up_one", id=episode, before=before)
        if given_up:
            self._unwant([episode])
        return given_up

    def conflicts(self, *, limit: int) -> list[tuple[Episode, float]]:
        """Closed episodes that a later notification called firing, and when it did."""
        return [
            (_episode(row), row["disputed_at"]) for row in self._execute("conflicts", limit=limit)
        ]

    def settle_conflict(
        self, episode: Episode, wants: Iterable[Want] | None, *, now: float
    ) -> None:
        """Reopen the episode for these strategies, or leave it closed (None)."""
        if wants is None:
            self._execute("let_rest", id=episode.id)
            return
        if not self._changed("reopen", id=episode.id, now=now):
            self._execute("let_rest", id=episode.id)
            return
        for want in wants:
            self._execute("want", strategy=want.strategy, target=want.target, episode=episode.id)

    def _want(self, wants: Sequence[Want]) -> None:
        """Write what the open episodes of these alerts ask for."""
        if wants:
            pairs = [(want.strategy, want.target, want.fingerprint) for want in wants]
            self._execute("admit_wanted", **self._table(pairs))

    def _unwant(self, episodes: list[int]) -> list[Key]:
        self._execute("select", episodes=self._list(episodes))
        found = self._execute("unwant", episodes=self._list(episodes)).fetchall()
        return [Key(row[0], row[1]) for row in found]


def _episode(row: Row) -> Episode:
    return Episode(
        id=row["id"],
        alert=Alert(
            fingerprint=row["fingerprint"],
            status=Status.FIRING if row["ends_at"] is None else Status.RESOLVED,
            labels=_decode_labels(row["labels"]),
            annotations=_decode_labels(row["annotations"]),
            starts_at=row["starts_at"],
            ends_at=row["ends_at"],
            generator_url=row["generator_url"],
        ),
        sender=row["sender"],
        vouched_by=row["vouched_by"],
        vouched_link=row["vouched_link"],
        first_seen=row["first_seen"],
        last_seen=row["last_seen"],
        notifications=row["notifications"],
        ended_by=row["ended_by"],
        cleared_at=row["cleared_at"],
    )
