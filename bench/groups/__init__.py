"""One file per group: `measure(effort)` yields its lines. A group is a process of its own."""
