"""Does deploy/debian-tools find what a release has, in each release's way of having it?

apt is the real one, with a mirror of packages that are made here.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.tools import REPOSITORY

SCRIPT = REPOSITORY / "deploy/debian-tools"
PROGRAM = "#!/bin/sh\necho I am the real one\n"
SYSTEM = platform.freedesktop_os_release()
CONFIGURATION = """\
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{folder}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{folder}/cache";
"""


class Mirror:
    """Of a release that has the packages that were added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dest = folder / "tools"
        self._packages = folder / "mirror"
        for name in ("mirror", "lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "sources.list").write_text(f"deb [trusted=yes] copy:{self._packages} ./\n")
        (folder / "apt.conf").write_text(CONFIGURATION.format(folder=folder))
        (self._packages / "Packages").touch()

    def add(self, name: str, *, files: Mapping[str, str] = {}, depends: str = "") -> None:
        """A package with files, by their paths; what is no program is a link's target."""
        tree = self.folder / "trees" / name
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += "Description: for a test\n"
        (tree / "DEBIAN/control").write_text(control)
        for path, content in files.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if content == PROGRAM:
                file.write_text(content)
                file.chmod(0o755)
            else:
                file.symlink_to(content)
        package = self._packages / f"{name}_1.0_all.deb"
        argv = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(package)]
        subprocess.run(argv, check=True, capture_output=True)
        with (self._packages / "Packages").open("a") as index:
            digest = hashlib.sha256(package.read_bytes()).hexdigest()
            index.write(f"{control}Filename: ./{package.name}\n")
            index.write(f"Size: {package.stat().st_size}\nSHA256: {digest}\n\n")

    def publish(self, *codenames: str) -> None:
        """As the machine's distribution does, but unsigned; of the first the machine's sources say
        that it is to be trusted all the same.
        """
        argv = ["dpkg", "--print-architecture"]
        machine = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
        path = f"main/binary-{machine}/Packages"
        packages = (self._packages / "Packages").read_bytes()
        entry = f"{hashlib.sha256(packages).hexdigest()} {len(packages)} {path}"
        for codename in codenames:
            index = self._packages / "dists" / codename / path
            index.parent.mkdir(parents=True)
            index.write_bytes(packages)
            (self._packages / "dists" / codename / "Release").write_text(
                f"Origin: {SYSTEM['ID'].title()}\nSuite: {codename}\nCodename: {codename}\n"
                f"Architectures: {machine}\nComponents: main\nSHA256:\n {entry}\n"
            )
        (self.folder / "sources.list").write_text(
            f"deb [trusted=yes] copy:{self._packages} {codenames[0]} main\n"
        )

    def fetch(self, *packages: str, path: str = os.defpath) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", SCRIPT, self.dest, *packages],
            env={"APT_CONFIG": str(self.folder / "apt.conf"), "PATH": path, "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )

    def ran(self, program: str) -> str:
        """What the program says that was put where users look."""
        argv = [self.dest / "usr/bin" / program]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path)


@pytest.mark.parametrize(
    ("package", "program", "files"),
    [
        # Debian 12 and Ubuntu 22.04; Debian 13; both, in Ubuntu 24.04's words
        ("iproute2", "ip", {"bin/ip": PROGRAM, "sbin/ip": "/bin/ip"}),
        ("iproute2", "ip", {"usr/bin/ip": PROGRAM, "usr/sbin/ip": "../bin/ip"}),
        ("iproute2", "ip", {"usr/bin/ip": PROGRAM, "bin/ip": "../usr/bin/ip"}),
        ("nftables", "nft", {"usr/sbin/nft": PROGRAM}),
        ("nftables", "nft", {"sbin/nft": PROGRAM}),
        (
            "systemd",
            "systemd-analyze",
            {"usr/bin/systemd-analyze": PROGRAM, "usr/bin/systemctl": PROGRAM},
        ),
        (
            "systemd",
            "systemd-analyze",
            {"bin/systemd-analyze": PROGRAM, "bin/systemctl": PROGRAM},
        ),
    ],
)
def test_a_program_is_found_wherever_the_release_has_it(
    mirror: Mirror, package: str, program: str, files: dict[str, str]
) -> None:
    mirror.add(package, files=files)
    done = mirror.fetch(package)
    assert done.returncode == 0, done.stderr
    assert mirror.ran(program) == "I am the real one"


@pytest.mark.parametrize("version", [14, 15, 17, 18])
def test_postgresql_is_the_one_of_the_release(mirror: Mirror, version: int) -> None:
    where = f"usr/lib/postgresql/{version}/bin/postgres"
    mirror.add("postgresql-common")
    mirror.add("postgresql", depends=f"postgresql-common, postgresql-{version}")
    mirror.add(f"postgresql-{version}", files={where: PROGRAM}, depends="postgresql-common")
    done = mirror.fetch("postgresql")
    assert done.returncode == 0, done.stderr
    assert (mirror.dest / where).exists()
    assert mirror.fetch("postgresql").stderr == "", "it is there already"


