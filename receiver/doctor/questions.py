"""Will it work? Everything that the configuration names is asked, and nothing is changed.

`promheal check` reads the files; this also connects: to each service through its manager and its
other parts, to Prometheus, Alertmanager and LLM providers, and looks at the journal's folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from receiver import bootstrap
from receiver.actions import discover
from receiver.bootstrap import Options
from receiver.clients.channels import Channels
from receiver.clients.http_exchange import fetch
from receiver.clients.llm import KeyState, LlmKeys
from receiver.clients.prometheus import Prometheus
from receiver.clock import steady_clock
from receiver.config.files import LoadedConfig
from receiver.doctor import delivery, fitting, provable
from receiver.doctor.memory import memories, recordings_of
from receiver.errors import ActionError, UpstreamError
from receiver.policy.finding import Finding, fail, ok, warn
from receiver.policy.http_config import PLAIN, HTTPConfig
from receiver.services import Service, ServiceState, SupportsProbe
from receiver.settings import AlertmanagerSettings, PrometheusSettings

LITTLE: Final = 200 * 1024 * 1024
"""Bytes of free space below which there is a warning about the journal's disk."""
_AT_ONCE: Final = 16
"""Probes at the same time."""


Probe = Callable[[], Iterable[Finding]]


def examine(
    loaded: LoadedConfig, options: Options, *, timeout: float, done: Callable[[], object]
) -> list[Finding]:
    """Ask everything, many at once, each question within *timeout* seconds; *done* after each."""
    probes = list(_probes(loaded, options, timeout))
    answers: dict[int, list[Finding]] = {}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="doctor") as pool:
        running = {pool.submit(_asked, *probe): place for place, probe in enumerate(probes)}
        for future in as_completed(running):
            answers[running[future]] = future.result()
            done()
    return [finding for place in sorted(answers) for finding in answers[place]]


def count(loaded: LoadedConfig, options: Options) -> int:
    """Return how many questions there are."""
    return sum(1 for _ in _probes(loaded, options, 1.0))


def _asked(subject: str, probe: Probe) -> list[Finding]:
    try:
        return list(probe())
    except (ActionError, UpstreamError) as error:
        return [fail(subject, str(error))]
    except Exception as error:  # noqa: BLE001  a failing probe must not hide the others
        return [fail(subject, f"it cannot be asked: {type(error).__name__}: {error}")]


def _probes(loaded: LoadedConfig, options: Options, timeout: float) -> Iterator[tuple[str, Probe]]:
    settings = loaded.settings
    yield "configuration", lambda: _configuration(loaded)
    yield "journal", lambda: _journal(bootstrap.folder(options))
    yield _at("prometheus", settings.prometheus), lambda: _prometheus(loaded, timeout)
    yield _at("alertmanager", settings.alertmanager), lambda: delivery.examine(loaded, timeout)
    keys = bootstrap.keys(loaded, options, steady_clock())
    for provider in settings.llm.providers:
        yield f"llm {provider}", lambda provider=provider: _keys(keys, provider)  # type: ignore[misc]
    for prefix in settings.http.allow:
        yield f"http {prefix}", lambda prefix=prefix: _reached(loaded, prefix, timeout)  # type: ignore[misc]
    channels = bootstrap.channels(loaded, options)
    for name in channels.names:
        yield f"channel {name}", lambda name=name: _channel(channels, name, timeout)  # type: ignore[misc]
    for name in loaded.inventory.names:
        service = loaded.inventory.get(name)
        for what, probe in _service(service, timeout):
            yield f"service {name}: {what}", probe


def _at(name: str, settings: PrometheusSettings | AlertmanagerSettings | None) -> str:
    return name if settings is None else f"{name} {settings.url}"


# -- what promheal itself needs


def _configuration(loaded: LoadedConfig) -> Iterator[Finding]:
    subject = "configuration"
    flags = loaded.settings.flags
    if not flags.auto_healing:
        yield warn(subject, "auto_healing is off: it decides and never acts; see `flags:`")
    if not flags.auto_detection:
        yield warn(subject, "auto_detection is off: alerts are only recorded; see `flags:`")
    if not flags.preventive_healing and any(each.preventive for each in loaded.strategies):
        waiting = ", ".join(each.name for each in loaded.strategies if each.preventive)
        yield ok(subject, f"preventive_healing is off, so these never act: {waiting}")
    for problem in loaded.problems:
        yield warn(subject, f"{Path(problem.file).name}: {problem.message}")
    if not loaded.strategies.names:
        yield warn(subject, "there are no strategies, so nothing is ever healed")
    yield ok(
        subject,
        f"{len(loaded.strategies.names)} strategies, {len(loaded.inventory.names)} services",
    )


def _journal(folder: Path) -> Iterator[Finding]:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        yield fail("journal", f"promheal's user may not write in {there}")
        return
    free = shutil.disk_usage(there).free
    said = f"{folder} has {free // 1024**2} MiB free"
    yield ok("journal", said) if free >= LITTLE else warn("journal", f"{said}; that is little")


# -- upstreams


