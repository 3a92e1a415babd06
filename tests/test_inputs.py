"""What a decision rested on: kept, bounded, without secrets, and understood again."""

from __future__ import annotations

import random
import zlib
from typing import Any

import msgspec
import pytest

from receiver.errors import JournalError
from receiver.journal import Journal
from receiver.journal.inputs import MOST, pack, unpack
from receiver.policy.breaker import Breaker
from receiver.policy.decide import decide
from receiver.policy.dormancy import Dormancy
from receiver.policy.guards.situation import Hold, Situation
from receiver.policy.run import Outcome
from receiver.policy.signal import ConditionState, Signal, SignalDoubt, Silencing
from receiver.policy.target import Key
from receiver.redaction import known
from tests.factories import NOW, alert, situation, strategy
from tests.test_journal import journal as journal  # noqa: PLC0414  the fixture, of both databases

KEY = Key("latency", 'service="checkout"')


def at_random(seed: int) -> Situation:
    """Any situation: each group's fields as they may be, whether they fit together or not."""
    dice = random.Random(seed)
    when = [None, NOW - 50.25, NOW + 1e6 / 3]
    hold = [None, Hold("anna, all: why", None), Hold("a window", NOW + 0.1)]
    breaker = Breaker(failures=3, failing=("ä", '"'), trips=dice.randrange(4), until=NOW + 9)
    changes: dict[str, Any] = {
        "now": NOW + dice.random(),
        "alert": dice.choice([None, alert(labels={"a\0": "\u2028ä", "b": '"\\'})]),
        "signal": dice.choice([*Signal]),
        "doubt": dice.choice([*SignalDoubt]),
        "condition": dice.choice([*ConditionState]),
        "silencing": dice.choice([Silencing(), Silencing("silence 1"), Silencing(unknown="no")]),
        "suspect": dice.choice(["", "a scrape fails"]),
        "pause": dice.choice(hold),
        "maintenance": dice.choice(hold),
        "last_end": dice.choice(when),
        "forgets_at": dice.choice(when),
        "last_outcome": dice.choice([None, *Outcome]),
        "starts": tuple(NOW - dice.random() * 3_600 for _ in range(dice.randrange(4))),
        "acting": dice.randrange(10),
        "affected": dice.randrange(20),
        "holder": dice.choice([None, 7]),
        "breakers": (("self-healing-main", breaker),),
        "dormancy": Dormancy(failures=dice.randrange(3), failing=("x",), failed_at=NOW),
        "left_out": dice.choice(["", "left out: x (stale)"]),
    }
    return situation(**{name: changes[name] for name in dice.sample([*changes], 8)})


def test_what_is_kept_decides_as_it_did() -> None:
    for seed in range(300):
        then = at_random(seed)
        packed = pack(then)
        assert packed is not None
        again = unpack(packed, then.strategy)
        assert again == then, seed
        assert decide(again) == decide(then)


def test_it_is_small_however_much_an_alert_says() -> None:
    noise = random.Random(1).randbytes(20_000).hex()
    chatty = situation(
        alert=alert(annotations={str(n): noise[n * 1_024 : (n + 1) * 1_024] for n in range(12)})
    )
    packed = pack(chatty)
    assert packed is not None
    assert len(packed) <= MOST
    found = unpack(packed, chatty.strategy)
    assert found.alert is not None
    assert found.alert.annotations == {}
    assert decide(found) == decide(chatty)
    one = unpack(pack(situation(alert=alert(annotations={"a": "x" * 5_000}))) or b"", strategy())
    assert one.alert is not None
    assert one.alert.annotations == {"a": "x" * 1_024}
    assert pack(situation(alert=alert(labels={"alertname": noise}))) is None


def test_it_has_no_secret() -> None:
    known("hunter2secret")
    said = situation(
        left_out="it answered hunter2secret", alert=alert(labels={"a": "hunter2secret"})
    )
    assert "hunter2secret" not in zlib.decompress(pack(said) or b"").decode()


@pytest.mark.parametrize("packed", [b"nothing", zlib.compress(b"{}"), zlib.compress(b"[1")])
def test_what_another_version_kept_is_said(packed: bytes) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        unpack(packed, strategy())


def put(journal: Journal, of: Situation, config_hash: str) -> bool:
    return journal.atomically(
        lambda t: t.record(
            KEY, decide(of), run=None, now=of.now, config_hash=config_hash, inputs=pack(of)
        )
    )


def test_the_first_and_the_last_of_what_repeats_are_kept(journal: Journal) -> None:
    held = [situation(now=NOW + number, enabled=False) for number in range(3)]
    assert [put(journal, one, "aa") for one in held] == [True, False, False]
    (record,) = journal.read(lambda t: t.latest_decisions(limit=9))
    assert (record.times, record.config_hash) == (3, "aa")
    found = journal.read(lambda t: t.inputs(record.id))
    assert (found.first, found.last) == (pack(held[0]), pack(held[2]))


def test_another_configuration_is_another_row_and_no_news(journal: Journal) -> None:
    held = situation(enabled=False)
    assert [put(journal, held, config) for config in ("aa", "bb", "bb")] == [True, False, False]
    records = journal.read(lambda t: t.latest_decisions(limit=9))
    assert [(one.config_hash, one.times) for one in records] == [("bb", 2), ("aa", 1)]
    first = journal.read(lambda t: t.inputs(records[1].id))
    assert first.first == first.last == pack(held)
    assert journal.read(lambda t: t.decision(records[1].id)) == records[1]
    assert journal.read(lambda t: t.decision_at(KEY, NOW - 1)) is None
    assert journal.read(lambda t: t.decision_at(KEY, NOW)) == records[0]


def test_inputs_go_before_their_decisions_do(journal: Journal) -> None:
    put(journal, situation(enabled=False), "aa")
    put(journal, situation(now=NOW + 10, preventive=False), "aa")
    assert journal.atomically(lambda t: t.prune_inputs(before=NOW + 5, limit=9)) == 1
    assert journal.atomically(lambda t: t.prune_inputs(before=NOW + 5, limit=9)) == 0
    newer, older = journal.read(lambda t: t.latest_decisions(limit=9))
    assert older.config_hash == "aa"
    assert journal.read(lambda t: t.inputs(older.id)).last is None
    assert journal.read(lambda t: t.inputs(newer.id)).last is not None
    journal.atomically(lambda t: t.prune(before=NOW + 5, limit=9))
    assert [one.id for one in journal.read(lambda t: t.latest_decisions(limit=9))] == [newer.id]


def test_no_field_of_a_situation_is_left_out() -> None:
    raw = msgspec.json.decode(zlib.decompress(pack(situation()) or b""))
    assert {*raw, "strategy"} == {*Situation.__struct_fields__}
