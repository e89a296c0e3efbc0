"""exec: a command in the project's folder, run to its end; and how every tool runs one.

It is *not* what ends a command: processes that it leaves behind end with the worker, as everything that takes too long
does. Rules: the command reads nothing; of each output the last part is kept and the rest counted; its end is the end of
the process that was started, whoever still holds its output open.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

from procession.agent_proc.agent.record.reasons import shown
from procession.agent_proc.core.ring import Ring
from procession.agent_proc.tools.confined import Root
from procession.agent_proc.tools.refusals import refuse
from procession.agent_proc.tools.work import Work
from procession.ipc.core.bounds import READ_BYTES, KiB

OUTPUT_BYTES_MAX: Final = 256 * KiB
"""Of each output; the end of it says how a build or a test went."""


def run_exec(work: Work, command: str | Sequence[str], cwd: str, env: Mapping[str, str] | None) -> dict[str, Any]:
    """Run a command: words as they are, a text by `sh -c`. Raises InvalidRequest for what cannot be started."""
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    place = work.place(cwd)
    with work.open_root() as root:
        return run(root, place.parts, argv, {**os.environ, **_checked(env or {})})


def run(root: Root, cwd: Sequence[str], argv: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """Run a command in a folder of the project, and return its exit code (-N: ended by signal N) and outputs.

    *_dropped: how many bytes came before those that are kept.

    Raises InvalidRequest: command_not_found, not_executable, empty_command, null_byte, and what is wrong with the folder.
    """
    if any("\0" in text for text in (*argv, *env, *env.values())):
        raise refuse("null_byte", "a command and its environment hold no NUL characters")
    if not argv[0]:
        raise refuse("empty_command", "a command needs a name")
    folder = root.open_folder(cwd)
    place = f"/proc/self/fd/{folder}"  # in the child it is still open when the child goes there
    try:
        process = subprocess.Popen(
            argv,
            cwd=place,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
    except UnicodeEncodeError:
        raise refuse("invalid_text", "a command and its environment hold no lone surrogates") from None
    except OSError as error:
        raise _not_started(argv[0], place, error) from None
    finally:
        os.close(folder)
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = _outputs(process, process.stdout.fileno(), process.stderr.fileno())
        exit_code = process.wait()
    return {
        "exit_code": exit_code,
        "stdout": _text(out),
        "stderr": _text(err),
        "stdout_dropped": out.dropped,
        "stderr_dropped": err.dropped,
    }


def _checked(env: Mapping[str, str]) -> Mapping[str, str]:
    if any(not name or "=" in name for name in env):
        raise refuse("bad_variable", "the name of an environment variable is not empty and holds no '='")
    return env


def _not_started(name: str, cwd: str, error: OSError) -> Exception:
    """Return the refusal for what could not be started; what is not about the command stays the error it is."""
    number = error.errno or 0
    if error.filename == cwd and number in (errno.EACCES, errno.EPERM):
        return refuse("permission_denied", "the folder to run in may not be entered by this process")
    if number in (errno.ENOENT, errno.ENOTDIR):
        hint = "give its path as it is seen from `cwd`" if "/" in name else "is it installed, and on PATH?"
        return refuse("command_not_found", f"there is no command {shown(name)}", hint)
    if number in (errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR):
        return refuse("not_executable", f"{shown(name)} cannot be executed: {os.strerror(number)}")
    if number == errno.E2BIG:
        return refuse("command_too_long", "the command and its environment are longer than the system takes")
    return error


def _outputs(process: subprocess.Popen[bytes], out: int, err: int) -> tuple[Ring, Ring]:
    """Read both outputs until they are closed, or the process has ended and what it wrote until then is read."""
    rings = {out: Ring(OUTPUT_BYTES_MAX), err: Ring(OUTPUT_BYTES_MAX)}
    ended = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        for fd in (*rings, ended):
            poller.register(fd, select.POLLIN)
        still_open = set(rings)
        while still_open:
            ready = {fd for fd, _ in poller.poll()}
            if ended in ready:
                for fd in still_open:
                    _read_rest(fd, rings[fd])
                break
            for fd in ready:
                data = os.read(fd, READ_BYTES)
                rings[fd].append(data)
                if not data:
                    poller.unregister(fd)
                    still_open.remove(fd)
    finally:
        os.close(ended)
    return rings[out], rings[err]


def _read_rest(fd: int, ring: Ring) -> None:
    """Read what is in a pipe now: no more than it holds, since others may go on writing to it."""
    os.set_blocking(fd, False)
    left = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    while left > 0:
        try:
            data = os.read(fd, min(left, READ_BYTES))
        except BlockingIOError:
            return
        if not data:
            return
        ring.append(data)
        left -= len(data)


def _text(ring: Ring) -> str:
    return ring.content().decode("utf-8", "replace")
