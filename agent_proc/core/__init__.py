"""The pure part of agent_proc: what a session decides, given messages and times."""
