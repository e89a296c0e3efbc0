"""Law 5: the host never executes a session's bytes. No file of host/, ipc/ or api/ can turn bytes into code or objects.

Only api/ may pickle, and only outwards: what a caller hands over travels to a worker, which alone unpickles.
"""

import ast
from pathlib import Path

import pytest

from helpers.sources import Source, imported_modules, local_names, resolved, room_sources

WATCHED_ROOMS = ("host", "ipc", "api")

NEVER_IMPORTED = frozenset(
    "marshal shelve dill jsonpickle multiprocessing code codeop runpy imp yaml copyreg _pickle _posixsubprocess".split()
)
"""Modules that load objects or run text; multiprocessing's connections unpickle whatever they receive."""

PICKLERS = frozenset({"pickle", "cloudpickle"})

MAY_PICKLE_OUTWARDS = "api"

OUTWARDS = frozenset(
    "pickle.dumps pickle.dump pickle.Pickler pickle.PicklingError pickle.PickleError pickle.HIGHEST_PROTOCOL "
    "pickle.DEFAULT_PROTOCOL pickle.PickleBuffer cloudpickle.dumps cloudpickle.dump cloudpickle.CloudPickler "
    "cloudpickle.Pickler cloudpickle.register_pickle_by_value cloudpickle.unregister_pickle_by_value "
    "cloudpickle.list_registry_pickle_by_value cloudpickle.pickle cloudpickle.cloudpickle".split()
)
"""The whole of what api/ may use of them: writing, and the errors of writing."""

LOADING_METHODS = frozenset({"loads", "Unpickler", "recv_bytes", "load_module", "exec_module"})
DATA_LOADERS = frozenset({"json.loads", "tomllib.loads"})
"""Methods that load, by name, on whatever object; and the two that give data only."""

RUNNING_BUILTINS = frozenset({"eval", "exec", "compile", "__import__"})


def offences(source: Source) -> list[str]:
    """List everything in a file that could load an object or run text."""
    found = [
        f"{source}:{line} imports {module}"
        for line, module in imported_modules(source)
        if module.partition(".")[0] in NEVER_IMPORTED or (_is_pickler(module) and not _may_import(source, module))
    ]
    names = local_names(source)
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Attribute) and _is_pickler(what := resolved(node, names)) and what not in OUTWARDS:
            found.append(f"{source}:{node.lineno} uses {what}")
        elif isinstance(node, ast.Attribute) and node.attr in LOADING_METHODS:
            if resolved(node, names) not in DATA_LOADERS:
                found.append(f"{source}:{node.lineno} uses .{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNNING_BUILTINS:
            found.append(f"{source}:{node.lineno} calls {node.func.id}()")
        elif isinstance(node, ast.Attribute) and resolved(node, names) in {f"builtins.{b}" for b in RUNNING_BUILTINS}:
            found.append(f"{source}:{node.lineno} uses builtins.{node.attr}")
    return found


def _is_pickler(module: str) -> bool:
    return module.partition(".")[0] in PICKLERS


def _may_import(source: Source, module: str) -> bool:
    return source.room == MAY_PICKLE_OUTWARDS and (module in PICKLERS or module in OUTWARDS)


@pytest.mark.guarantee("R-44")
@pytest.mark.parametrize("source", room_sources(*WATCHED_ROOMS), ids=str)
def test_no_file_of_the_host_side_can_load_a_pickle_or_run_text(source: Source) -> None:
    assert offences(source) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("host/x.py", "import pickle"),
        ("ipc/x.py", "import cloudpickle"),
        ("api/x.py", "import pickle\npickle.loads(b'')"),
        ("api/x.py", "import pickle as p\np.Unpickler"),
        ("api/x.py", "from pickle import loads"),
        ("api/x.py", "from cloudpickle import load"),
        ("api/x.py", "import cloudpickle\ncloudpickle.cloudpickle.subimport('os')"),
        ("api/x.py", "def f():\n    import marshal"),
        ("host/x.py", "from multiprocessing.connection import Connection"),
        ("host/x.py", "eval('1')"),
        ("api/x.py", "exec('1')"),
        ("api/x.py", "import builtins\nbuiltins.exec('1')"),
    ],
)
def test_the_law_catches(path: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.sources._parse", lambda _path: ast.parse(text))
    assert offences(Source(Path(path)))


def test_the_law_lets_writing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "import pickle, cloudpickle\npickle.dumps(1)\ncloudpickle.dumps(2)\nclass P(pickle.Pickler): ...\n"
        "class S:\n    def exec(self): return self.exec()\nimport json\njson.loads('1')"
    )
    monkeypatch.setattr("helpers.sources._parse", lambda _path: ast.parse(text))
    assert offences(Source(Path("api/x.py"))) == []
