"""Sweeps: every task on every model, one command, resumable.

spec      what is asked for: words, flags, sweep.toml      → planner → plan
units     what a unit of work is, and the rule that says what is still to be done for it
journal   what was done, durable; lock, _aside and _disk: the folder that it is in
engine    the task group that does it, and says so in events
budget    what --max-cost lets be scheduled; _costs: what runs have cost, by task and model
state     the events put together again, for screens
report    what came out, as a table, JSON and CSV
sweep     all of it behind `async with`; simple: in one call
"""
