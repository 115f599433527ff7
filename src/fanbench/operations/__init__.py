"""What the commands do, as typed coroutines that print nothing: they report events (`operations.events`).

Each takes an open `fanbench.Client` first, and runs on asyncio and on trio.
"""
