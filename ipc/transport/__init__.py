"""The shells of ipc: descriptors, polls and locks around the pure connection."""
