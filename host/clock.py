"""stub"""
import time, random as _r
monotonic=time.monotonic
wall=time.time
random=_r.random
