"""agent_proc: what runs inside a session process, and the zygote and keepers that make one.

The only room in which user code runs and the only one that unpickles. Imports ipc; the host never imports it but starts
it by module name.
"""
