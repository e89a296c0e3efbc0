"""What a session may touch: a frozen value, chosen by name. Carrying it out is the session's start, not this file.

    Sandbox.off()         limits and the kill domain only; the code runs with the rights of the host's user
    Sandbox.standard()    the project and the interpreter readable, the project writable, no network
    Sandbox.strict()      nothing but what is listed

Until confinement is part of this version only `off` starts; anything stronger is refused (SandboxUnavailable), never
started with less than was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from procession.ipc.core.errors import InvalidRequest

Level = Literal["off", "standard", "strict"]
Network = Literal["none", "loopback", "proxy", "host"]

_NETWORKS: Final = ("none", "loopback", "proxy", "host")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a session may touch. Made by `off`, `standard` and `strict`; equal and hashed by what it allows.

    Only `off` can be had in this version; a session with another one does not start (SandboxUnavailable).

    read, write: further folders. network: "none", "loopback", "proxy" (only `allow_hosts`) or "host" (unrestricted).
    env: the environment variables a session sees, None for the usual few. protect: subpaths kept read-only.
    """

    level: Level
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: Network = "none"
    allow_hosts: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] | None = None
    protect: tuple[str, ...] = ()

    @classmethod
    def off(cls) -> Sandbox:
        """No confinement: limits, deadlines and the kill domain still hold."""
        return cls("off", network="host")

    @classmethod
    def standard(
        cls,
        read: Iterable[str | os.PathLike[str]] = (),
        write: Iterable[str | os.PathLike[str]] = (),
        network: Network = "none",
        allow_hosts: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        protect: Iterable[str | os.PathLike[str]] = (),
    ) -> Sandbox:
        """Confine to the project, readable and writable, and to what is listed besides."""
        return _make("standard", read, write, network, allow_hosts, env, protect)

    @classmethod
    def strict(
        cls,
        read: Iterable[str | os.PathLike[str]] = (),
        write: Iterable[str | os.PathLike[str]] = (),
        network: Network = "none",
        allow_hosts: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        protect: Iterable[str | os.PathLike[str]] = (),
    ) -> Sandbox:
        """Confine to what is listed and nothing else."""
        return _make("strict", read, write, network, allow_hosts, env, protect)


def _make(
    level: Level,
    read: Iterable[str | os.PathLike[str]],
    write: Iterable[str | os.PathLike[str]],
    network: Network,
    allow_hosts: Iterable[str],
    env: Mapping[str, str] | None,
    protect: Iterable[str | os.PathLike[str]],
) -> Sandbox:
    if network not in _NETWORKS:
        raise InvalidRequest(f"network: must be one of {', '.join(_NETWORKS)}, not {network!r}", code="invalid_sandbox")
    return Sandbox(
        level,
        _paths("read", read),
        _paths("write", write),
        network,
        _texts("allow_hosts", allow_hosts),
        None if env is None else tuple(sorted(env.items())),
        _paths("protect", protect),
    )


def _paths(name: str, values: Iterable[str | os.PathLike[str]]) -> tuple[str, ...]:
    if isinstance(values, str | bytes | os.PathLike):
        raise InvalidRequest(f"{name}: a list of folders, not one", code="invalid_sandbox", hint=f"{name}=[{values!r}]")
    try:
        return tuple(os.fspath(value) for value in values)
    except TypeError:
        raise InvalidRequest(f"{name}: a list of folders is needed", code="invalid_sandbox") from None


def _texts(name: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise InvalidRequest(f"{name}: a list, not one text", code="invalid_sandbox", hint=f"{name}=[{values!r}]")
    found = tuple(values)
    if not all(isinstance(value, str) for value in found):
        raise InvalidRequest(f"{name}: a list of texts is needed", code="invalid_sandbox")
    return found
