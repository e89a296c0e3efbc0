"""A preload for zygotes under test: its sessions do what the test sends down the mailbox, as Python text.

The zygote and the keepers are the real ones; only the session process behind them is scripted.
"""

import os
from typing import NoReturn

from procession.agent_proc import session

SCRIPT_BYTES_MAX = 65536


def scripted(mail_r: int, mail_w: int, page_fd: int, arena_in_fd: int, arena_out_fd: int, host_pidfd: int) -> NoReturn:
    """Run one script; `say(text)` answers the test."""

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
    }
    exec(os.read(mail_r, SCRIPT_BYTES_MAX), names)
    os._exit(0)


session.session_main = scripted
