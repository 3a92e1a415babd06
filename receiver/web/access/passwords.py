"""Is this the user's password? bcrypt says so once, and then a keyed hash that is kept in memory.

A wrong user takes as long as a wrong password, and costs as much: a decoy is checked, whose cost is
that of one of the users. bcrypt is slow on purpose, so few are computed at once and few may wait:
a flood of guesses takes neither the processor nor the threads. What was right is remembered apart
from what was wrong, so that no flood makes us forget it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum
from typing import Final

import bcrypt

from receiver.web.access.login_throttle import LoginThrottle, network

AT_ONCE: Final = 2
"""Computations of bcrypt."""
WAITING: Final = 12
"""Requests that wait for one, or for the same one: a browser asks six times at once."""
PATIENCE: Final = 1.0
"""Seconds that a computation may wait for its turn."""
REMEMBERED: Final = 1024
"""Of what was right, and again of what was wrong."""

_LONGEST: Final = 72
"""Bytes of a password that bcrypt takes; the other implementations leave the rest out as well."""
_ALPHABET: Final = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Answer(Enum):
    RIGHT = "right"
    WRONG = "wrong"
    LOCKED = "locked out"
    """Not looked at: too many wrong ones came from this address."""
    BUSY = "busy"
    """Not looked at: too many others are waiting."""


class Passwords:
    """Checks passwords. Safe to use from many threads."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        check: Callable[[bytes, bytes], bool] = bcrypt.checkpw,
    ) -> None:
        self._clock = clock
        self._check = check
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(AT_ONCE)
        self._waiting = 0
        self._running: dict[bytes, Future[Answer]] = {}
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._guessers = LoginThrottle()

    def check(self, users: Mapping[str, str], user: str, password: bytes, address: str) -> Answer:
        """Say whether *users*, with their bcrypt hashes, have this one. May take seconds."""
        hashed = users.get(user)
        key = self._fingerprint(user, hashed or "", password)
        source = network(address)
        with self._lock:
            known = self._remembered(key)
            if known is not None:
                return known
            if self._guessers.locked(source, self._clock()):
                return Answer.LOCKED
            if self._waiting >= WAITING:
                return Answer.BUSY
            self._waiting += 1
            running = self._running.get(key)
            ours = running is None
            if running is None:
                running = self._running[key] = Future()
        try:
            if ours:
                self._compute(running, key, hashed, self._decoy(users, user), password, source)
            return running.result()
        finally:
            with self._lock:
                self._waiting -= 1

    def _compute(
        self,
        running: Future[Answer],
        key: bytes,
        hashed: str | None,
        decoy: str,
        password: bytes,
        source: str,
    ) -> None:
        answer = Answer.BUSY
        try:
            if self._slots.acquire(timeout=PATIENCE):
                try:
                    answer = self._ask(hashed, decoy, password, source)
                finally:
                    self._slots.release()
        finally:
            with self._lock:
                del self._running[key]
                if answer is Answer.RIGHT:
                    _remember(self._right, key)
                elif answer is Answer.WRONG:
                    _remember(self._wrong, key)
                    self._guessers.failed(source, self._clock())
            running.set_result(answer)

    def _ask(self, hashed: str | None, decoy: str, password: bytes, source: str) -> Answer:
        with self._lock:
            if self._guessers.locked(source, self._clock()):  # meanwhile
                return Answer.LOCKED
        right = False
        with suppress(ValueError):  # bcrypt refuses it, and so it is wrong
            right = self._check(password[:_LONGEST], (hashed or decoy).encode())
        return Answer.RIGHT if right and hashed else Answer.WRONG

    def _remembered(self, key: bytes) -> Answer | None:
        for found, answer in ((self._right, Answer.RIGHT), (self._wrong, Answer.WRONG)):
            if key in found:
                found.move_to_end(key)
                return answer
        return None

    def _fingerprint(self, user: str, hashed: str, password: bytes) -> bytes:
        """Return what is remembered instead of a password; a new hash makes a new one."""
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in (user.encode("utf-8", "surrogatepass"), hashed.encode(), password):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def _decoy(self, users: Mapping[str, str], user: str) -> str:
        """Return a hash that nothing fits. Who asks again for the same name waits as long again."""
        digest = hmac.digest(self._key, user.encode("utf-8", "surrogatepass"), "sha256")
        hashes = sorted(users.values())
        model = hashes[int.from_bytes(digest[:8], "big") % len(hashes)]
        rest = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in (digest * 2)[:31])
        return model[: len("$2b$10$") + 22] + rest


def _remember(among: OrderedDict[bytes, None], key: bytes) -> None:
    among[key] = None
    if len(among) > REMEMBERED:
        among.popitem(last=False)
