"""The built-in tools as they run in a worker: files by descriptor, searches, commands and git. Each run loads one of them."""
