"""host: supervision, kill domains, the zygote's client, the control socket.

Never runs user code and never turns a session's bytes into anything but declared types. Imports ipc only.
"""
