"""`procession doctor`: what this machine has of what procession uses, tried out, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from procession._version import __version__
from procession.api.cli import exit_codes
from procession.api.cli.app import AsJson, DataDir
from procession.api.cli.client import data_dir_of
from procession.api.cli.output import Cell, print_json, verdict
from procession.api.cli.probes import Layer, Probe, layers, probe_session
from procession.api.cli.tables import Column, print_table

_COLUMNS = ("LAYER", "STATE", Column("DETAIL", shrinks="wraps", least=24))
_STYLES = {"on": "good", "off": "odd", "unavailable": "bad"}


def doctor(as_json: AsJson = False, data_dir: DataDir = None) -> int:
    """Check this machine, layer by layer, and really start a probe session.

    Exit code 0 when sessions can run here, 1 when something that is needed is missing.
    """
    found = layers(data_dir_of(data_dir))
    probe = probe_session()
    missing = [layer.name for layer in found if layer.is_missing]
    ok = probe.ok and not missing
    if as_json:
        print_json({"ok": ok, "version": __version__, "layers": [asdict(layer) for layer in found],
                    "probe": asdict(probe)})  # fmt: skip
    else:
        print_table(_COLUMNS, [*_rows(found), _probe_row(probe)])
        if ok:
            verdict("sessions run here, and what they leave behind is ended", good=True)
        else:
            verdict(f"sessions do not run here: {', '.join(missing) or 'the probe session failed'}", good=False)
    return exit_codes.OK if ok else exit_codes.FAILED


def _rows(found: Iterable[Layer]) -> Iterable[tuple[Cell, ...]]:
    for layer in found:
        style = "odd" if layer.state == "unavailable" and not layer.needed else _STYLES[layer.state]
        so = f"; {layer.hint}" if layer.hint and layer.state != "on" else ""
        yield layer.name, (layer.state, style), layer.detail + so


def _probe_row(probe: Probe) -> tuple[Cell, ...]:
    if not probe.pid:
        return "probe session", ("failed", "bad"), probe.error
    words = (f"pid {probe.pid}, ready in {probe.session_start_ms:.0f} ms after the host's {probe.host_start_ms:.0f} ms; "
             f"run {probe.run_ms:.0f} ms; ended by {probe.kill_method}, {probe.found} found, {probe.left} left")  # fmt: skip
    return "probe session", ("on", "good") if probe.ok else ("failed", "bad"), f"{words}; {probe.error}".rstrip("; ")
