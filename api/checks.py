"""Are the arguments of a call good? Checked here, before anything is sent, with an error that says what is wrong.

It is *not* the host's own checking: a client of another program may send anything. Rule: what passes is returned in the
one form the wire has; what does not is an InvalidRequest with a code, and nothing has been sent.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from procession.api.link import Tool
from procession.api.sandbox import Sandbox
from procession.ipc.core.bounds import STOP_GRACE_S, TIMEOUT_S_MAX
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.file_names import to_bytes
from procession.ipc.core.limits import Limits, parse_size
from procession.ipc.core.names import NAME_CHARS_MAX, name_problem
from procession.ipc.core.names import check_name as check_given_name
from procession.ipc.core.operations import DURABILITIES, Durability, Operation

if TYPE_CHECKING:
    from procession.ipc.core.messages import SessionDefaults

S = TypeVar("S")
Restart = Literal["permanent", "transient", "temporary"]

_RESTARTS: Final = ("permanent", "transient", "temporary")
_NO_LIMITS: Final = Limits()
#: A year: what is to stay longer has no idle timeout.
_IDLE_S_MAX: Final = 366 * 86_400.0
#: Sessions and runs at once are processes: beyond this a number is a typing error, not a wish.
_COUNT_MAX: Final = 100_000
#: Of a whole number that is shown: Python does not write one of thousands of digits at all.
_SHOWN_BITS: Final = 256
#: The largest whole number that every reader of a message holds.
_EVENT_NUMBER_MAX: Final = (1 << 63) - 1


def check_timeout(timeout: float | None, op: Operation) -> float | None:
    """Return `timeout` in seconds. None is good only for what has no deadline of its own (R: always finite)."""
    if timeout.__class__ is float or timeout.__class__ is int:
        if 0 < timeout <= TIMEOUT_S_MAX:  # NaN compares false, so it is refused here too
            return timeout
    elif timeout is None:
        if op.timeout_s is None:
            return None
        raise InvalidRequest(
            f"timeout: {op.name} always has a deadline; None is not one",
            code="invalid_timeout",
            hint=f"give seconds, at most {TIMEOUT_S_MAX:.0f}; the default is {op.timeout_s:g}",
        )
    raise InvalidRequest(
        f"timeout: must be seconds above zero and at most {TIMEOUT_S_MAX:.0f}, not {_shown(timeout)}",
        code="invalid_timeout",
    )


def check_idle_timeout(timeout: object) -> float | None:
    """Return after how many seconds without anything to do a session is stopped; None is never."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _IDLE_S_MAX:
        raise InvalidRequest(
            f"idle_timeout: must be seconds above zero and at most {_IDLE_S_MAX:.0f}, or None, not {_shown(timeout)}",
            code="invalid_timeout",
        )
    return float(timeout)


def check_hibernate_after(seconds: object, *, of_host: bool) -> float | None:
    """Return after how many seconds with nothing to do a process is given back; None is never, 0 what the host says."""
    if seconds is None or (seconds == "host" and not of_host):
        return None if seconds is None else 0.0
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= _IDLE_S_MAX:
        raise InvalidRequest(
            f"hibernate_after: must be seconds above zero and at most {_IDLE_S_MAX:.0f}, or None, not {_shown(seconds)}",
            code="invalid_timeout",
        )
    return float(seconds)


def check_recycle_above(size: object, *, of_host: bool) -> int | None:
    """Return above how many bytes of memory a process is replaced; None is never, 0 what the host says."""
    if size is None or (size == "host" and not of_host):
        return None if size is None else 0
    return parse_size(size, "recycle_above")  # type: ignore[arg-type]


def check_grace(grace: object) -> float:
    """Return how long to wait for an end that was asked for, in seconds; 0 is at once."""
    if grace is None:
        return STOP_GRACE_S
    if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace <= TIMEOUT_S_MAX:
        raise InvalidRequest(f"grace: must be seconds of at least zero, not {_shown(grace)}", code="invalid_timeout")
    return float(grace)


def check_partition(name: object) -> str:
    """Return the name of a partition."""
    if name_problem(name) is not None:
        raise InvalidRequest(
            f"partition: a name of 1 to {NAME_CHARS_MAX} characters is needed, not {_shown(name)}",
            code="invalid_partition",
        )
    assert isinstance(name, str)
    return name


