"""Where a host keeps what must outlive it: the port, and its adapters."""
