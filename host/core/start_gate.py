"""stub"""
class StartGate:
    def __init__(s): s.q=[]
    def offer(s,i,now,restart=False): s.q.append(i)
    def admit(s,now): q,s.q=s.q,[]; return q
    def withdraw(s,i): pass
    def release(s,i,now): pass
    def next_due(s,now): return None