def check_callable(fn: object) -> None:
    """Refuse what cannot be called."""
    if not callable(fn):
        raise InvalidRequest(
            f"a function is needed, not {_shown(fn)}",
            code="not_callable",
            hint="pass the function itself and its arguments after it: run(f, 1, 2)",
        )


def check_handler(name: str, fn: object) -> None:
    """Refuse what cannot be called with what comes."""
    if not callable(fn):
        raise InvalidRequest(
            f"{name}: a function is needed, which gets what comes piece by piece, not {_shown(fn)}", code="not_callable"
        )


def check_name(name: object) -> str:
    """Return a session's name, "" to have one chosen. Raises InvalidRequest: invalid_name, name_too_long."""
    return "" if name is None else check_given_name(name)


def check_session_id(given: object) -> str:
    """Return a session's id in its one spelling, a new one for None."""
    if given is None:
        return str(uuid.uuid4())
    try:
        return str(uuid.UUID(given if isinstance(given, str) else str(given)))
    except ValueError:
        raise InvalidRequest(f"session_id: a UUID, not {_shown(given)}", code="invalid_session_id") from None


def check_none(what: str, given: object, why: str, code: str = "invalid_request") -> None:
    """Refuse what does not go with the rest."""
    if given is not None:
        raise InvalidRequest(f"{what}: {why}", code=code)


def check_session(session: object) -> str:
    """Return an id or name of a session that a caller wants to reach."""
    if not isinstance(session, str) or not session:
        raise InvalidRequest(f"a session's id or name is needed, not {_shown(session)}", code="invalid_session")
    return _check_encodable("session", session)


def check_sessions(sessions: Iterable[S], kind: type[S]) -> list[S]:
    """Return the handles to wait for, each once."""
    try:
        found = list(dict.fromkeys(sessions))
    except TypeError:
        raise InvalidRequest(
            f"sessions: some handles of sessions are needed, not {_shown(sessions)}", code="invalid_session"
        ) from None
    for one in found:
        if not isinstance(one, kind):
            raise InvalidRequest(
                f"sessions: {kind.__name__} handles are needed, not {_shown(one)}", code="invalid_session"
            )
    return found


def check_project(project: str | os.PathLike[str] | None) -> str | None:
    """Return the project's folder as an absolute path; it must be there.

    Raises InvalidRequest: invalid_project_path, path_too_long, path_traversal_detected, path_not_found,
    path_not_directory.
    """
    if project is None:
        return None
    from procession.agent_proc.agent.record.project_path import path_to_look_at

    given = os.path.expanduser(_path("project", project, code="invalid_project_path"))
    path = path_to_look_at(os.path.join(os.getcwd(), given))
    if not os.path.exists(path):
        raise InvalidRequest(f"project: there is no {path}", code="path_not_found")
    if not os.path.isdir(path):
        raise InvalidRequest(f"project: {path} is not a folder", code="path_not_directory")
    return path


