"""The pure part of a session: agents, their actions, signals, state and tools. Importable anywhere, needs no process."""
