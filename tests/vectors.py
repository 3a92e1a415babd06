"""Argvs in which a label's value becomes code, and the values that show it; {f} is the canary.

{x} is where the label stands; {d} is a folder with, among others, `evil`, a program that makes the
canary, and `psql`, the real one with the address of a real PostgreSQL. Each was seen
to work: a vector whose canary does not come without the rule fails its test.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple


class Vector(NamedTuple):
    argv: tuple[str, ...]
    value: str
    """What is sent."""

    @property
    def program(self) -> str:
        return self.argv[0]


def _vector(argv: str, value: str) -> Vector:
    return Vector(tuple(argv.split("  ")), value)


RUN: Final = tuple(
    _vector(*pair)
    for pair in (
        # the three of the report, and their like
        ("make  -f  {d}/Makefile  VAR={x}", "$(shell touch {f})"),
        ("make  -f  {d}/Makefile  --  {x}", "VAR=$(shell touch {f})"),
        ("make  -f  {x}", "{d}/evil.mk"),
        ("make  -f  {d}/Makefile  SHELL={x}", "{d}/evil"),
        ("flock  {d}/lock  -c  {x}", "touch {f}"),
        ("flock  -n  {d}/lock  {x}", "{d}/evil"),
        ("tar  -xf  {d}/a.tar  -C  {d}/out  --to-command={x}", "touch {f}"),
        ("tar  -cf  /dev/null  --checkpoint=1  --checkpoint-action={x}  {d}/a", "exec=touch {f}"),
        ("tar  -cf  {d}/b.tar  -I  {x}  {d}/a", "{d}/evil"),
        ("tar  -cf  {d}/b.tar  --use-compress-program={x}  {d}/a", "{d}/evil"),
        # what runs another program, also after --
        ("timeout  --  5  {x}", "{d}/evil"),
        ("timeout  5  {x}", "{d}/evil"),
        ("nice  -n  5  {x}", "{d}/evil"),
        ("nohup  {x}", "{d}/evil"),
        ("setsid  -w  {x}", "{d}/evil"),
        ("stdbuf  -o0  {x}", "{d}/evil"),
        ("ionice  -c  3  {x}", "{d}/evil"),
        ("chrt  -o  0  {x}", "{d}/evil"),
        ("taskset  1  {x}", "{d}/evil"),
        ("prlimit  --nofile=64  {x}", "{d}/evil"),
        ("choom  -n  0  --  {x}", "{d}/evil"),
        ("setarch  x86_64  {x}", "{d}/evil"),
        ("xargs  {x}", "{d}/evil"),
        ("xargs  --  {x}", "{d}/evil"),
        ("env  {x}", "{d}/evil"),
        ("env  --  {x}", "{d}/evil"),
        ("env  -S{x}", "touch {f}"),
        ("env  LD_PRELOAD={x}  /bin/true", "{d}/evil.so"),
        ("env  BASH_ENV={x}  bash  -c  true", "{d}/evil.sh"),
        ("env  PATH={x}  /bin/sh  -c  heal", "{d}/bin"),
        ("env  {x}  /bin/true", "LD_PRELOAD={d}/evil.so"),
        ("chroot  /  {x}", "{d}/evil"),
        ("runuser  -u  root  --  {x}", "{d}/evil"),
        ("su  -s  /bin/sh  root  -c  {x}", "touch {f}"),
        ("script  -qec  {x}  /dev/null", "touch {f}"),
        ("start-stop-daemon  --start  --exec  {x}", "{d}/evil"),
        ("run-parts  {x}", "{d}/parts"),
        ("find  {d}/a  -exec  {x}  ;", "{d}/evil"),
        # what reads code
        ("sh  -c  echo {x}", "$(touch {f})"),
        ("sh  --  {x}", "{d}/evil.sh"),
        ("bash  -c  echo '{x}'", "'$(touch {f})'"),
        ("bash  --  {x}", "{d}/evil.sh"),
        ("bash  --rcfile  {x}  -i  -c  true", "{d}/evil.sh"),
        ('bash  -c  [[ "$1" -eq 0 ]]  bash  {x}', "a[$(touch {f})]"),
        ('sh  -c  eval "$1"  sh  {x}', "touch {f}"),
        ("python3  -c  print('{x}')", "'+str(open('{f}','w'))+'"),
        ("python3  --  {x}", "{d}/evil.py"),
        ("perl  -e  {x}", "system 'touch {f}'"),
        ("perl  -ne  print  {x}", "touch {f}|"),
        ('awk  BEGIN { print "{x}" }', '"; system("touch {f}"); "'),
        ("awk  --  {x}", 'BEGIN { system("touch {f}") }'),
        ("sed  -e  {x}  {d}/a", "1e touch {f}"),
        ("sed  -n  --  {x}  {d}/a", "w {f}"),
        ("node  -e  {x}", "require('fs').writeFileSync('{f}','')"),
        ("node  -r  {x}  -e  0", "{d}/evil.js"),
        ("tclsh  {x}", "{d}/evil.tcl"),
        ("sqlite3  :memory:  {x}", ".shell touch {f}"),
        ("sqlite3  -cmd  {x}  :memory:  .quit", ".shell touch {f}"),
        ("{d}/psql  -X  -c  {x}", "\\! touch {f}"),
        ("{d}/psql  -X  -f  {x}", "{d}/evil.sql"),
        ("{d}/psql  -X  -c  \\o {x}", "|touch {f}"),
        ("gdb  -nx  -batch  -ex  {x}", "shell touch {f}"),
        ("vim  -u  NONE  -es  -c  {x}  -c  qa!", "!touch {f}"),
        ("vim  -u  NONE  -es  +{x}  +qa!", "!touch {f}"),
        ("ed  -s  {x}", "!touch {f}"),
        ("cmake  -P  {x}", "{d}/evil.cmake"),
        ("ninja  -f  {x}", "{d}/evil.ninja"),
        ("gcc  -wrapper  {x}  -c  {d}/a.c  -o  /dev/null", "{d}/evil"),
        ("gcc  @{x}", "{d}/evil.args"),
        # what runs a program on its way
        ("ssh  -F  /dev/null  -oBatchMode=yes  -oProxyCommand={x}  host.invalid", "touch {f}"),
        ("ssh  -F  {x}  host.invalid", "{d}/ssh_config"),
        ("scp  -S  {x}  {d}/a  host.invalid:", "{d}/evil"),
        ("git  -c  core.sshCommand={x}  ls-remote  ssh://host.invalid/x", "touch {f};"),
        ("git  -c  {x}  ls-remote  ssh://host.invalid/x", "core.sshCommand=touch {f};"),
        ("git  ls-remote  --upload-pack={x}  {d}/a", "touch {f};"),
        ("git  -c  protocol.ext.allow=always  ls-remote  {x}", "ext::touch {f}"),
        ("zip  -q  {d}/b.zip  {d}/a  -T  -TT  {x}", "touch {f};true"),
        ("split  --filter={x}  {d}/a", "touch {f}"),
        ("wget  -q  --use-askpass={x}  http://127.0.0.1:1/", "{d}/evil"),
        ("kubectl  --kubeconfig={x}  get  pods", "{d}/kubeconfig"),
        # what writes a file
        ("curl  -s  -o  {x}  file:///etc/hostname", "{f}"),
        ("curl  -s  -K  {x}", "{d}/curlrc"),
        ("wget  -q  -t1  -O  {x}  http://127.0.0.1:1/", "{f}"),
        ("dd  if=/dev/null  {x}", "of={f}"),
        ("tee  {x}", "{f}"),
        ("install  -m  644  {d}/a  {x}", "{f}"),
        ("sort  -o  {x}  {d}/a", "{f}"),
        ("find  {d}/a  -fprint  {x}", "{f}"),
        ("openssl  rand  -out  {x}  1", "{f}"),
        ("sqlite3  {x}  create table t(x)", "{f}"),
    )
)
"""Run for real where the program is."""

ABSENT: Final = tuple(
    _vector(*pair)
    for pair in (
        ("mysql  -e  {x}", "\\! touch {f}"),
        ("mysql  --execute={x}", "\\! touch {f}"),
        ("pwsh  -c  {x}", "touch {f}"),
        ("ansible  all  -m  ping  -e  {x}", "{{ lookup('pipe', 'touch {f}') }}"),
        ("ansible  {x}  -m  ping", "all,"),
        ("rsync  -e  {x}  a  host.invalid:", "touch {f}"),
        ("rsync  {x}  host.invalid:", "-e touch {f}"),
        ("tcpdump  -r  x  -w  y  -z  {x}", "{d}/evil"),
        ("busybox  {x}", "reboot"),
        ("man  -P  {x}  ls", "touch {f}"),
        ("systemd-run  --wait  {x}", "{d}/evil"),
        ("systemctl  restart  {x}", "checkout --root=/tmp"),
        ("docker  exec  checkout  {x}", "reboot"),
        ("helm  upgrade  --post-renderer={x}  a  b", "{d}/evil"),
        ("terraform  apply  -var=name={x}", "$(touch {f})"),
        ("emacs  --batch  --eval={x}", '(shell-command "touch {f}")'),
        ("redis-cli  eval  {x}  0", "os.execute('touch {f}')"),
        ("nmap  --script={x}  host.invalid", "{d}/evil.nse"),
        ("7z  a  {x}", "@{d}/list"),
        ("powershell  -Command  {x}", "touch {f}"),
        ("salt  *  cmd.run  {x}", "touch {f}"),
        ("nomad  exec  {x}", "reboot"),
        ("lua  -e  {x}", "os.execute('touch {f}')"),
        ("ruby  -e  {x}", "`touch {f}`"),
        ("php  -r  {x}", "system('touch {f}');"),
    )
)
"""Of programs that the tests cannot count on: only checked, with a program of that name that does
nothing."""


def furnish(d: Path, canary: Path, *, library: bool = False) -> None:
    """Make in *d* all that the vectors name; the library only when it is asked for."""
    touch = f"touch {canary}\n"
    scripts = {
        "evil": f"#!/bin/sh\ncat >/dev/null 2>&1 </dev/null\n{touch}", "evil.sh": touch,
        "bin/heal": f"#!/bin/sh\n/usr/bin/{touch}", "parts/evil": f"#!/bin/sh\n{touch}",
    }  # fmt: skip
    texts = {
        "Makefile": "all:\n\t@echo $(VAR)\n", "evil.mk": f"all:\n\t@{touch}",
        "evil.py": f"open({str(canary)!r}, 'w')\n",
        "evil.js": f"require('fs').writeFileSync({str(canary)!r}, '')\n",
        "evil.tcl": f"exec {touch}", "evil.cmake": f"execute_process(COMMAND {touch.strip()})\n",
        "evil.ninja": f"rule r\n  command = {touch}build all: r\n",
        "evil.args": f"-wrapper {d}/evil -c {d}/a.c -o /dev/null\n",
        "evil.c": "#include <fcntl.h>\n__attribute__((constructor)) static void evil(void)"
                  f'{{ open("{canary}", O_CREAT | O_WRONLY, 0644); }}\n',
        "ssh_config": f"ProxyCommand {touch}", "curlrc": f"url=file:///etc/hostname\noutput={canary}\n",
        "evil.sql": f"\\! {touch}", "a": "a\n", "a.c": "int a;\n",
        "kubeconfig": f"""\
apiVersion: v1
kind: Config
current-context: x
contexts: [{{name: x, context: {{cluster: x, user: x}}}}]
clusters: [{{name: x, cluster: {{server: "https://127.0.0.1:1"}}}}]
users:
- name: x
  user:
    exec: {{apiVersion: client.authentication.k8s.io/v1, command: {d}/evil, interactiveMode: Never}}
""",
    }  # fmt: skip
    for name, text in (scripts | texts).items():
        path = d / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name in scripts else 0o644)
    (d / "out").mkdir()
    subprocess.run(["tar", "-cf", d / "a.tar", "-C", d, "a"], check=True)
    if library and shutil.which("gcc"):
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", d / "evil.so", d / "evil.c"], check=True)