def check_import_paths(paths: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return folders to import from as absolute paths; each must be there."""
    if isinstance(paths, str | bytes | os.PathLike):
        raise InvalidRequest("import_paths: a list of folders, not one", code="invalid_request")
    folders = _each("import_paths", paths, "folders")
    found = tuple(os.path.abspath(os.path.expanduser(_path("import_paths", path))) for path in folders)
    for path in found:
        if not os.path.isdir(path):
            raise InvalidRequest(f"import_paths: {path} is not a folder", code="path_not_found")
    return found


def check_preload(modules: Iterable[str]) -> tuple[str, ...]:
    """Return names of modules to import once, in the zygote."""
    found = (modules,) if isinstance(modules, str) else _each("preload", modules, "names of modules")
    for name in found:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise InvalidRequest(f"preload: {_shown(name)} is not the name of a module", code="invalid_preload")
    return (modules,) if isinstance(modules, str) else tuple(map(str, found))


def check_limits(limits: object) -> Limits:
    """Return the limits of one run; unset ones are the session's."""
    if limits is None:
        return _NO_LIMITS
    if not isinstance(limits, Limits):
        raise InvalidRequest(
            f"limits: a Limits is needed, not {_shown(limits)}", code="invalid_limit", hint='Limits(memory="256M")'
        )
    return limits


def check_sandbox(sandbox: object) -> str:
    """Return the sandbox as the wire has it."""
    if not isinstance(sandbox, Sandbox):
        raise InvalidRequest(
            f"sandbox: a Sandbox is needed, not {_shown(sandbox)}", code="invalid_sandbox", hint="Sandbox.off()"
        )
    return sandbox.level


def check_restart(restart: object) -> Restart:
    """Return when a session that ended is started again."""
    if restart not in _RESTARTS:
        raise InvalidRequest(
            f"restart: must be one of {', '.join(_RESTARTS)}, not {_shown(restart)}", code="invalid_restart"
        )
    return restart


def check_count(name: str, value: object, least: int = 1, code: str = "invalid_request") -> int:
    """Return a whole number of things to have at once."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _COUNT_MAX:
        raise InvalidRequest(
            f"{name}: must be a whole number from {least} to {_COUNT_MAX}, not {_shown(value)}", code=code
        )
    return value


def check_count_or_none(name: str, value: object) -> int | None:
    """Return a whole number of things to give or to keep; None where it was left out."""
    return None if value is None else check_count(name, value, least=0)


def check_command(command: str | Sequence[str | os.PathLike[str]]) -> tuple[tuple[str, ...], bool]:
    """Return (argv, whether it is one text for `sh -c`)."""
    if isinstance(command, str):
        if not command.strip():
            raise InvalidRequest("command: it is empty", code="invalid_command")
        argv: tuple[str, ...] = (command,)
    else:
        try:
            argv = tuple(os.fspath(part) for part in command)
        except TypeError:
            raise InvalidRequest(
                f"command: a list of texts or one text for the shell is needed, not {_shown(command)}",
                code="invalid_command",
            ) from None
        if not argv or not all(isinstance(part, str) for part in argv) or not argv[0]:
            raise InvalidRequest("command: a list of texts is needed, the program first", code="invalid_command")
    if any("\0" in part for part in argv):
        raise InvalidRequest("command: a NUL cannot be part of it", code="invalid_command")
    for part in argv:
        if not _is_file_name(part):
            raise InvalidRequest(f"command: {_shown(part)} has no form in bytes", code="invalid_command")
    return argv, isinstance(command, str)


def check_cwd(cwd: str | os.PathLike[str] | None) -> str | None:
    """Return the folder to run in; a relative one starts at the project, which only the session knows."""
    if cwd is None:
        return None
    folder = _path("cwd", cwd, is_text=False)
    if not _is_file_name(folder):
        raise InvalidRequest(f"cwd: {_shown(folder)} has no form in bytes", code="path_not_found")
    return folder


def check_env(env: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return environment variables."""
    if env is None:
        return None
    if not isinstance(env, Mapping):
        raise InvalidRequest(f"env: a mapping of names to values is needed, not {_shown(env)}")
    found = dict(env)
    pairs: list[tuple[object, object]] = [*found.items()]
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidRequest(f"env: names and values are texts, not {_shown(name)}: {_shown(value)}")
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise InvalidRequest(f"env: {name!r} cannot be set like this")
        _check_encodable("env", name)
        _check_encodable(f"env: the value of {name}", value)
    return found


def check_input(data: str | bytes | bytearray | memoryview | None) -> bytes | None:
    """Return what goes to a command's standard input; text goes as UTF-8."""
    if data is None:
        return None
    if isinstance(data, str):
        return _check_encodable("input", data).encode()
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise InvalidRequest(f"input: text or bytes are needed, not {_shown(data)}")


def text_of_path(path: str | os.PathLike[str]) -> str:
    """Return a path as the text that it is; what is no path is the session's to refuse."""
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def check_text(name: str, value: object) -> str:
    """Return a text argument."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name}: a text is needed, not {_shown(value)}")
    return _check_encodable(name, value)


def check_since(since: object) -> int | None:
    """Return the number of the event after which to begin."""
    if since is None:
        return None
    if isinstance(since, bool) or not isinstance(since, int) or not 0 <= since <= _EVENT_NUMBER_MAX:
        raise InvalidRequest(
            f"since: the number of an event is needed, 0 for all that are kept, not {_shown(since)}",
            code="invalid_since",
        )
    return since


def check_data_dir(data_dir: str | os.PathLike[str] | None) -> str | None:
    """Return a host's folder as an absolute path; it need not be there."""
    if data_dir is None:
        return None
    if data_dir == "":
        hint = 'leave it out, or give "." for the current folder'
        raise InvalidRequest("data_dir: an empty path names no folder", code="invalid_data_dir", hint=hint)
    return os.path.abspath(os.path.expanduser(_path("data_dir", data_dir, code="invalid_data_dir")))


def _check_encodable(name: str, text: str) -> str:
    """Return a text that has a UTF-8 form; raises InvalidRequest (`not_encodable`) for half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        at = f"{_shown(text[problem.start])} at position {problem.start}"
        raise InvalidRequest(f"{name}: half a character, {at}, has no form in UTF-8", code="not_encodable") from None
    return text


def _is_file_name(text: str) -> bool:
    """Say whether the text, or what it shows of a name that is not UTF-8, has a form in bytes."""
    try:
        to_bytes(text)
    except UnicodeEncodeError:
        return False
    return True


def _path(name: str, value: str | os.PathLike[str], *, is_text: bool = True, code: str = "path_not_found") -> str:
    try:
        path: object = os.fspath(value)
    except TypeError:
        raise InvalidRequest(f"{name}: a path is needed, not {_shown(value)}", code=code) from None
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidRequest(f"{name}: {_shown(value)} is not a path", code=code)
    return _check_encodable(name, path) if is_text else path


def check_file(name: str, path: object) -> str:
    """Return a file's path as an absolute one; it need not be there. Raises InvalidRequest (invalid_path)."""
    return os.path.abspath(os.path.expanduser(_path(name, path, code="invalid_path")))  # type: ignore[arg-type]


def _each(name: str, values: Iterable[object], what: str) -> tuple[Any, ...]:
    try:
        return tuple(values)
    except TypeError:
        raise InvalidRequest(f"{name}: a list of {what} is needed, not {_shown(values)}") from None


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value) if isinstance(value, str | int | float | bool | bytes | None) else f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def check_tools(tools: Iterable[Tool]) -> Mapping[str, Tool]:
    """Return the program's own tools by name. Raises InvalidRequest: invalid_tool, invalid_tools, already_registered."""
    if isinstance(tools, tuple | list) and not tools:
        return {}
    from procession.api.own_tools import named  # loads pydantic, as whoever made a tool has

    return named(tools)


