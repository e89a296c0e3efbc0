"""The built-in tools: the one table of what they are called, what they take, what they may do, and where they run.

It is *not* what they do: the worker's are in `agent_proc/tools/`, the agent's are actions of the code session. Rules: schemas
are written out as data, so that nothing of pydantic is loaded; what a schema says is enforced; there are no aliases.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from procession.agent_proc.agent.code_session.bounds import (
    FORGET_REASON_BYTES_MAX,
    ID_CHARS_MAX,
    MEMORY_BYTES_MAX,
    QUERY_BYTES_MAX,
    RECALLED_MAX,
    TODOS_MAX,
)
from procession.agent_proc.agent.code_session.long_term import MODES
from procession.agent_proc.agent.code_session.memory_types import TYPES
from procession.agent_proc.agent.code_session.todos import STATUSES
from procession.agent_proc.agent.record.project_path import PATH_BYTES_MAX
from procession.agent_proc.agent.texts import near, shown
from procession.agent_proc.agent.tools.arguments import name_problems, raise_if_any
from procession.agent_proc.agent.tools.json_check import problems_of
from procession.agent_proc.agent.tools.spec import JsonSchema, ToolSpec
from procession.agent_proc.agent.tools.validation import Problem
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.tool_tiers import BUILTIN_TIERS

Runs = Literal["worker", "agent", "interpreter"]

LINES_MAX: Final = 2_000
"""The contract's, of one answer of read_file."""
OFFSET_MAX: Final = 2**31
"""More lines than a file that is read can have."""
MATCHES_MAX: Final = 2_000
CONTEXT_LINES_MAX: Final = 20
"""More is a part of a file, and read_file shows that."""
EDITS_MAX: Final = 200
"""Of one call; who changes more writes the file anew."""
WORDS_MAX: Final = 1_000
VARIABLES_MAX: Final = 100
TEXT_CHARS_MAX: Final = 16 * 1_024 * 1_024
"""What a file that is written here may have at most, in bytes; with characters of more than one, the tool refuses less."""
COMMAND_CHARS_MAX: Final = 128 * 1_024
"""Linux takes no longer word of a command."""
PATTERN_CHARS_MAX: Final = 1_000
"""An expression of more is no search that a person or a model has thought of."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One tool. bytes_max: of texts that are bounded in bytes, blanks around them not counted: JSON schema has no word for it."""

    spec: ToolSpec
    runs: Runs
    bytes_max: Mapping[str, int] = field(default_factory=dict)


def check_arguments(name: object, arguments: object) -> dict[str, Any]:
    """Return the arguments of a call with the defaults of those that are not given.

    A null for a parameter with a default counts as not given. Raises InvalidRequest: not_found for a tool that there is not,
    invalid_arguments for what is no mapping; else as arguments.bind: missing parameters are told first, then unknown ones,
    then types, choices and values, and the code is that of the first.
    """
    built_in = BUILTIN.get(name) if type(name) is str else None
    if built_in is None:
        hint = near(name if type(name) is str else "", BUILTIN)
        raise InvalidRequest(f"there is no built-in tool {shown(name)}", code="not_found", hint=hint)
    if not isinstance(arguments, Mapping):
        raise InvalidRequest(
            f"the arguments of {name} must be a mapping of names to values, not {shown(arguments)}",
            code="invalid_arguments",
        )
    spec = built_in.spec
    problems = name_problems(spec, arguments)
    checked: dict[str, Any] = {}
    for parameter, schema in spec.parameters["properties"].items():
        value = arguments.get(parameter)
        if parameter in arguments and not (value is None and "default" in schema):
            problems += problems_of(value, schema, parameter)
            problems += _problems_of_bytes(value, built_in.bytes_max.get(parameter), parameter)
            checked[parameter] = value
        elif "default" in schema:
            checked[parameter] = copy.copy(schema["default"])  # a list is the caller's from now on
    raise_if_any(spec, problems)
    return checked


def _problems_of_bytes(value: object, bytes_max: int | None, where: str) -> list[Problem]:
    if bytes_max is None or type(value) is not str:
        return []
    size = len(value.strip().encode("utf-8", "surrogatepass"))
    return (
        [Problem("invalid_value", where, f"must have at most {bytes_max} bytes, not {size}")]
        if size > bytes_max
        else []
    )


# -- how the table is written ----------------------------------------------------------------------------------------


def _text(description: str, chars_max: int = TEXT_CHARS_MAX, **more: Any) -> JsonSchema:
    return {"type": "string", "description": description, "maxLength": chars_max, **more}


def _filled(description: str, chars_max: int = TEXT_CHARS_MAX, **more: Any) -> JsonSchema:
    return _text(description, chars_max, minLength=1, **more)


def _path(description: str, **more: Any) -> JsonSchema:
    return _text(description, PATH_BYTES_MAX, **more)


