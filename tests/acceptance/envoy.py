"""The first process of a host: it keeps the host up, and hands out TCP sockets that belong to it.

As `envoy.py FD NAME`, where FD is one end of a pair of Unix sockets: for each byte that comes, one
socket goes back. A socket stays in the network namespace in which it was made, so whoever holds it
speaks as if from there. When the other end is closed, however that came about, the first process
ends, and with it the kernel ends all others of the host.
"""

from __future__ import annotations

import signal
import socket
import sys


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are no zombies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the test, does not mean us
    number, *name = sys.argv[1:]
    if name:
        socket.sethostname(*name)
    with socket.socket(fileno=int(number)) as asked:
        while asked.recv(1):
            with socket.socket() as made:
                socket.send_fds(asked, [b"."], [made.fileno()])


if __name__ == "__main__":
    main()
