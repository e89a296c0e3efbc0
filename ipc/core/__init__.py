"""The pure part of ipc: feed bytes and times, get events. No IO, no clock, no shell file."""
