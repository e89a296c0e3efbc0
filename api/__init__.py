"""api: every face of procession: sync, async, the decorator, the executor, the control socket's client, the CLI.

Imports ipc and host. Users import `procession`, never this package.
"""
