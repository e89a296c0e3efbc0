"""stub"""
import tempfile, os, shutil
from pathlib import Path
class DataDir:
    def __init__(s,p): s.path=Path(p)
    @classmethod
    def open(c,p): return c(p or tempfile.mkdtemp(prefix="procession-"))
    def session_folder(s,i): return s.path/"sessions"/i
    def remove_session(s,i): shutil.rmtree(s.session_folder(i),ignore_errors=True)
    def close(s): shutil.rmtree(s.path,ignore_errors=True)
    def forget_after_fork(s): pass
