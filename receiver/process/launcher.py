"""A program of its own: forks supervisors on order, so that no action waits for an interpreter.

`receiver.process.launching` starts it by path with `python -I -S` and an empty environment, before
promheal is ready. So it has nothing of promheal, and it is small: what it imports is in each
supervisor. It has one thread, which a fork needs. No order passes through it.

Descriptor 0 is a SOCK_SEQPACKET socket to promheal. A datagram asks for a supervisor, and lends
it three descriptors: its end of a stream socket, and the writing and the reading end of the pipe
for the output. On the stream socket comes one of these:

    a line feed, with a pidfd of the supervisor: it is there, and reads its order
    {"error": "fork", "errno": 11}: the kernel refused the fork
    the end of file: launcher or supervisor died, and nothing was started

It ends with promheal, by the end of file on its socket, and not with the signals that end a whole
cgroup: until its last action promheal may still need a supervisor.
"""

from __future__ import annotations

import _socket
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from receiver.process import supervise
else:
    import _signal as signal

    # By path, as this program was started: the package would import what promheal needs.
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    import supervise

_INT = 4  # bytes of a descriptor in SCM_RIGHTS
_LENT = 3
_READING = 3
"""Where a supervisor has the reading end of its output."""


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps: nobody asks how they ended
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    asked = _socket.socket(fileno=0)
    gc.collect()
    gc.freeze()  # or the collector of each supervisor would copy what they share
    while True:
        byte, lent = _receive(asked)
        if not byte:
            return 0
        if len(lent) == _LENT:  # fewer, when we may open no more
            try:
                pid = os.fork()
            except OSError as error:
                _refuse(lent[0], error.errno or 0)
            else:
                if not pid:
                    asked.detach()
                    return _supervise(*lent)
        for descriptor in lent:
            os.close(descriptor)


def _receive(asked: _socket.socket) -> tuple[bytes, list[int]]:
    """Wait for a datagram; no byte when promheal has ended."""
    size = _socket.CMSG_SPACE(_LENT * _INT)
    byte, ancillary, _, _ = asked.recvmsg(1, size, _socket.MSG_CMSG_CLOEXEC)
    packed = b"".join(data for _, _, data in ancillary)
    whole = range(0, len(packed) - _INT + 1, _INT)
    return byte, [int.from_bytes(packed[at : at + _INT], sys.byteorder) for at in whole]


def _refuse(channel: int, number: int) -> None:
    with supervise.suppress(OSError):  # promheal is gone, and the next look at the socket says so
        os.write(channel, b'{"error": "fork", "errno": %d}\n' % number)


def _supervise(channel: int, writing: int, reading: int) -> int:
    """Be a supervisor, as if `python supervise.py` had been started with these descriptors."""
    os.dup2(channel, 0)  # first: whoever holds the launcher's socket hides its death
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(channel)
    os.close(writing)
    if reading != _READING:
        os.dup2(reading, _READING, inheritable=False)
        os.close(reading)
    os.setsid()
    try:
        descriptor = os.pidfd_open(os.getpid())
        here = _socket.socket(fileno=0)
        rights = descriptor.to_bytes(_INT, sys.byteorder)
        here.sendmsg([b"\n"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
        here.detach()
        os.close(descriptor)
    except OSError:
        return 1
    return supervise.main()


if __name__ == "__main__":
    os._exit(main())
