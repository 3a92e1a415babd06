"""What promheal is compared with: the least that a Flask webhook can do.

`bare` parses the JSON and answers 200. `durable` also stores the body: one row, one commit, one
fsync for each request, in SQLite's WAL with synchronous=FULL.
"""

from __future__ import annotations

import os
import sqlite3
import threading

from flask import Flask, request

bare = Flask("bare")
durable = Flask("durable")

_local = threading.local()


@bare.post("/webhook")
def answer() -> tuple[str, int]:
    request.get_json()
    return "", 200


@durable.post("/webhook")
def store() -> tuple[str, int]:
    connection: sqlite3.Connection | None = getattr(_local, "connection", None)
    if connection is None:
        connection = sqlite3.connect(os.environ["BENCH_DATABASE"], isolation_level=None, timeout=30)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("create table if not exists body (id integer primary key, text blob)")
        _local.connection = connection
    body = request.get_data()
    request.get_json()
    connection.execute("insert into body (text) values (?)", (body,))
    return "", 200
