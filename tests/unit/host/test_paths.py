"""Where things lie, and a socket that is reached however long its path is."""

import os
import socket
import sys
from pathlib import Path

import pytest

from helpers.runs import run_python
from procession.host import paths
from procession.ipc.core.errors import StorageError


def test_the_data_folder_is_the_users_or_the_one_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(paths.DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert paths.default_data_dir() == tmp_path / "procession"
    monkeypatch.setenv(paths.DATA_DIR_VARIABLE, str(tmp_path / "mine"))
    assert paths.default_data_dir() == tmp_path / "mine"


@pytest.mark.process
def test_asking_for_paths_loads_platformdirs_only_when_needed() -> None:
    code = "import sys, procession.host.paths as p; print('platformdirs' in sys.modules); p.default_data_dir()"
    done = run_python(code + "; print('platformdirs' in sys.modules)")
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the way around the limit is Linux's /proc")
@pytest.mark.parametrize("length", [20, 107, 108, 300, 1000])
def test_a_socket_is_bound_and_reached_whatever_the_length_of_its_path(length: int, tmp_path: Path) -> None:
    path = tmp_path
    while len(os.fsencode(path)) < length - 8:
        path /= "d" * min(60, max(1, length - 9 - len(os.fsencode(path))))
    path.mkdir(parents=True, exist_ok=True)
    place = path / "s.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with paths.socket_address(place) as address:
            assert len(os.fsencode(address)) <= paths.SOCKET_PATH_BYTES_MAX
            server.bind(address)
        server.listen()
        assert place.is_socket()
        with paths.socket_address(place) as address:
            client.connect(address)
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"here")
            assert client.recv(10) == b"here"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    place = tmp_path / ("x" * 200) / "s.sock"
    with pytest.raises(StorageError, match="x" * 200), paths.socket_address(place):
        raise AssertionError("there is no such folder")


def test_the_places_in_a_data_folder() -> None:
    folder = Path("/d")
    assert paths.socket_path(folder) == Path("/d/control/host.sock")
    assert paths.token_path(folder) == Path("/d/control/token")