def _whole(description: str, least: int, most: int, **more: Any) -> JsonSchema:
    return {"type": "integer", "description": description, "minimum": least, "maximum": most, **more}


def _share(description: str, default: float) -> JsonSchema:
    return {"type": "number", "description": description, "minimum": 0, "maximum": 1, "default": default}


def _flag(description: str) -> JsonSchema:
    return {"type": "boolean", "description": description, "default": False}


def _choice(description: str, choices: tuple[str, ...], default: str) -> JsonSchema:
    return {"type": "string", "description": description, "enum": list(choices), "default": default}


def _object(properties: Mapping[str, JsonSchema], *, required: tuple[str, ...]) -> JsonSchema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _tool(
    name: str,
    runs: Runs,
    description: str,
    bytes_max: Mapping[str, int] = MappingProxyType({}),
    /,
    **properties: JsonSchema,
) -> tuple[str, BuiltIn]:
    required = tuple(parameter for parameter, schema in properties.items() if "default" not in schema)
    parameters = _object(properties, required=required)
    return name, BuiltIn(
        ToolSpec(name=name, parameters=parameters, description=description, tier=BUILTIN_TIERS[name]), runs, bytes_max
    )


_OLD_STRING: Final = _filled("The text to replace, exactly as it is in the file, blanks and line breaks included.")
_NEW_STRING: Final = _text("The text to put in its place; empty to delete it.")
_REPLACE_ALL: Final = _flag("Replace every occurrence; otherwise old_string must occur exactly once.")
_BELOW: Final = "relative to the project's folder"


# -- the table -------------------------------------------------------------------------------------------------------

