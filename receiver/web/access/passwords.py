"""Checks passwords with bcrypt, and caches the results under a keyed hash in memory.

An unknown user takes as long as a wrong password: a decoy of the same cost is checked. bcrypt is
slow on purpose, so few checks run at once and few may wait: a flood of guesses exhausts neither the
processor nor the threads. Right and wrong passwords are cached apart, so that no flood evicts the
right ones.
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
"""Checks with bcrypt at a time."""
WAITING: Final = 12
"""Requests that may wait for a check, or for the same one: a browser opens six connections."""
PATIENCE: Final = 1.0
"""Seconds that a check may wait for its turn."""
REMEMBERED: Final = 1024
"""Right passwords that are cached, and as many wrong ones."""

_LONGEST: Final = 72
"""Bytes of a password that bcrypt uses; other implementations ignore the rest as well."""
_ALPHABET: Final = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class PasswordCheck(Enum):
    RIGHT = "right"
    WRONG = "wrong"
    LOCKED = "locked out"
    """Not checked: too many wrong ones came from this address."""
    BUSY = "busy"
    """Not checked: too many others are waiting."""


class Passwords:
    """Safe to use from many threads."""

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
        self._running: dict[bytes, Future[PasswordCheck]] = {}
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._throttle = LoginThrottle()

    def check(
        self, users: Mapping[str, str], user: str, password: bytes, address: str
    ) -> PasswordCheck:
        """Check against the bcrypt hashes in *users*. May take seconds."""
        hashed = users.get(user)
        key = self._fingerprint(user, hashed or "", password)
        source = network(address)
        with self._lock:
            known = self._remembered(key)
            if known is not None:
                return known
            if self._throttle.locked(source, self._clock()):
                return PasswordCheck.LOCKED
            if self._waiting >= WAITING:
                return PasswordCheck.BUSY
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
        running: Future[PasswordCheck],
        key: bytes,
        hashed: str | None,
        decoy: str,
        password: bytes,
        source: str,
    ) -> None:
        answer = PasswordCheck.BUSY
        try:
            if self._slots.acquire(timeout=PATIENCE):
                try:
                    answer = self._ask(hashed, decoy, password, source)
                finally:
                    self._slots.release()
        finally:
            with self._lock:
                del self._running[key]
                if answer is PasswordCheck.RIGHT:
                    _remember(self._right, key)
                elif answer is PasswordCheck.WRONG:
                    _remember(self._wrong, key)
                    self._throttle.failed(source, self._clock())
            running.set_result(answer)

    def _ask(self, hashed: str | None, decoy: str, password: bytes, source: str) -> PasswordCheck:
        with self._lock:
            if self._throttle.locked(source, self._clock()):  # in the meantime
                return PasswordCheck.LOCKED
        right = False
        with suppress(ValueError):  # bcrypt rejects it, so it is wrong
            right = self._check(password[:_LONGEST], (hashed or decoy).encode())
        return PasswordCheck.RIGHT if right and hashed else PasswordCheck.WRONG

    def _remembered(self, key: bytes) -> PasswordCheck | None:
        for found, answer in (
            (self._right, PasswordCheck.RIGHT),
            (self._wrong, PasswordCheck.WRONG),
        ):
            if key in found:
                found.move_to_end(key)
                return answer
        return None

    def _fingerprint(self, user: str, hashed: str, password: bytes) -> bytes:
        """Return the cache's key for a password; a new hash makes a new one."""
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in (user.encode("utf-8", "surrogatepass"), hashed.encode(), password):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()

    def _decoy(self, users: Mapping[str, str], user: str) -> str:
        """Return a hash that matches nothing, with the same cost each time for the same name."""
        digest = hmac.digest(self._key, user.encode("utf-8", "surrogatepass"), "sha256")
        hashes = sorted(users.values())
        model = hashes[int.from_bytes(digest[:8], "big") % len(hashes)]
        rest = "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in (digest * 2)[:31])
        return model[: len("$2b$10$") + 22] + rest


def _remember(among: OrderedDict[bytes, None], key: bytes) -> None:
    among[key] = None
    if len(among) > REMEMBERED:
        among.popitem(last=False)