def _prometheus(loaded: LoadedConfig, timeout: float) -> Iterator[Finding]:
    subject, settings = "prometheus", loaded.settings.prometheus
    if settings is None:
        yield warn(subject, "none is named, so no heal is ever proven; write `prometheus:`")
        return
    prometheus = Prometheus(msgspec.structs.replace(settings, timeout=timeout))
    rules = prometheus.known_rules()
    if rules is None:
        yield from _without_rules(subject, prometheus, settings)
    elif rules:
        yield ok(subject, f"{settings.url} has {len(rules)} alerting rules")
    else:
        yield warn(
            subject,
            f"{settings.url} has no alerting rules; VictoriaMetrics hands on those of vmalert if "
            "it is started with -vmalert.proxyURL",
        )
    sick = sorted({rule.name for rule in rules or () if rule.health == "err"})
    if sick:
        yield fail(subject, f"these rules cannot be evaluated: {', '.join(sick)}")
    made = recordings_of(prometheus, rules or ())
    for _, each in memories(loaded.strategies, rules or (), made, discover()):
        tell = warn if each.warning else ok
        yield tell(f"strategy {each.strategy}", each.detail)
    for strategy, problem in provable.problems(loaded.strategies, rules, settings.trusted_senders):
        yield warn(f"strategy {strategy}", problem)
    for strategy, problem in fitting.problems(loaded.strategies, rules or (), prometheus):
        yield warn(f"strategy {strategy}", problem)
    if rules is not None and not prometheus.alertmanagers():
        yield warn(subject, "it sends its alerts to no Alertmanager; see its `alerting:`")


def _without_rules(
    subject: str, prometheus: Prometheus, settings: PrometheusSettings
) -> Iterator[Finding]:
    prometheus.query("vector(1)")  # else it is another server, or below another path
    trusted = ", ".join(settings.trusted_senders)
    yield warn(
        subject,
        f"{settings.url} answers queries and has no rules API, so "
        + (f"alerts of {trusted} are asked by their own link, others only" if trusted
           else "alerts are confirmed only")
        + " by a strategy's `when` or `verify.query`",
    )  # fmt: skip


def _keys(keys: LlmKeys, provider: str) -> Iterator[Finding]:
    keys.probe(provider)
    for health in next(each.keys for each in keys.providers() if each.name == provider):
        if health.state is KeyState.ACTIVE:
            yield ok(f"llm {provider}", f"{health.name} works")
        else:
            yield fail(f"llm {provider}", f"{health.name}: {health.detail}")


def _channel(channels: Channels, name: str, timeout: float) -> Iterator[Finding]:
    channels.probe(name, timeout=timeout)
    yield ok(f"channel {name}", "its URL is understood; nothing was sent")


def _reached(loaded: LoadedConfig, prefix: str, timeout: float) -> Iterator[Finding]:
    parts = urlsplit(prefix)
    if parts.scheme not in {"http", "https"}:
        yield warn("http", f"{prefix!r} in http.allow has no scheme, so it allows nothing")
        return
    # Any answer will do: a probe must not call what lies below.
    config = _way_to(loaded, prefix)
    reply = fetch("HEAD", f"{parts.scheme}://{parts.netloc}/", timeout=timeout, config=config)
    yield ok("http", f"{parts.netloc} answers ({reply.status} for /)")


def _way_to(loaded: LoadedConfig, prefix: str) -> HTTPConfig:
    """Return the TLS and the proxy of a step that calls what is below *prefix*; no credentials."""
    for strategy in loaded.strategies:
        for step in strategy.actions:
            config = step.params
            if isinstance(config, HTTPConfig) and getattr(config, "url", "").startswith(prefix):
                return HTTPConfig(
                    tls_config=config.tls_config,
                    proxy_url=config.proxy_url,
                    no_proxy=config.no_proxy,
                    proxy_from_environment=config.proxy_from_environment,
                )
    return PLAIN


# -- services


def _service(service: Service, timeout: float) -> Iterator[tuple[str, Probe]]:
    subject = f"service {service.name}"
    yield "manager", lambda: _manager(service, timeout)
    health = service.health
    if health is not None:
        yield "health", lambda: _health(subject, health.url, min(timeout, health.timeout))
    path = service.logs
    if path is not None:
        yield "logs", lambda: _logs(f"{subject}: logs", path)
    for name in Service.__struct_fields__:
        part = getattr(service, name)
        if isinstance(part, SupportsProbe):
            yield (
                name,
                lambda name=name, part=part: _part(f"{subject}: {name}", part, timeout),  # type: ignore[misc]
            )


def _manager(service: Service, timeout: float) -> Iterator[Finding]:
    subject = f"service {service.name}"
    status = service.manager.status(timeout=timeout)
    said = f"{status.state}: {status.detail}" if status.detail else str(status.state)
    if status.state is ServiceState.RUNNING:
        yield ok(subject, said)
    else:
        yield warn(subject, f"{said}; start it, or find out why it does not run")


def _health(subject: str, url: str, timeout: float) -> Iterator[Finding]:
    reply = fetch("GET", url, timeout=timeout)
    if 200 <= reply.status < 300:
        yield ok(f"{subject}: health", f"{url} answers {reply.status}")
    else:
        yield warn(
            f"{subject}: health", f"{url} answers {reply.status}, so no restart is ever done"
        )


def _logs(subject: str, path: str) -> Iterator[Finding]:
    if os.access(path, os.R_OK):
        yield ok(subject, f"{path} can be read")
    else:
        yield warn(subject, f"{path} is not there or may not be read, so no snapshot has its end")


def _part(subject: str, part: SupportsProbe, timeout: float) -> Iterator[Finding]:
    found = list(part.probe(timeout=timeout))
    for problem in found:
        yield fail(subject, problem)
    if not found:
        yield ok(subject, "can be used")
