"""A preload for zygotes under test: its sessions do what the test sends down the mailbox, as Python text.

The zygote and the keepers are the real ones; only the session process behind them is scripted.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from procession.agent_proc import session, sysapi

SCRIPT_BYTES_MAX = 65536


def prepare(
    mail_r: int,
    mail_w: int,
    page_fd: int,
    arena_in_fd: int,
    arena_out_fd: int,
    host_pidfd: int,
    child_signals: int,
    presence: int = -1,
) -> Callable[[], NoReturn]:
    """Return what runs one script; `say(text)` answers the test."""
    return partial(scripted, mail_r, mail_w, page_fd, arena_in_fd, arena_out_fd, host_pidfd, child_signals)


def scripted(
    mail_r: int,
    mail_w: int,
    page_fd: int,
    arena_in_fd: int,
    arena_out_fd: int,
    host_pidfd: int,
    child_signals: int,
) -> NoReturn:
    sysapi.unblock_all_signals()

    def say(text: object) -> None:
        os.write(mail_w, f"{text}\n".encode())

    names = {
        "say": say,
        "mail_r": mail_r,
        "mail_w": mail_w,
        "page_fd": page_fd,
        "arena_in_fd": arena_in_fd,
        "arena_out_fd": arena_out_fd,
        "host_pidfd": host_pidfd,
        "child_signals": child_signals,
    }
    exec(os.read(mail_r, SCRIPT_BYTES_MAX), names)
    os._exit(0)


session.prepare = prepare
