"""stub"""
class Sample: pass
class Verdict: pass
class Watchdog: pass