def test_what_a_release_lacks_is_said_and_gone_without(mirror: Mirror) -> None:
    mirror.add("jq", files={"usr/bin/jq": PROGRAM})
    done = mirror.fetch("chromium-headless-shell?", "jq")
    assert done.returncode == 0, done.stderr
    assert "no package 'chromium-headless-shell'" in done.stderr
    assert mirror.ran("jq") == "I am the real one"
    absent = mirror.dest / ".absent/chromium-headless-shell"
    assert "no package 'chromium-headless-shell'" in absent.read_text()

    mirror.add("chromium-headless-shell", files={"usr/bin/chromium-headless-shell": PROGRAM})
    assert mirror.fetch("chromium-headless-shell?", "jq").returncode == 0
    assert not absent.exists()


def test_what_is_needed_and_lacking_is_an_error(mirror: Mirror) -> None:
    done = mirror.fetch("prometheus")
    assert done.returncode == 1
    assert "no mirror" in done.stderr
    assert "'prometheus'" in done.stderr


def test_a_program_that_is_there_is_not_fetched(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add("prometheus", files={"usr/bin/prometheus": PROGRAM, "usr/bin/promtool": PROGRAM})
    mirror.add("promtool", files={"usr/bin/promtool": PROGRAM})
    mirror.add("left-pad", files={"usr/bin/left-pad": PROGRAM})
    here = tmp_path / "bin"
    here.mkdir()
    (here / "left-pad").write_text(PROGRAM)
    (here / "left-pad").chmod(0o755)

    argv = ("prometheus", "promtool:promtool", "left-pad:left-pad")
    assert mirror.fetch(*argv, path=f"{here}:{os.defpath}").returncode == 0
    assert [file.name for file in (mirror.dest / ".packages").iterdir()] == ["prometheus"]
    assert mirror.fetch(*argv).returncode == 0
    assert (mirror.dest / ".packages/left-pad").exists()


@pytest.mark.parametrize("name", ["../x", "-o", "a b", "", "x:", "?", "A"])
def test_what_is_no_name_is_refused(mirror: Mirror, name: str) -> None:
    done = mirror.fetch("jq", name)
    assert done.returncode == 1
    assert f"'{name}' is not the name of a Debian package" in done.stderr


# --- the other generation -------------------------------------------------------------------------


@pytest.fixture
def beside(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """deploy/upstreams, on a machine whose sources name the folder *mirror*."""

    def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", REPOSITORY / "deploy/upstreams", *argv],
            env={"APT_CONFIG": str(tmp_path / "apt.conf"), "PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_where_no_generation_can_be_had_the_reason_is_left(
    mirror: Mirror, tmp_path: Path, beside: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    mirror.add("prometheus", files={"usr/bin/prometheus": PROGRAM})
    done = beside("new", tmp_path / "new")
    assert done.returncode == 1
    assert "upstreams: no new Prometheus and Alertmanager: the machine" in done.stderr
    assert "sources have no mirror of" in (tmp_path / "new/absent").read_text()
    assert not (tmp_path / "new/ready").exists()


def test_the_other_release_must_be_signed_by_the_distribution(
    mirror: Mirror, tmp_path: Path, beside: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The machine trusts its mirror as it is; that is no reason to trust what else it has."""
    keys = {"debian": "debian-archive-keyring", "ubuntu": "ubuntu-keyring"}[SYSTEM["ID"]]
    keyring = f"/usr/share/keyrings/{SYSTEM['ID']}-archive-keyring.gpg"
    mirror.add(keys, files={keyring.lstrip("/"): keyring})
    mirror.add("prometheus", files={"usr/bin/prometheus": PROGRAM, "usr/bin/promtool": PROGRAM})
    mirror.add("prometheus-alertmanager", files={"usr/bin/prometheus-alertmanager": PROGRAM})
    other = {"debian": "testing", "ubuntu": "devel"}[SYSTEM["ID"]]
    mirror.publish(SYSTEM["VERSION_CODENAME"], other)

    done = beside("new", tmp_path / "new")
    assert done.returncode == 1, done.stderr
    absent = (tmp_path / "new/absent").read_text()
    assert f"package lists of {other} at copy:{tmp_path}/mirror" in absent
    assert "not signed" in absent
    assert not (tmp_path / "new/usr/bin/prometheus").exists()


def test_there_are_two_generations(
    beside: Callable[..., subprocess.CompletedProcess[str]], mirror: Mirror
) -> None:
    for argv in ([], ["newest"], ["../x"]):
        done = beside(*argv)
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage" in done.stderr
