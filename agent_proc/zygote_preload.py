"""What a zygote imports before it forks anything: our own modules, then the user's `preload`.

It is *not* a sandbox: a preload is trusted code. But a fork copies one thread only, so a module that starts Python
threads is refused by name, and native pools are told to have one thread before anything can read those variables.

Rule: whatever a module does at import, the answer is a list of what is loaded or one PreloadFailed that names it.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Final

from procession.ipc.core.bounds import TRACEBACK_CHARS_MAX
from procession.ipc.core.loading import loading

#: All that a session process and its workers run, so that nothing is imported after the fork.
_OURS: Final = (
    "procession.agent_proc.session",
    "procession.agent_proc.worker",
    "procession.agent_proc.interpreter",
    "cloudpickle",
    "pickle",
    "traceback",
    "random",
)
#: Read once, when the library is loaded. One thread: a pool's threads would not be there in the copy.
_POOL_VARIABLES: Final = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
#: Their pools are rebuilt by pthread_atfork in the copy.
_FORK_SAFE: Final = frozenset({"numpy", "scipy"})


class PreloadFailed(Exception):
    """A module that this zygote cannot serve with. phase: `import` or `threads`."""

    def __init__(self, phase: str, module: str, text: str) -> None:
        super().__init__(f"{module}: {text}")
        self.phase = phase
        self.module = module
        self.text = text


def count_tasks() -> int:
    """Return the number of threads the kernel knows of in this process."""
    return os.stat("/proc/self/task").st_nlink - 2  # proc counts a folder's subfolders as links: no need to list them


def python_threads() -> list[str]:
    """Return the names of the Python threads beside this one, those that `threading` does not know included."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    me = threading.get_ident()
    return [names.get(ident, f"thread {ident}") for ident in sys._current_frames() if ident != me]


def preload(modules: Sequence[str]) -> int:
    """Import ours and then `modules`; return the number of kernel threads that are there and known to be harmless.

    Raises PreloadFailed for the first module that fails or starts threads.
    """
    for name in _POOL_VARIABLES:
        os.environ[name] = "1"
    tasks = count_tasks()
    for module in (*_OURS, *modules):
        try:
            with loading(module):
                importlib.import_module(module)
        except BaseException as problem:  # a module may raise SystemExit or worse
            text = "".join(traceback.format_exception(problem))
            raise PreloadFailed("import", module, text[-TRACEBACK_CHARS_MAX:]) from None
        threads = python_threads()
        if threads:
            raise PreloadFailed("threads", module, ", ".join(threads))
        now = count_tasks()
        if now > tasks and module.partition(".")[0] not in _FORK_SAFE:
            raise PreloadFailed("threads", module, f"{now - tasks} native threads")
        tasks = now
    return tasks
