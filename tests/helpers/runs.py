"""Run a fresh interpreter that can import procession, as this user or as a plain one.

A subprocess, not a mock: what is asked of an interpreter at import, at exit, or as somebody else can only be seen from
outside. Skips, with the reason, where this machine cannot show it.
"""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.proc import MARK_VARIABLE

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src"
UNUSED_ID = 64123  # a uid and gid that no distribution gives out; setuid needs no account
SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")


@dataclass(frozen=True)
class User:
    """A user to run as: ids, and a home folder that is theirs."""

    uid: int
    gid: int
    home: Path

    @property
    def is_somebody_else(self) -> bool:
        """Say whether running as them means changing ids."""
        return self.uid != os.getuid()


@dataclass(frozen=True)
class Python:
    """An interpreter and the folders it needs to import procession."""

    executable: str
    import_path: str

    def environment(self, env: Mapping[str, str] | None, user: User | None) -> dict[str, str]:
        """Make the environment of a run: the caller's or `env`, with the import path and the leak guard's mark."""
        merged = dict(os.environ if env is None else env)
        merged["PYTHONPATH"] = os.pathsep.join(filter(None, [self.import_path, merged.get("PYTHONPATH", "")]))
        merged[MARK_VARIABLE] = os.environ[MARK_VARIABLE]
        if user is not None and user.is_somebody_else:
            merged["HOME"] = merged["TMPDIR"] = str(user.home)
            for name in [name for name in merged if name.startswith("XDG_")]:
                del merged[name]
        return merged


def run_python(
    code: str,
    *,
    timeout: float = 30.0,
    env: Mapping[str, str] | None = None,
    user: User | None = None,
    args: tuple[str, ...] = (),
    input: str | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter; its stdout, stderr and return code.

    Seconds; past them the interpreter is killed and subprocess.TimeoutExpired is raised. `env` replaces the
    environment; the import path and the leak guard's mark are added either way.
    """
    python = python_for(user)
    return subprocess.run(
        [python.executable, "-c", code, *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        input="" if input is None else input,
        env=python.environment(env, user),
        cwd=cwd or ("/" if user is not None else None),
        user=user.uid if user is not None and user.is_somebody_else else None,
        group=user.gid if user is not None and user.is_somebody_else else None,
        extra_groups=[] if user is not None and user.is_somebody_else else None,
    )


def python_for(user: User | None) -> Python:
    """Choose an interpreter that the user can execute, with readable folders; skip, saying why, when there is none."""
    packages = sysconfig.get_paths()["purelib"]
    own = Python(sys.executable, str(SOURCE))
    if user is None or not user.is_somebody_else:
        return own
    for folder in (SOURCE, Path(packages)):
        if not _others_can_reach(folder):
            pytest.skip(f"a plain user cannot read {folder.name}/ here: a folder above it is private")
    if _others_can_reach(Path(sys.executable).resolve()):
        return own
    for candidate in SYSTEM_PYTHONS:
        if _same_version(candidate):
            return Python(candidate, os.pathsep.join([str(SOURCE), packages]))
    pytest.skip("this interpreter lies in a private folder and the system has none of the same version")


def _others_can_reach(path: Path) -> bool:
    """Say whether every folder down to `path` lets any user through."""
    return all(place.stat().st_mode & 0o001 for place in [path, *path.parents] if place.is_dir() or place == path)


def _same_version(candidate: str) -> bool:
    """Say whether that interpreter can load this one's compiled packages."""
    if not Path(candidate).exists():
        return False
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    told = subprocess.run(
        [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        check=False,
        capture_output=True,
        text=True,
        timeout=10,
    )
    return told.returncode == 0 and told.stdout.strip() == wanted
