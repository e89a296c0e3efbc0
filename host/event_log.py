"""stub"""
class EventLog:
    def __init__(s): s.items=[]; s.last_number=0; s.dropped=0
    def emit(s,type,session,inc,**data):
        import os
        if os.environ.get("PDEBUG"): print("EVENT",type,session and session[:8],inc,data,flush=True)
    def since(s,n): return []
