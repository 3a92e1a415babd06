"""Runs an action in a process of its own, and kills that as soon as it has begun."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable

from receiver.actions import Action
from receiver.services import Inventory
from tests import factories


def killed_in_the_middle(
    action: Action, service: str, inventory: Inventory, begun: Callable[[], bool]
) -> bool:
    """Whether kill -9, sent when *begun* said so, came before it was done."""
    with warnings.catch_warnings():  # Python warns of forks beside threads; this one needs none
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action.run(action.Params(service=service), factories.context(inventory=inventory))
            code = 0
        finally:
            os._exit(code)
    while not begun():
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            assert os.waitstatus_to_exitcode(status) == 0
            return False
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)
