"""A preload that makes session processes misbehave on order: what no user code can do there, a bug of ours could.

Loaded by a zygote (`preload=["helpers.session_faults"]`), never by a test. A test writes an order into the session's
folder: `boot-fault` is obeyed while the session boots, `fault` when it is asked for its modules.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from procession.agent_proc import session, session_ops
from procession.agent_proc.context import Context
from procession.ipc.core.messages import Boot, Call, Notice
from procession.ipc.core.operations import Nothing

BOOT_FAULT = "boot-fault"
FAULT = "fault"
NOTICES_A_TURN = 200
FLOOD_PERIOD_S = 0.0005

_begin = session.Session._begin
_modules = session_ops.Operations._modules


def _die(how: str) -> None:
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "exit 0":
            os._exit(0)
        case "exit 3":
            os._exit(3)
        case "sys.exit":
            sys.exit("leaving")
        case "raise":
            raise SystemError("a bug that nobody catches")
        case "SIGKILL" | "SIGTERM":
            os.kill(os.getpid(), signal.Signals[how])
            signal.pause()
        case "spin":
            while True:
                pass
        case "hold the lock":
            sum(range(1 << 60))  # one call into C that never lets go
        case "sleep":
            time.sleep(3600)  # payload: a session that hangs
        case _:
            raise ValueError(how)


def _order(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _begin_or_fail(self: session.Session, boot: Boot) -> session_ops.Operations:
    os.chdir(boot.cwd)
    if order := _order(BOOT_FAULT):
        print(f"booting into: {order}", file=sys.stderr, flush=True)
        _die(order)
    return _begin(self, boot)


def _modules_or_fail(self: session_ops.Operations, call: Call, _body: Nothing) -> None:
    order = _order(FAULT)
    context = self._context
    if not order:
        _modules(self, call, _body)
    elif order == "leave":  # as one that has finished: answered first, then gone
        _modules(self, call, _body)
        context.loop.after(0.01, lambda: os._exit(0))
    elif (
        order == "leave unread"
    ):  # the same, but the test can put calls into its mailbox before: it is stopped meanwhile
        _modules(self, call, _body)
        context.loop.after(0.01, _stop_and_leave)
    elif order == "notices":
        _modules(self, call, _body)
        context.loop.after(FLOOD_PERIOD_S, lambda: _flood(context))
    else:
        print(f"last words before: {order}", file=sys.stderr, flush=True)
        try:
            _die(order)
        except BaseException:  # the session answers a bug and lives; here it is to die of it
            sys.excepthook(*sys.exc_info())
            os._exit(1)


def _stop_and_leave() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)


def _flood(context: Context) -> None:
    """Send notices for ever, as many as the pipe takes."""
    if not context.connection.wants_write:
        for number in range(NOTICES_A_TURN):
            context.send(Notice(context.incarnation, "flood", f"notice {number} " + "x" * 200))
    context.loop.after(FLOOD_PERIOD_S, lambda: _flood(context))


session.Session._begin = _begin_or_fail  # type: ignore[method-assign]
session_ops.Operations._modules = _modules_or_fail  # type: ignore[method-assign]
