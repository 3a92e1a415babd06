"""A program in a mount namespace and a control group of its own, as root, and all that it starts.

Init systems and container engines take /run and the control groups for theirs. Here they get new
ones that nobody else sees, and nothing of it outlives the block, however it is left.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

# $1 is the group's name; the rest is run in it. What waits outside the group ends it: at the end of
# its input, which comes when the test says so, and when the test dies.
_OUTSIDE = """
set -eu
mount -t tmpfs none /run
mkdir -p /run/groups /run/systemd/system /run/user/0
chmod 700 /run/user/0
mount -t cgroup2 none /run/groups
group=/run/groups/$1
shift
mkdir "$group"
sh -c "$INSIDE" "$group" "$@" </dev/null &
cat >/dev/null
echo 1 >"$group/cgroup.kill"
for _ in $(seq 100); do
  find "$group" -depth -type d -exec rmdir {} ';' 2>/dev/null
  [ -e "$group" ] || exit 0
  sleep 0.1
done
exit 1
"""
_INSIDE = """
set -eu
echo $$ >"$0/cgroup.procs"
exec unshare --cgroup sh -c '
  mount -t cgroup2 none /sys/fs/cgroup
  exec "$@"' sh "$@"
"""


@contextmanager
def apart(argv: list[str], log: Path, env: Mapping[str, str]) -> Iterator[list[str]]:
    """Run *argv* apart; give the words that, before an argv, run it in the same mounts.

    Skips the test where that is not allowed: for all but root, and in most containers.
    """
    if os.geteuid() or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("a mount namespace of one's own needs root")
    with log.open("ab") as out:
        popen = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", _OUTSIDE, "sh", f"promheal-{uuid.uuid4()}", *argv],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env={**env, "INSIDE": _INSIDE},
            start_new_session=True,
        )
    try:
        yield ["nsenter", f"--target={popen.pid}", "--mount", "--"]
    finally:
        assert popen.stdin is not None
        popen.stdin.close()
        assert popen.wait(30) == 0, f"something of it lives on, see {log}"
