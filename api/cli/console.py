"""The lines of a terminal, made into cells for a session's interpreter: what `procession python ID` does interactively.

It is *not* an interpreter: nothing is compiled or run here, the session does that. Rule: a line that cannot be complete yet
asks for another one; an empty line ends a block.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from typing import Final

from procession.api.cli import exit_codes

PROMPT: Final = ">>> "
MORE: Final = "... "
#: Typed as a whole cell, these leave the prompt and are not run: what runs sys.exit() ends the interpreter and its names.
_LEAVING: Final = frozenset({"exit", "exit()", "quit", "quit()"})
#: What Python says of code that only needs more of it.
_UNFINISHED: Final = ("was never closed", "unterminated triple-quoted", "unexpected EOF", "expected an indented block")


def needs_more(code: str) -> bool:
    """Say whether `code` is the beginning of a statement rather than one that is whole or wrong."""
    if code.endswith("\n\n") or (code.endswith("\n") and not code.strip()):
        return False
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as problem:
        return any(words in str(problem) for words in _UNFINISHED)
    # A block at the end may go on: it ends with an empty line.
    return bool(tree.body) and hasattr(tree.body[-1], "body") and not code.endswith("\n")


def talk(run_cell: Callable[[str], tuple[int, bool]]) -> int:
    """Read cells from the terminal and run each until the input ends or one leaves; return the exit code of the last one.

    run_cell returns a cell's exit code and whether it leaves.
    """
    try:
        import readline  # noqa: F401 - importing it gives input() a history and line editing
    except ImportError:
        pass
    print("Ctrl-D or exit() leaves; Ctrl-C ends what runs. The names stay in the session.", file=sys.stderr)
    code, last = "", exit_codes.OK
    while True:
        try:
            line = input(MORE if code else PROMPT)
        except EOFError:
            print()
            return last
        except KeyboardInterrupt as interrupt:
            if type(interrupt) is not KeyboardInterrupt:  # a signal that ends us
                raise
            print("\n(given up)" if code else "")
            code = ""
            continue
        if not code and line.strip() in _LEAVING:
            return exit_codes.OK
        code = f"{code}\n{line}" if code else line
        if code.strip() and not needs_more(code if line else code + "\n"):
            last, leaves = run_cell(code)
            if leaves:
                return last
            code = ""
        elif not code.strip():
            code = ""
