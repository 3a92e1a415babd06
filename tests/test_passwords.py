"""Passwords: what is remembered, what it costs, and who is not listened to any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import bcrypt
import pytest

from receiver.web.access import passwords as module
from receiver.web.access.login_throttle import (
    ADDRESSES,
    FAILURES,
    FIRST,
    MOST,
    WITHIN,
    LoginThrottle,
    network,
)
from receiver.web.access.passwords import AT_ONCE, REMEMBERED, WAITING, PasswordCheck, Passwords
from tests.chain import wait_until

HERE = "192.0.2.1"
ELSEWHERE = "198.51.100.1"


class Clock:
    def __init__(self) -> None:
        self.now = 10_000.0

    def __call__(self) -> float:
        return self.now


def hash_of(password: str, rounds: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


USERS = {"alice": hash_of("right"), "bob": hash_of("other")}


class Counted:
    """bcrypt, counted."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, password: bytes, hashed: bytes) -> bool:
        self.calls += 1
        return bcrypt.checkpw(password, hashed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def passwords(clock: Clock, counted: Counted) -> Passwords:
    return Passwords(clock, counted)


def test_a_password_is_right_or_wrong(passwords: Passwords) -> None:
    assert passwords.check(USERS, "alice", b"right", HERE) is PasswordCheck.RIGHT
    assert passwords.check(USERS, "alice", b"other", HERE) is PasswordCheck.WRONG
    assert passwords.check(USERS, "bob", b"other", HERE) is PasswordCheck.RIGHT
    assert passwords.check(USERS, "carol", b"right", HERE) is PasswordCheck.WRONG
    assert passwords.check(USERS, "", b"", HERE) is PasswordCheck.WRONG


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_every_kind_of_hash_that_htpasswd_and_others_write_is_known(
    passwords: Passwords, prefix: str
) -> None:
    users = {"alice": prefix + USERS["alice"][4:]}
    assert passwords.check(users, "alice", b"right", HERE) is PasswordCheck.RIGHT


def test_what_bcrypt_does_not_take_is_wrong_or_left_out(passwords: Passwords) -> None:
    """Go and htpasswd use the first 72 bytes; Python's refuses longer ones."""
    users = {"alice": hash_of("x" * 72)}
    assert passwords.check(users, "alice", b"x" * 80, HERE) is PasswordCheck.RIGHT
    assert passwords.check(users, "alice", b"x" * 71, HERE) is PasswordCheck.WRONG
    assert passwords.check(USERS, "alice", b"right\0", HERE) is PasswordCheck.WRONG
    assert passwords.check(USERS, "al\udcffice", b"\xff\xfe", HERE) is PasswordCheck.WRONG


def test_bcrypt_is_asked_once_for_each_password_right_or_wrong(
    passwords: Passwords, counted: Counted
) -> None:
    for _ in range(5):
        passwords.check(USERS, "alice", b"right", HERE)
        passwords.check(USERS, "alice", b"wrong", ELSEWHERE)
        passwords.check(USERS, "nobody", b"right", HERE)
    assert counted.calls == 3


def test_a_changed_password_is_asked_for_at_once(passwords: Passwords) -> None:
    assert passwords.check(USERS, "alice", b"right", HERE) is PasswordCheck.RIGHT
    changed = {"alice": hash_of("changed")}
    assert passwords.check(changed, "alice", b"right", HERE) is PasswordCheck.WRONG
    assert passwords.check({"bob": USERS["bob"]}, "alice", b"right", HERE) is PasswordCheck.WRONG


def test_whoever_is_no_user_has_no_right_password_whatever_bcrypt_says(clock: Clock) -> None:
    passwords = Passwords(clock, lambda *_: True)
    assert passwords.check(USERS, "nobody", b"right", HERE) is PasswordCheck.WRONG
    assert passwords.check(USERS, "alice", b"right", HERE) is PasswordCheck.RIGHT


def test_what_is_remembered_is_bounded_and_no_guess_displaces_what_is_right(
    clock: Clock,
) -> None:
    passwords = Passwords(clock, lambda password, _: password == b"right")
    assert passwords.check(USERS, "alice", b"right", HERE) is PasswordCheck.RIGHT
    for number in range(REMEMBERED + 10):
        passwords.check(USERS, "alice", b"%d" % number, f"198.51.{number // 250}.{number % 250}")
    assert len(passwords._wrong) == REMEMBERED
    assert len(passwords._right) == 1


# ── an unknown user looks like a known one ──


def cost(ask: Callable[[int], object]) -> float:
    """Seconds of the processor for one, at best: other programs run here too."""
    found = []
    for number in range(7):
        start = time.thread_time()
        ask(number)
        found.append(time.thread_time() - start)
    return min(found)


def test_an_unknown_user_costs_as_much_as_a_wrong_password() -> None:
    users = {"alice": hash_of("right", rounds=8)}
    passwords = Passwords()
    known = cost(lambda n: passwords.check(users, "alice", b"k%d" % n, HERE))
    unknown = cost(lambda n: passwords.check(users, "nobody", b"u%d" % n, ELSEWHERE))
    assert known / 1.5 < unknown < known * 1.5
    assert unknown > 0.003, "bcrypt was not asked"


def test_unknown_users_have_the_costs_of_the_known_and_each_keeps_its_own() -> None:
    users = {"slow": hash_of("right", rounds=6), "fast": hash_of("right", rounds=4)}
    asked: list[bytes] = []

    def check(_password: bytes, hashed: bytes) -> bool:
        asked.append(hashed)
        return bcrypt.checkpw(b"", hashed)

    passwords = Passwords(check=check)
    for name in ("a", "b", "c", "d", "e", "f", "g", "h", "a"):
        passwords.check(users, name, b"%d" % len(asked), f"192.0.2.{len(asked)}")
    assert {hashed[4:6] for hashed in asked} == {b"04", b"06"}
    assert asked[0] == asked[-1]
    assert not set(asked) & {hashed.encode() for hashed in users.values()}


# ── many at once ──


class Held:
    """A bcrypt that answers when it is told to."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def __call__(self, password: bytes, _hashed: bytes) -> bool:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.release.wait(20)
        with self._lock:
            self.running -= 1
        return password == b"right"


def asking(
    passwords: Passwords, *given: tuple[bytes, str]
) -> tuple[list[threading.Thread], list[PasswordCheck]]:
    answers: list[PasswordCheck] = []
    threads = [
        threading.Thread(
            target=lambda one=one: answers.append(passwords.check(USERS, "alice", *one))
        )
        for one in given
    ]
    for thread in threads:
        thread.start()
    return threads, answers


def test_the_same_password_at_the_same_moment_is_computed_once() -> None:
    """A browser asks for a page with everything in it at once."""
    held = Held()
    passwords = Passwords(check=held)
    threads, answers = asking(passwords, *[(b"right", HERE)] * 6)
    wait_until(lambda: passwords._waiting == 6)
    held.release.set()
    for thread in threads:
        thread.join()
    assert answers == [PasswordCheck.RIGHT] * 6
    assert held.most == 1


def test_a_flood_takes_two_computations_and_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    held = Held()
    passwords = Passwords(check=held)
    given = [(b"%d" % n, f"198.51.100.{n}") for n in range(WAITING)]
    threads, answers = asking(passwords, *given)
    wait_until(lambda: passwords._waiting == WAITING)
    assert passwords.check(USERS, "alice", b"one more", HERE) is PasswordCheck.BUSY
    wait_until(lambda: len(answers) == WAITING - AT_ONCE)
    assert answers == [PasswordCheck.BUSY] * (WAITING - AT_ONCE)
    held.release.set()
    for thread in threads:
        thread.join()
    assert held.most == AT_ONCE
    assert answers.count(PasswordCheck.WRONG) == AT_ONCE
    assert passwords._waiting == 0
    assert not passwords._running


def test_what_is_known_to_be_right_passes_a_flood() -> None:
    held = Held()
    held.release.set()
    passwords = Passwords(check=held)
    assert passwords.check(USERS, "alice", b"right", HERE) is PasswordCheck.RIGHT
    held.release.clear()
    threads, _ = asking(passwords, *[(b"%d" % n, f"198.51.100.{n}") for n in range(WAITING)])
    wait_until(lambda: passwords._waiting == WAITING)
    assert passwords.check(USERS, "alice", b"right", HERE) is PasswordCheck.RIGHT
    held.release.set()
    for thread in threads:
        thread.join()


def test_a_mistake_in_bcrypt_leaves_nobody_waiting() -> None:
    def broken(_password: bytes, _hashed: bytes) -> bool:
        raise RuntimeError("on purpose")

    passwords = Passwords(check=broken)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            passwords.check(USERS, "alice", b"right", HERE)
    assert passwords._waiting == 0
    assert not passwords._running


# ── guessers ──


def guess(
    passwords: Passwords, times: int, address: str = HERE, start: int = 0
) -> list[PasswordCheck]:
    return [
        passwords.check(USERS, "alice", b"guess %d" % (start + number), address)
        for number in range(times)
    ]


def test_after_ten_wrong_passwords_an_address_is_not_asked_for_a_minute(
    passwords: Passwords, clock: Clock, counted: Counted
) -> None:
    assert guess(passwords, FAILURES) == [PasswordCheck.WRONG] * FAILURES
    assert passwords.check(USERS, "alice", b"right", HERE) is PasswordCheck.LOCKED
    assert passwords.check(USERS, "bob", b"other", HERE) is PasswordCheck.LOCKED
    assert counted.calls == FAILURES
    assert passwords.check(USERS, "alice", b"right", ELSEWHERE) is PasswordCheck.RIGHT
    clock.now += FIRST
    assert passwords.check(USERS, "bob", b"other", HERE) is PasswordCheck.RIGHT


def test_who_was_right_before_gets_in_from_a_locked_address(passwords: Passwords) -> None:
    """Alertmanager, behind the same NAT as a guesser."""
    assert passwords.check(USERS, "bob", b"other", HERE) is PasswordCheck.RIGHT
    guess(passwords, FAILURES + 5)
    assert passwords.check(USERS, "bob", b"other", HERE) is PasswordCheck.RIGHT


def test_the_same_wrong_password_again_and_again_is_one_guess(passwords: Passwords) -> None:
    """An Alertmanager with an old password: it sends again for ever, and locks nobody out."""
    answers = [passwords.check(USERS, "alice", b"old", HERE) for _ in range(5 * FAILURES)]
    assert set(answers) == {PasswordCheck.WRONG}
    assert passwords.check(USERS, "alice", b"right", HERE) is PasswordCheck.RIGHT


def test_slow_guesses_are_no_flood(passwords: Passwords, clock: Clock) -> None:
    for number in range(3 * FAILURES):
        assert guess(passwords, 1, start=number) == [PasswordCheck.WRONG]
        clock.now += WITHIN / (FAILURES - 1) + 0.1


def lock(guessers: LoginThrottle, clock: Clock, address: str = HERE) -> float:
    """Guess until it is locked out; return for how long."""
    for _ in range(FAILURES):
        guessers.failed(address, clock.now)
    start = clock.now
    while guessers.locked(address, clock.now):
        clock.now += 1.0
    return clock.now - start


def test_each_time_it_lasts_twice_as_long_up_to_a_quarter_of_an_hour(clock: Clock) -> None:
    guessers = LoginThrottle()
    assert [lock(guessers, clock) for _ in range(6)] == [60, 120, 240, 480, 900, 900]
    clock.now += MOST + 1
    assert lock(guessers, clock) == 60, "after a quarter of an hour without, it begins anew"


def test_the_addresses_that_are_remembered_are_bounded(clock: Clock) -> None:
    guessers = LoginThrottle()
    for number in range(ADDRESSES + 100):
        guessers.failed(str(number), clock.now)
    assert len(guessers._known) == ADDRESSES


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_a_client_is_an_ipv4_address_or_64_bits_of_ipv6(address: str, source: str) -> None:
    assert network(address) == source
