"""The way in: `main()` reads the command line, runs a verb, and turns whatever ended it into a line and an exit code.

Rules: an error is one readable line on stderr and a hint, never a traceback (`--debug` shows it); whatever the verb did,
the exit code is its table's.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from procession.api.cli import exit_codes
from procession.api.cli.output import complain, let_go_of
from procession.api.cli.words import complain_of
from procession.ipc.core.errors import ProcessionError

#: What only writing ends with; our own files say their names, or come as errors of ours.
_WRITING_FAILED: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def main() -> NoReturn:
    """Run the command line of this process and exit with its code."""
    _open_standard_streams()
    argv = sys.argv[1:]
    code = run(argv)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or exit_codes.BROKEN_PIPE
    except OSError as problem:
        failed = _stdout_failed(problem, exit_codes.kind_of(first_word(argv)))
        code = code or failed
    if code == exit_codes.BROKEN_PIPE:
        let_go_of(1)
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run one command line; return its exit code. Only SystemExit of completion scripts passes through."""
    words = list(argv)
    verb = first_word(words)
    kind = exit_codes.kind_of(verb)
    try:
        result = _carry_out(words)
    except ProcessionError as error:
        _show_traceback(words)
        complain_of(error)
        return exit_codes.for_error(error, kind)
    except KeyboardInterrupt as interrupt:
        for note in getattr(interrupt, "__notes__", ["interrupted"]):
            complain(note.removeprefix("procession: "))
        return exit_codes.SIGNAL_BASE + getattr(interrupt, "number", signal.SIGINT)
    except BrokenPipeError:
        return exit_codes.BROKEN_PIPE
    except Exception as problem:  # noqa: BLE001 - the one place that turns what nobody expected into a line
        return _unexpected(problem, words, verb, kind)
    return result if isinstance(result, int) else exit_codes.OK


def _carry_out(words: list[str]) -> object:
    """Run the verb, with typer to read the command line unless it is a plain `run`."""
    if words[:1] == ["run"]:
        from procession.api.cli.run_file import read_plainly, run_file

        plainly = read_plainly(words[1:])
        if plainly is not None:
            return run_file(plainly.file, plainly.args, **plainly.given)
    from procession.api.cli.app import build

    return build(words)(args=words, prog_name="procession", standalone_mode=False)


def first_word(words: Sequence[str]) -> str:
    """Return the first argument that is no option: the verb, or nothing."""
    return next((word for word in words if not word.startswith("-")), "")


def _unexpected(problem: Exception, words: list[str], verb: str, kind: exit_codes.Kind) -> int:
    """Answer typer's own errors as what they are, a wrong command line, and everything else as a fault of ours."""
    tell = getattr(problem, "format_message", None)
    if callable(tell) and hasattr(problem, "exit_code"):
        from procession.api.cli.app import VERBS

        text = str(tell())
        if text:  # empty: no arguments at all, and the help has been shown
            complain(text[0].lower() + text[1:], f"see `procession {verb + ' ' if verb in VERBS else ''}--help`")
        return exit_codes.usage_code(kind)
    if type(problem).__name__ == "Abort":  # end of input at a question
        return exit_codes.INTERRUPTED
    if isinstance(problem, UnicodeEncodeError):  # half a character, as a word that is not UTF-8 holds
        complain(f"not UTF-8: {problem.object[max(0, problem.start - 20) : problem.start + 20]!r}")
        return exit_codes.usage_code(kind)
    if isinstance(problem, OSError) and problem.filename is None and problem.errno in _WRITING_FAILED:
        return _stdout_failed(problem, kind)
    _show_traceback(words)
    where = "" if not isinstance(problem, OSError) or problem.filename is None else f" ({problem.filename})"
    text = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    complain(f"{type(problem).__name__}: {text}{where}", "`procession --debug …` shows where")
    return exit_codes.OURS if kind == "program" else exit_codes.FAILED


def _show_traceback(words: list[str]) -> None:
    """Print the traceback of what is being handled if `--debug` was given before the verb."""
    verb = first_word(words)
    before = words[: words.index(verb)] if verb else words
    if "--debug" in before:
        import traceback

        traceback.print_exc()


def _open_standard_streams() -> None:
    """Give descriptors 0, 1 and 2 that were closed to nobody, so that no pipe of ours comes to lie there."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: fd itself
            setattr(sys, name, open(fd, mode, closefd=False, encoding="utf-8"))  # noqa: SIM115 - until we exit


def _stdout_failed(problem: OSError, kind: exit_codes.Kind) -> int:
    complain(f"standard output cannot be written: {problem.strerror or problem}")
    let_go_of(1)
    return exit_codes.OURS if kind == "program" else exit_codes.FAILED
