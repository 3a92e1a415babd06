"""promheal's application under one of three worker classes: `python -m bench.worker_classes NAME`.

`ours` is promheal's own worker. `gunicorn` is gunicorn's ASGI worker and `uvicorn` that of the
package uvicorn-worker; both call the application through `Adapter`, which stands for all that
promheal would still have to write for them.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from receiver.bootstrap import Options
from receiver.web.access.reloading import ReloadingConfig
from receiver.web.application import Application, Proxied
from receiver.web.server.answering import OfferedRequest
from receiver.web.server.arbiter import DEFAULTS, WebServer
from receiver.web.server.framing import MAX_BODY

NAMES: Final = ("ours", "gunicorn", "uvicorn")
UNAVAILABLE: Final = "/unavailable"
"""Answered with 503, as a journal that cannot be written is."""
BODY_DEADLINE: Final = 5.0
"""Seconds for a body to arrive, as under promheal's own worker."""

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, Sequence[tuple[str, str]], bytes]


class Unavailable:
    """The application, with a path that is always answered with 503."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.close = application.close

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return self._application(environ, start)

    def take(self, request: OfferedRequest, reply: Callable[..., None]) -> bool:
        if request.path == UNAVAILABLE:
            reply(503, b"{}")
            return True
        return self._application.take(request, reply)


class Adapter:
    """ASGI to promheal's application: complete requests only, answered once they are committed.

    A notification waits for its commit without a thread; anything else is called in one.
    """

    def __init__(self, application: Unavailable, threads: int) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(threads)
        self.close = application.close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(scope["type"])  # no lifespan, no websockets
        try:
            async with asyncio.timeout(BODY_DEADLINE):
                body = await _whole(receive)
        except TimeoutError:
            answer: Answer = (408, [("connection", "close")], b"")
        except ValueError:
            answer = (413, [("connection", "close")], b"")
        else:
            if body is None:
                return
            answer = await self._answer(scope, body)
        status, headers, content = answer
        if status == 503:  # the next attempt may reach another receiver
            headers = [*headers, ("connection", "close")]
        raw = [(name.lower().encode(), text.encode("latin-1")) for name, text in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope, body: bytes) -> Answer:
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()

        def reply(status: int, content: bytes, more: Sequence[tuple[str, str]] = ()) -> None:
            usual = [
                ("content-type", "application/json"), ("content-length", str(len(content))),
                ("x-content-type-options", "nosniff"), ("cache-control", "no-store"),
            ]  # fmt: skip
            answer = (status, [*usual, *more], content)
            loop.call_soon_threadsafe(_set, answered, answer)

        offered = OfferedRequest(
            method=scope["method"],
            path=scope["path"],
            content_type=headers.get("content-type", ""),
            content_encoding=headers.get("content-encoding", ""),
            body=io.BytesIO(body),
            address=scope["client"][0] if scope["client"] else "",
            authorization=headers.get("authorization", ""),
            host=headers.get("host", ""),
            origin=headers.get("origin", ""),
            site=headers.get("sec-fetch-site", ""),
        )
        if scope["scheme"] == "http" and self._application.take(offered, reply):
            return await answered
        return await loop.run_in_executor(
            self._threads, partial(_call, self._application, scope, headers, body)
        )


def _set(answered: asyncio.Future[Answer], answer: Answer) -> None:
    if not answered.done():  # the client may be gone
        answered.set_result(answer)


async def _whole(receive: Receive) -> bytes | None:
    """Return the body, None if its client is gone. Raises ValueError if it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise ValueError
        if not message.get("more_body"):
            return bytes(body)


def _call(
    application: Callable[..., Iterable[bytes]],
    scope: Scope,
    headers: dict[str, str],
    body: bytes,
) -> Answer:
    """Call a WSGI application."""
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": scope["client"][0] if scope["client"] else "",
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": headers.get("content-type", ""),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **{f"HTTP_{name.upper().replace('-', '_')}": text for name, text in headers.items()},
    }
    started: list[tuple[int, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]], _error: object = None) -> None:
        started.append((int(status[:3]), headers))

    pieces = application(environ, start)
    try:
        content = b"".join(pieces)
    finally:
        getattr(pieces, "close", lambda: None)()
    return (*started[-1], content)


class ForeignServer(WebServer):
    """promheal's gunicorn with the worker class of others."""

    def __init__(
        self, worker_class: object, build: Callable[[], Any], options: dict[str, object]
    ) -> None:
        self._worker_class = worker_class
        super().__init__(build, options)

    def do_load_config(self) -> None:
        super().do_load_config()
        self.cfg.set("worker_class", self._worker_class)


def _uvicorn(context: Callable[[], ssl.SSLContext]) -> type:
    base: Any = import_module("uvicorn_worker").UvicornWorker

    class Worker(base):  # type: ignore[misc]  # it is installed for the bench only
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if self.cfg.is_ssl:
                self.config.ssl_context_factory = lambda _config, _default: context()

    return Worker


def _following(reloading: ReloadingConfig) -> ssl.SSLContext:
    """A context that takes the newest certificate for each handshake, in a server that keeps it."""
    context = reloading.context()

    def follow(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = reloading.context()

    context.sni_callback = follow
    return context


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.worker_classes", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("folder", type=Path, help="with the three files; the journal is made there")
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", type=Path, help="a --web.config.file, whose certificate is used")
    options = parser.parse_args(arguments)
    service = Options(
        config_file=options.folder / "promheal.yml",
        storage_url=f"sqlite:///{options.folder}/promheal.db",
        environ=dict(os.environ),
    )

    def build() -> Unavailable:
        return Unavailable(Application(service, None, {}, Proxied(), loopback=True))

    settings: dict[str, object] = {
        "bind": [f"127.0.0.1:{options.port}"], "loglevel": "error", "graceful_timeout": 5,
    }  # fmt: skip
    ours = options.name == "ours"
    following: Callable[[], ssl.SSLContext] = ssl.create_default_context  # never called without TLS
    if options.tls:
        reloading = ReloadingConfig(options.tls)
        following = partial(_following, reloading)
        settings["certfile"] = str(reloading.loaded.files[0])
        settings["ssl_context"] = lambda _config, _default: (
            reloading.context() if ours else following()
        )
    if ours:
        WebServer(build, settings).run()
        return
    threads = int(str(DEFAULTS["threads"]))
    worker = "asgi" if options.name == "gunicorn" else _uvicorn(following)
    settings |= {"threads": 1, "asgi_lifespan": "off"}
    ForeignServer(worker, lambda: Adapter(build(), threads), settings).run()


if __name__ == "__main__":
    main()
