"""Hostile names and values, to the programs that read them: a real Redis, a shell, other parsers.

Those for RabbitMQ, supervisord, systemd, Podman and Kubernetes are beside the other tests of each.
The operator writes the names; but a worker's, in Redis, is whatever somebody wrote there.
"""

from __future__ import annotations

import json
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from receiver.services.formats import edit, format_named, look_up
from receiver.services.redis_cache import RedisCache
from receiver.services.redis_queue import RedisQueue
from receiver.services.resp import Login, asked
from tests.brokers import Redis
from tests.hostile import values

WILD = "*?[]\\"


@pytest.fixture
def hostile(tmp_path: Path) -> list[str]:
    return values(str(tmp_path / "canary"))


def test_redis_gets_each_value_as_one_word(redis: Redis, hostile: list[str]) -> None:
    """No line end, no NUL and no length of it is a command, or the start of another answer."""
    with asked(redis.url(), Login(), time.monotonic() + 60) as ask:
        for number, value in enumerate(hostile):
            assert ask("SET", f"key:{number}", value) == b"OK"
            assert ask("ECHO", value) == value.encode()
        assert ask("DBSIZE") == len(hostile)


def test_no_pattern_of_a_cache_removes_more_than_it_says(redis: Redis, hostile: list[str]) -> None:
    plain = [value for value in hostile if value and not set(WILD) & set(value)]
    with redis.client.pipeline() as pipe:
        for value in (*plain, "other"):
            pipe.set(f"keep:{value}", "x")
            pipe.set(value, "x")
        pipe.execute()
    for value in plain:
        RedisCache(redis=redis.url(), match=value).clear(timeout=10)
    left = set(redis.client.keys())
    assert left == {"other", *(f"keep:{value}" for value in (*plain, "other"))}


def test_whatever_a_worker_and_its_tasks_are_called_none_is_lost(
    redis: Redis, hostile: list[str]
) -> None:
    with redis.client.pipeline() as pipe:
        for value in hostile:
            pipe.rpush(f"working:{value}", value)
            pipe.rpush(f"working:alive {value}", "held")
            pipe.set(f"alive:alive {value}", "1")
        pipe.execute()
    queue = RedisQueue(
        redis=redis.url(), waiting="jobs", working="working:*", alive="alive:{worker}"
    )

    result = queue.redistribute(timeout=60)

    assert (result["moved"], result["living"]) == (len(hostile), len(hostile))
    assert sorted(redis.client.lrange("jobs", 0, -1)) == sorted(hostile)
    assert len(redis.client.keys("working:alive *")) == len(hostile)


READERS: dict[str, Any] = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}


@pytest.mark.parametrize("name", READERS)
def test_a_settings_file_reads_back_the_value_and_nothing_else(
    name: str, hostile: list[str]
) -> None:
    """By another reader than ours."""
    start = {"json": '{"llm": {"provider": "a"}, "n": 1}', "toml": 'n = 1\nllm.provider = "a"\n'}
    text = start.get(name, "llm: {provider: a}\nn: 1\n")
    kept = 0
    for value in hostile:
        try:
            after = edit(format_named(name), text, ["llm", "provider"], value)
        except ValueError:
            continue
        kept += 1
        assert READERS[name](after) == {"llm": {"provider": value}, "n": 1}
    assert kept > 600


def test_a_shell_that_reads_a_file_of_variables_runs_nothing(
    tmp_path: Path, hostile: list[str]
) -> None:
    """`. FILE`, as the start of a service may do it."""
    env = format_named("env")
    lines: list[str] = []
    wanted: list[str] = []
    for value in hostile:
        try:
            after = edit(env, "LLM_PROVIDER=a\n", ["LLM_PROVIDER"], value)
        except ValueError:
            continue
        assert look_up(env.parse(after), ["LLM_PROVIDER"]) == value
        (tmp_path / f"{len(lines)}.env").write_text(after)
        lines.append(f'. ./{len(lines)}.env; printf "%s\\0" "$LLM_PROVIDER"')
        wanted.append(value)
    assert len(lines) > 150, "the others are refused"
    (tmp_path / "read").write_text("\n".join(lines))
    done = subprocess.run(
        ["sh", "-e", "read"], cwd=tmp_path, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode().split("\0")[:-1] == wanted
    assert not (tmp_path / "canary").exists()
