"""Sweeps: every task on every model, in one command that can be resumed.

spec, sweep_file    the request: arguments, flags, sweep.toml
plan, preview       the plan made from it, and what it comes to
attempts, decide    planned runs and attempts, and the pure tables that decide what to do about them
journal             the durable record
folder, artifacts   the output folder and its lock; outputs and logs in it
resume              continuing the sweep of a folder
adoption            what the server has of it already (`--adopt`)
engine              carries the plan out (its docstring lists the modules it is made of)
budget              what `--max-cost` lets be scheduled
events, state       what the engine reports, and the state rebuilt from it
report              what came of it, as a table, JSON and CSV
results             the results in any folders, with what journals have of their runs
sweep               the Python interface
"""
