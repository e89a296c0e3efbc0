"""The other sides: what the same job costs with pipes and forks by hand, and with the standard library."""
