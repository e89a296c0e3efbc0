"""stub"""
from dataclasses import dataclass, field
from pathlib import Path
from procession.ipc.core.limits import Limits
@dataclass(frozen=True)
class HostOptions:
    data_dir: Path|None=None
    sandbox: str="off"
    limits: Limits=field(default_factory=Limits)
    preload: tuple=()
    import_paths: tuple=()
    max_sessions:int=100
    spares:int=0
    parallel_runs:int=16
    serve: bool|None=None
    program: str=""
