"""The least in Python that keeps promheal's promises: one thread, and nothing but what they need.

It parses the body, commits it durably before the answer, commits that the action begins, and
starts it by posix_spawn. No guards, no deadline, no supervisor.
`python -m bench.floor PORT DATABASE TOLD`
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
from typing import Final

import msgspec

ANSWER: Final = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
ACTION: Final = ("/bin/date", "+%s%N")


def main(port: str, database: str, told: str) -> None:
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("create table body (id integer primary key, text blob)")
    connection.execute("create table step (id integer primary key, body integer)")
    listener = socket.create_server(("127.0.0.1", int(port)))
    while True:
        accepted, _ = listener.accept()
        with accepted, accepted.makefile("rb") as stream:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while length := _headers(stream):
                body = stream.read(length)
                msgspec.json.decode(body)
                row = connection.execute("insert into body (text) values (?)", (body,)).lastrowid
                accepted.sendall(ANSWER)
                connection.execute("insert into step (body) values (?)", (row,))
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                to_file = [(os.POSIX_SPAWN_OPEN, 1, told, flags, 0o600)]
                os.waitpid(os.posix_spawn(ACTION[0], ACTION, {}, file_actions=to_file), 0)


def _headers(stream: object) -> int:
    """Return the length of the body; 0 at the end, and where there is none."""
    length = 0
    for line in iter(stream.readline, b"\r\n"):  # type: ignore[attr-defined]
        if not line:
            return 0
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return length


if __name__ == "__main__":
    main(*sys.argv[1:])
