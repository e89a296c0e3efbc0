"""The pure part of host: restart policy, lifecycle table, call ledger. Time and chance are arguments."""
