"""ipc: bytes to typed messages and back.

Its core is sans-IO: the frame codec, the message types, connection and stream state, the error tree, limits and records
decide without a process, a clock or a loop. `transport/` is the thin shell that moves the bytes. Imports none of the
other rooms.
"""
