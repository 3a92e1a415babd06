"""A real Redis, real folders, a real HTTP server: what is removed, and what no one can make go."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from receiver.actions.clear_cache import ClearCache, ClearCacheParams
from receiver.errors import ActionError
from receiver.services import Cache, Inventory, Service
from receiver.services.caches import CACHES
from receiver.services.command import CommandManager
from receiver.services.file_cache import FileCache, Files
from receiver.services.http_cache import HttpCache, Purge
from receiver.services.redis_cache import RedisCache
from receiver.yaml.diagnostics import InvalidConfig
from tests import factories
from tests.brokers import Redis, eventually, free_ports, redis_server, running, service_with
from tests.killing import killed_in_the_middle
from tests.test_template import HOSTILE
from tests.tools import tool


def inventory(cache: Cache | None, allowed: tuple[str, ...] = ()) -> Inventory:
    manager = CommandManager(restart_argv=("true",))
    return Inventory({"shop": Service(name="shop", manager=manager, cache=cache)}, allowed)


def clear(cache: Cache | None, service: str = "shop", **more: Any) -> dict[str, Any]:
    context = factories.context(inventory=inventory(cache), **more)
    return ClearCache().run(ClearCacheParams(service=service), context)


class TestAction:
    def test_it_may_be_repeated_and_not_undone(self) -> None:
        params = ClearCacheParams(service="shop")
        assert ClearCache().idempotent(params)
        assert not ClearCache().undoable(params)

    def test_a_service_without_a_cache_is_told_and_left_alone(self) -> None:
        with pytest.raises(ActionError, match=r"has no `cache` in .* nothing was touched"):
            clear(None)
        params = ClearCacheParams(service="shop")
        assert list(ClearCache().problems(params, inventory(None)))
        templated = ClearCacheParams(service="{{ labels.service }}")
        assert list(ClearCache().problems(templated, inventory(None)))
        assert list(ClearCache().problems(ClearCacheParams(service="shpo"), inventory(None))) == [
            "service: no 'shpo' in services.yml; did you mean 'shop'? known: shop"
        ]

    def test_a_hostile_label_reaches_no_cache(self, tmp_path: Path) -> None:
        touched: list[str] = []

        class Spy:
            def clear(self, *, timeout: float) -> dict[str, Any]:
                touched.append("clear")
                return {}

        for value in HOSTILE:
            with pytest.raises(ActionError, match="nothing was touched"):
                clear(Spy(), service=value)
        assert not touched
        clear(Spy())
        assert touched == ["clear"]


class TestRedis:
    def test_what_matches_goes_and_nothing_else(self, redis: Redis) -> None:
        keys = {f"checkout:{n}": "x" for n in range(5000)}
        redis.client.mset({**keys, "checkout": "x", "other:checkout:1": "x", "Checkout:1": "x"})
        redis.client.hset("checkout:hash", "a", "b")
        other = redis.client.__class__(port=redis.port, db=1)
        other.set("checkout:1", "x")
        cache = RedisCache(redis=redis.url(), match="checkout:*")
        assert clear(cache)["keys"] == 5001
        assert set(redis.client.keys()) == {"checkout", "other:checkout:1", "Checkout:1"}
        assert other.get("checkout:1")
        assert clear(cache)["keys"] == 0

    def test_a_wild_character_can_be_meant_as_it_is(self, redis: Redis) -> None:
        redis.client.mset({"a*b": "x", "aXb": "x"})
        assert clear(RedisCache(redis=redis.url(), match=r"a\*b"))["keys"] == 1
        assert redis.client.keys() == ["aXb"]

    @pytest.mark.parametrize("match", ["*", "**", "?*", "[a-z]*", "*[^a]?"])
    def test_everything_must_be_said(self, match: str, redis: Redis) -> None:
        with pytest.raises(ValueError, match="add `everything: true`"):
            RedisCache(redis=redis.url(), match=match)
        RedisCache(redis=redis.url(), match=match, everything=True)

    def test_everything(self, redis: Redis) -> None:
        redis.client.mset({"a": "x", "b": "x"})
        cache = RedisCache(redis=redis.url(), match="*", everything=True)
        assert clear(cache)["keys"] == 2

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"match": ""}, "is empty"),
            ({"match": "a*", "everything": True}, "remove one"),
            ({"match": "a*", "username": "u"}, "`username` needs a `password_file`"),
        ],
    )
    def test_what_is_wrong_is_told_when_it_is_loaded(
        self, fields: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(msgspec.ValidationError, match=problem):
            msgspec.convert({"redis": "redis://h", **fields}, CACHES["redis"])

    def test_it_asks_for_nothing_but_what_it_needs(self, redis: Redis, tmp_path: Path) -> None:
        redis.client.mset({"checkout:1": "x", "other": "x"})
        rules = ["on", ">s3cret", "resetkeys", "~checkout:*", "-@all", "+scan", "+unlink"]
        redis.client.execute_command("ACL", "SETUSER", "healer", *rules, "+select")
        (tmp_path / "password").write_text("s3cret\n")
        cache = RedisCache(
            redis=redis.url(),
            match="checkout:*",
            username="healer",
            password_file=str(tmp_path / "password"),
        )
        assert not list(cache.probe(timeout=5.0))
        assert redis.client.dbsize() == 2
        assert clear(cache)["keys"] == 1
        assert redis.client.keys() == ["other"]
        redis.client.execute_command("ACL", "SETUSER", "healer", "-unlink")
        with pytest.raises(ActionError, match=r"refused UNLINK: NOPERM .*; give the user this"):
            cache.probe(timeout=5.0)
        (tmp_path / "password").write_text("wrong\n")
        with pytest.raises(ActionError, match="refused AUTH: WRONGPASS; check `username`") as error:
            clear(cache)
        assert "wrong" not in str(error.value).replace("WRONGPASS", "")
        (tmp_path / "password").unlink()
        with pytest.raises(ActionError, match="No such file"):
            clear(cache)
        redis.client.execute_command("ACL", "DELUSER", "healer")

    def test_nobody_there(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with pytest.raises(ActionError, match="cannot be reached: Connection refused; 0 keys"):
            clear(RedisCache(redis=f"redis://127.0.0.1:{port}", match="a*"))

    def test_one_that_hangs_is_left_in_time_with_what_was_done(self, redis: Redis) -> None:
        cache = RedisCache(redis=redis.url(), match="a*")
        redis.client.set("a1", "x")
        redis.client.client_pause(1500)
        began = time.monotonic()
        with pytest.raises(ActionError, match=r"was not done within 0\.5 s; 0 keys were removed"):
            clear(cache, timeout=0.5)
        assert time.monotonic() - began < 2.5
        redis.client.client_unpause()

    def test_killed_in_the_middle_it_goes_on(self, redis: Redis) -> None:
        cache = RedisCache(redis=redis.url(), match="checkout:*")
        keys = {f"checkout:{n}": "x" for n in range(30_000)}
        redis.client.mset({f"other:{n}": "x" for n in range(100)})
        killed = 0
        for _ in range(20):
            redis.client.mset(keys)
            killed += killed_in_the_middle(
                ClearCache(), "shop", inventory(cache), lambda: redis.client.dbsize() < 30_100
            )
            assert len(redis.client.keys("other:*")) == 100
        assert killed >= 10
        clear(cache)
        assert redis.client.dbsize() == 100


class TestLoading:
    def test_a_redis_that_reads_its_data_is_waited_for(self, tmp_path: Path) -> None:
        with redis_server(tmp_path) as first:
            first.client.mset({f"checkout:{number}": "x" for number in range(2000)})
            first.client.save()
        (port,) = free_ports(1)
        slow = [
            *(tool("redis-server"), "--port", str(port), "--bind", "127.0.0.1"),
            *("--dir", str(tmp_path), "--key-load-delay", "1500"),
            *("--loading-process-events-interval-bytes", "1024"),
        ]
        cache = RedisCache(redis=f"redis://127.0.0.1:{port}/0", match="checkout:*")
        with running(slow, tmp_path / "slow.log"):
            eventually(lambda: self.refused(cache), "it is loading")
            began = time.monotonic()
            assert cache.clear(timeout=20)["keys"] == 2000
            assert time.monotonic() - began > 0.5

    @staticmethod
    def refused(cache: RedisCache) -> bool:
        try:
            cache.clear(timeout=0.15)
        except ActionError as error:
            return "LOADING" in str(error) and "still reads its data" in str(error)
        return False


class TestFiles:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "cache"
        (root / "images/deep/er").mkdir(parents=True)
        for name in ("a.html", "b.txt", "images/c.html", "images/deep/er/d.html", ".hidden"):
            (root / name).write_text("12345")
        return root

    def left(self, root: Path) -> set[str]:
        return {str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir()}

    @pytest.mark.parametrize(
        ("glob", "gone"),
        [
            ("*.html", {"a.html"}),
            ("*/*.html", {"images/c.html"}),
            ("**/*.html", {"a.html", "images/c.html", "images/deep/er/d.html"}),
            ("images/**/*.html", {"images/c.html", "images/deep/er/d.html"}),
            ("images/**", {"images/c.html", "images/deep/er/d.html"}),
            ("**/er/**/*.html", {"images/deep/er/d.html"}),
            ("[ab].*", {"a.html", "b.txt"}),
            ("nothing", set()),
            ("*", {"a.html", "b.txt", ".hidden"}),
        ],
    )
    def test_what_matches_goes(self, glob: str, gone: set[str], root: Path) -> None:
        before = self.left(root)
        result = clear(FileCache(files=Files(root=str(root), glob=glob)))
        assert self.left(root) == before - gone
        assert (result["files"], result["bytes"]) == (len(gone), 5 * len(gone))
        assert (root / "images/deep/er").is_dir()

    def test_no_link_leads_out(self, root: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "canary").write_text("alive")
        (root / "directory").symlink_to(outside)
        (root / "file").symlink_to(outside / "canary")
        (root / "up").symlink_to("..")
        os.link(outside / "canary", root / "hard")
        result = clear(FileCache(files=Files(root=str(root), glob="**")))
        assert (outside / "canary").read_text() == "alive"
        assert self.left(root) == set()
        assert result["files"] == 9

    def test_what_is_no_file_stays(self, root: Path) -> None:
        os.mkfifo(root / "pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(root / "s"))
            clear(FileCache(files=Files(root=str(root), glob="**")))
            assert self.left(root) == {"pipe", "s"}

    def test_another_file_system_stays(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.stat

        def stat(path: Any, **more: Any) -> Any:
            found = real(path, **more)
            return os.stat_result([*found[:2], 4711, *found[3:]]) if path == "images" else found

        monkeypatch.setattr("receiver.services.file_cache.os.stat", stat)
        clear(FileCache(files=Files(root=str(root), glob="**")))
        assert self.left(root) == {"images/c.html", "images/deep/er/d.html"}

    def test_a_directory_that_becomes_a_link_meanwhile_leads_nowhere(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "canary").write_text("alive")
        real = os.stat

        def stat(path: Any, **more: Any) -> Any:
            found = real(path, **more)
            if path == "images":  # between the look and the step into it
                (root / "images").rename(tmp_path / "aside")
                (root / "images").symlink_to(outside)
            return found

        monkeypatch.setattr("receiver.services.file_cache.os.stat", stat)
        with pytest.raises(ActionError, match=r"'images': .*; 3 files were removed"):
            clear(FileCache(files=Files(root=str(root), glob="**")))
        assert (outside / "canary").read_text() == "alive"

    def test_a_root_behind_a_link_is_refused(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(root)
        before = self.left(root)
        for path in (tmp_path / "link", tmp_path / "link/images", tmp_path / "missing"):
            with pytest.raises(ActionError, match="cannot be opened as a directory"):
                clear(FileCache(files=Files(root=str(path), glob="**")))
        assert self.left(root) == before

    def test_a_probe_removes_nothing(self, root: Path, tmp_path: Path) -> None:
        before = self.left(root)
        assert not list(FileCache(files=Files(root=str(root), glob="**")).probe(timeout=1))
        assert self.left(root) == before
        with pytest.raises(ActionError, match="cannot be opened"):
            list(FileCache(files=Files(root=f"{root}/none", glob="**")).probe(timeout=1))

    def test_a_probe_tells_of_missing_rights(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda *_, **__: False)  # we may be root
        (problem,) = FileCache(files=Files(root=str(root), glob="**")).probe(timeout=1)
        assert "may not read it or remove from it" in problem

    def test_deeper_than_can_be_is_told(self, root: Path) -> None:
        deep = root.joinpath(*["d"] * 70)
        deep.mkdir(parents=True)
        (deep / "x.html").touch()
        with pytest.raises(ActionError, match=r"more than 64 directories .*; 3 files were removed"):
            clear(FileCache(files=Files(root=str(root), glob="**/*.html")))

    def test_its_time_is_bounded(self, root: Path) -> None:
        with pytest.raises(ActionError, match="not done within 0 s; 0 files were removed"):
            clear(FileCache(files=Files(root=str(root), glob="**")), timeout=0.0)

    @pytest.mark.parametrize(
        "root",
        ["/", "/usr", "/var", "/home", "/home/me", "/root", "~", "", "cache", "./c", "/a/../b"],
    )
    def test_no_cache_is_the_system_or_a_home(self, root: str) -> None:
        with pytest.raises(ValueError, match="root"):
            Files(root=str(Path.home()) if root == "~" else root, glob="**")

    @pytest.mark.parametrize("root", ["/a//b", "/a/", "/a/.", "//a", "/a\0b"])
    def test_a_root_has_one_way_to_write_it(self, root: str) -> None:
        with pytest.raises(ValueError, match="must be an absolute path"):
            Files(root=root, glob="**")

    @pytest.mark.parametrize("glob", ["", "/a", "a//b", "../a", "a/..", "a/./b", "a/", "a\0b"])
    def test_a_pattern_stays_below_the_root(self, glob: str) -> None:
        with pytest.raises(ValueError, match="glob"):
            Files(root="/srv/cache", glob=glob)

    def test_killed_in_the_middle_it_goes_on(self, root: Path) -> None:
        for n in range(20):
            (root / "images" / f"{n}.keep").touch()
        cache = FileCache(files=Files(root=str(root), glob="**/*.html"))
        killed = 0
        for turn in range(20):
            for n in range(1000):
                (root / "images" / f"{n}.html").touch()
            os.utime(root / "images", (turn, turn))
            killed += killed_in_the_middle(
                ClearCache(),
                "shop",
                inventory(cache),
                lambda: (root / "images").stat().st_mtime > 20,
            )
        assert killed >= 10
        clear(cache)
        left = self.left(root)
        assert left == {f"images/{n}.keep" for n in range(20)} | {"b.txt", ".hidden"}


class TestHttp:
    @pytest.fixture
    def asked(self) -> list[str]:
        return []

    @pytest.fixture
    def url(self, asked: list[str]) -> Iterator[str]:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                asked.append(f"{self.command} {self.path}")
                self.send_response(500 if "broken" in self.path else 200)
                self.end_headers()
                self.wfile.write(b"Purged")

            do_PURGE = do_DELETE = do_POST = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        server.server_close()

    def clear(self, purge: Purge, allowed: str) -> dict[str, Any]:
        params = ClearCacheParams(service="shop")
        services = inventory(HttpCache(http=purge), (allowed,))
        return ClearCache().run(params, factories.context(inventory=services))

    @pytest.mark.parametrize("method", ["PURGE", "DELETE", "POST"])
    def test_it_is_asked(self, method: Any, url: str, asked: list[str]) -> None:
        result = self.clear(Purge(url=f"{url}/cache/?all", method=method), url)
        assert asked == [f"{method} /cache/?all"]
        assert (result["status"], result["body"]) == (200, "Purged")

    def test_what_is_no_2xx_is_a_failure(self, url: str) -> None:
        with pytest.raises(ActionError, match="answered 500 Internal Server Error, not 2xx"):
            self.clear(Purge(url=f"{url}/broken"), url)

    def test_only_what_is_allowed_is_called(self, url: str, asked: list[str]) -> None:
        with pytest.raises(ActionError, match=r"`http.allow` in promheal.yml has http://other"):
            self.clear(Purge(url=url), "http://other")
        assert not asked
        services = inventory(HttpCache(http=Purge(url=url)), ("http://other",))
        for name in ("shop", "{{ labels.service }}"):
            (problem,) = ClearCache().problems(ClearCacheParams(service=name), services)
            assert "the cache of 'shop'" in problem

    def test_nobody_there(self) -> None:
        purge = Purge(url="http://127.0.0.1:1/x")
        with pytest.raises(ActionError, match="got no answer"):
            self.clear(purge, "http://127.0.0.1:1")
        with pytest.raises(ActionError, match="cannot be connected"):
            HttpCache(http=purge).probe(timeout=1.0)

    def test_a_probe_asks_for_nothing(self, url: str, asked: list[str]) -> None:
        assert not list(HttpCache(http=Purge(url=url)).probe(timeout=1.0))
        assert not asked


class TestConfiguration:
    def test_each_kind_is_told_by_its_key(self, config: Path) -> None:
        for text, kind in (
            ("redis: redis://h:1/2, match: 'a*'", RedisCache),
            ("files: {root: /srv/cache, glob: '**'}", FileCache),
            ("http: {url: 'http://h/'}", HttpCache),
        ):
            assert type(service_with(f"cache: {{{text}}}", config).cache) is kind
        assert service_with("", config).cache is None

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("{match: 'a*'}", "one of the keys redis, files, http"),
            ("{redis: redis://h, files: {root: /srv/c, glob: a}}", "redis and files are two kinds"),
            ("{redis: 'http://h', match: 'a*'}", "is no address"),
            ("{redis: 'redis://u:p@h', match: 'a*'}", "no user and no password in a URL"),
            ("{redis: 'redis://h/zero', match: 'a*'}", "only /NUMBER"),
            ("{redis: 'redis://h?db=1', match: 'a*'}", "only /NUMBER"),
            ("{redis: redis://h, match: '*'}", "everything: true"),
            ("{redis: redis://h, match: 'a*', typo: 1}", "unknown key 'typo'"),
            ("{files: {root: /, glob: a}}", "the system's or somebody's home"),
            ("{http: {url: cache}}", "is no URL that can be called"),
            ("{http: {url: 'ftp://a'}}", "is no URL that can be called"),
            ("{http: {url: 'http://u:p@a'}}", "; no user"),
            ("{http: {url: 'http://a/#b'}}", "fragment"),
            ("{http: {url: 'http://a/', method: GET}}", "PURGE"),
        ],
    )
    def test_what_is_wrong_is_told_when_it_is_loaded(
        self, text: str, problem: str, config: Path
    ) -> None:
        with pytest.raises(InvalidConfig) as error:
            service_with(f"cache: {text}", config)
        assert problem in str(error.value)
