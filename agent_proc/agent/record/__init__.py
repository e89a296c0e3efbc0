"""The session's own record: what it is called, where it works, how it is configured, and how its first state is made."""