def check_tool_rates(rates: Mapping[str, int] | None) -> Mapping[str, int]:
    """Return how many calls of a tool a minute each tier has. Raises InvalidRequest: invalid_tier, invalid_rate_limit."""
    if rates is None:
        return {}
    if not isinstance(rates, Mapping):
        raise InvalidRequest(
            f"tool_rates: a mapping of tiers to calls a minute, not a {type(rates).__name__}", code="invalid_rate_limit"
        )
    from procession.host.core.tool_rates import check_rates

    return check_rates(rates)


def check_defaults(language: str | None, config: Mapping[str, object] | None) -> SessionDefaults:
    """Return what a host gives code sessions that say nothing themselves, () for the usual.

    Raises InvalidRequest with all codes: invalid_config, invalid_provider, invalid_model, invalid_temperature,
    invalid_max_tokens, invalid_language.
    """
    if language is None and config is None:
        return ()
    from dataclasses import asdict

    from procession.agent_proc.agent.record.config import defaults_of

    return tuple(asdict(defaults_of(language, config)).items())


def check_durability(value: object) -> Durability:
    """Return it if it is one; raises InvalidRequest (invalid_durability)."""
    if value not in DURABILITIES:
        raise InvalidRequest(
            f"durability: must be one of {', '.join(DURABILITIES)}, not {_shown(value)}", code="invalid_durability"
        )
    return value


def check_restore(value: object) -> Literal["lazy", "eager"]:
    """Return it if it is one; raises InvalidRequest (invalid_restore)."""
    if value not in ("lazy", "eager"):
        raise InvalidRequest(f"restore: must be lazy or eager, not {_shown(value)}", code="invalid_restore")
    return value


def check_flag(name: str, value: object) -> None:
    """Refuse what is not True, False or None; raises InvalidRequest (invalid_argument)."""
    if value not in (True, False, None):
        raise InvalidRequest(f"{name}: must be True or False, not {_shown(value)}", code="invalid_argument")
