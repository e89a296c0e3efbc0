"""What procession costs, measured in one run beside a raw pipe, a bare fork and multiprocessing: `python -m bench`."""