BUILTIN: Final[Mapping[str, BuiltIn]] = MappingProxyType(
    dict(
        (
            _tool(
                "read_file",
                "worker",
                "Read a text file of the project. Every line is shown with its number and an arrow before it, which are not "
                "part of the file. Lines longer than 2000 bytes are cut. Binary files and files larger than 16 MiB are "
                "refused. A file must be read before it can be changed.",
                path=_path(f"The file, {_BELOW}."),
                offset=_whole("The number of the first line to show, from 1 on.", 1, OFFSET_MAX, default=1),
                limit=_whole("How many lines to show at most.", 1, LINES_MAX, default=LINES_MAX),
            ),
            _tool(
                "write_file",
                "worker",
                "Write a file of the project whole, and make the folders above it. A file that exists is replaced, and must "
                "have been read in this session; to change a part of it, use edit_file.",
                path=_path(f"The file, {_BELOW}."),
                content=_text("All that the file will hold."),
            ),
            _tool(
                "edit_file",
                "worker",
                "Replace a text in a file of the project. The file must have been read in this session, and the text must "
                "occur exactly once, unless replace_all is given.",
                path=_path(f"The file, {_BELOW}."),
                old_string=_OLD_STRING,
                new_string=_NEW_STRING,
                replace_all=_REPLACE_ALL,
            ),
            _tool(
                "multi_edit_file",
                "worker",
                "Make several replacements in one file of the project, one after the other: each is made in what the one "
                "before has left. If any of them cannot be made, none is. The file must have been read in this session.",
                path=_path(f"The file, {_BELOW}."),
                edits={
                    "type": "array",
                    "description": "The replacements, in order.",
                    "minItems": 1,
                    "maxItems": EDITS_MAX,
                    "items": _object(
                        {"old_string": _OLD_STRING, "new_string": _NEW_STRING, "replace_all": _REPLACE_ALL},
                        required=("old_string", "new_string"),
                    ),
                },
            ),
            _tool(
                "list_directory",
                "worker",
                "List a folder of the project, sorted, hidden names included. Folders end with /, links with @. "
                "At most 2000 names; `truncated` tells when there are more.",
                path=_path(f"The folder, {_BELOW}.", default="."),
                recursive=_flag("List everything below it too, except what is inside .git."),
            ),
            _tool(
                "glob",
                "worker",
                "Find files of the project whose path fits a pattern, sorted. Hidden files and folders, .git among them, are "
                "found only when the pattern names them with their dot. At most 2000 paths; `truncated` tells when there "
                "are more.",
                pattern=_filled(
                    "`*` and `?` within a name, `[...]` for a set of characters, `**` for any number of folders, as in "
                    "`src/**/*.py`. With a slash at the end it finds folders.",
                    PATH_BYTES_MAX,
                ),
                path=_path(f"The folder to look in, {_BELOW}; the pattern begins there.", default="."),
            ),
            _tool(
                "grep",
                "worker",
                "Find the lines of the project's text files that match a regular expression of Python. Each is given as "
                "file:line:text, lines of context as file-line-text. Binary and hidden files are passed over, and files "
                "larger than 4 MiB, which are counted. `truncated` tells when something was left out.",
                pattern=_filled("The expression; it is searched for in each line by itself.", PATTERN_CHARS_MAX),
                path=_path(f"The file or folder to search, {_BELOW}.", default="."),
                include=_filled(
                    "Search only files that fit this pattern: of their name, as `*.py`, or with a slash of their path, as "
                    "`src/**/*.py`.",
                    PATH_BYTES_MAX,
                    default=None,
                ),
                ignore_case=_flag("Treat upper and lower case alike."),
                context=_whole("How many lines to show before and after each match.", 0, CONTEXT_LINES_MAX, default=0),
                limit=_whole("How many matching lines to give at most.", 1, MATCHES_MAX, default=200),
            ),
            _tool(
                "exec",
                "worker",
                "Run a command in the project and wait for its end. It gets no input and no terminal; processes that it "
                "leaves running are ended with it. Gives exit_code, stdout and stderr, the last 256 KiB of each. An exit code "
                "other than 0 is a result, not an error; -N means that signal N ended it.",
                command={
                    "description": "A list of words is run as it is; a text is run by `sh -c`.",
                    "anyOf": [
                        {"type": "string", "minLength": 1, "maxLength": COMMAND_CHARS_MAX},
                        {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": WORDS_MAX,
                            "items": {"type": "string", "maxLength": COMMAND_CHARS_MAX},
                        },
                    ],
                },
                cwd=_path(f"The folder to run in, {_BELOW}.", default="."),
                env={
                    "type": "object",
                    "description": "Environment variables to set besides those that are there.",
                    "additionalProperties": {"type": "string", "maxLength": COMMAND_CHARS_MAX},
                    "maxProperties": VARIABLES_MAX,
                    "default": None,
                },
            ),
            _tool(
                "git",
                "worker",
                "Run git in the project's folder. Nothing is asked, and no editor is opened: give a commit its message with "
                "-m. Forced pushes, hard resets, forced cleaning and deleting, and the like are refused unless "
                "allow_destructive is given. Paths must be inside the project. Options that run programs or use other "
                "repositories' files are refused. The repository's own hooks run.",
                subcommand=_filled("As in `status`, `diff`, `log`, `add`, `commit`.", 64),
                args={
                    "type": "array",
                    "description": "What follows the subcommand, one word each.",
                    "maxItems": WORDS_MAX,
                    "items": {"type": "string", "maxLength": COMMAND_CHARS_MAX},
                    "default": [],
                },
                allow_destructive=_flag("Allow what destroys work. Only when it was asked for."),
            ),
            _tool(
                "python",
                "interpreter",
                "Run Python code in the session's own interpreter, which keeps its variables and imports from call to call. "
                "Gives what was printed and the value of the last expression.",
                code=_filled("The code, as in a file or a notebook's cell."),
            ),
            _tool(
                "todo",
                "agent",
                "Replace the session's list of todos by a new one. Give all that are to stay, in their order.",
                todos={
                    "type": "array",
                    "description": "The whole list; empty to clear it.",
                    "maxItems": TODOS_MAX,
                    "items": {
                        "type": "object",
                        "properties": {
                            "id": _filled("The id of a todo that there is already; a new one gets one.", ID_CHARS_MAX),
                            "content": _filled("What is to be done."),
                            "status": _choice("How far it is.", STATUSES, "pending"),
                        },
                        "required": ["content"],
                        "additionalProperties": True,
                    },
                },
            ),
            _tool(
                "remember",
                "agent",
                "Keep something for later in the session's memory: a fact, a decision, a convention, a lesson.",
                {"content": MEMORY_BYTES_MAX},
                content=_filled(f"What to remember, in at most {MEMORY_BYTES_MAX} bytes.", MEMORY_BYTES_MAX),
                memory_type=_choice("What kind of memory it is.", TYPES, "fact"),
                confidence=_share("How sure it is, from 0 to 1.", 0.8),
            ),
            _tool(
                "recall",
                "agent",
                "Find what the session remembers. Where there are no embeddings, every mode searches the words.",
                {"query": QUERY_BYTES_MAX},
                query=_filled(
                    f"What to look for, in at most {QUERY_BYTES_MAX} bytes; without it, the latest.", default=None
                ),
                limit=_whole("How many memories to give at most.", 1, RECALLED_MAX, default=10),
                min_confidence=_share("Leave out what is less sure than this.", 0.5),
                mode=_choice("How to search.", MODES, "text"),
            ),
            _tool(
                "forget",
                "agent",
                "Mark a memory as no longer valid. It is not given by recall from then on.",
                {"reason": FORGET_REASON_BYTES_MAX},
                memory_id=_filled("The id of the memory, as recall gives it.", ID_CHARS_MAX),
                reason=_filled(f"Why it is no longer valid, in at most {FORGET_REASON_BYTES_MAX} bytes.", default=None),
                replacement_id=_filled(
                    "The id of the memory that takes its place; it must exist.", ID_CHARS_MAX, default=None
                ),
            ),
        )
    )
)
"""By name, in the order in which they are best told."""
