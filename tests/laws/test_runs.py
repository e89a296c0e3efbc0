"""The helpers that run interpreters do what they say: a fresh one, somebody else's ids, our package on the path."""

import json
import os
import subprocess

import pytest

from helpers.runs import UNUSED_ID, User, run_python

WHO = "import json, os, procession; print(json.dumps([os.getuid(), os.getgid(), os.getgroups(), os.environ['HOME']]))"

pytestmark = pytest.mark.process


def test_a_fresh_interpreter_imports_procession() -> None:
    done = run_python("import sys, procession; print(procession.__version__, sys.argv[1:])", args=("a", "b"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("['a', 'b']\n")


def test_a_plain_user_imports_procession_and_owns_a_home(plain_user: User) -> None:
    done = run_python(WHO, user=plain_user)
    assert done.returncode == 0, done.stderr
    uid, gid, groups, home = json.loads(done.stdout)
    assert uid == plain_user.uid != 0
    assert gid == plain_user.gid
    if os.getuid() == 0:
        assert (uid, groups, home) == (UNUSED_ID, [], str(plain_user.home))
    written = run_python("import os, pathlib; pathlib.Path.home().joinpath('x').touch()", user=plain_user)
    assert written.returncode == 0 or os.getuid() != 0, written.stderr


def test_a_run_past_its_timeout_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_python("import threading; threading.Event().wait()", timeout=0.5)
