"""Runs notebooks and task files in processes of their own. Shared by the local server and `check --run`.

    supervise ── forkserver_client ──(Unix socket)── forkserver ──fork──┬─ child    a notebook, cell by cell
                                                                        └─ script   a file, as `python FILE`

`forkserver` is the parent of all run processes. By default it has imported the SDK and forks itself (0.3 s per
run); with `--isolation process` it starts a new Python (2 s per run). `supervise` takes one run from start to
end: its output, its time limit, and no process left behind.

Nothing here imports the server or its packages (starlette, SQLAlchemy): `check --run` works with the SDK alone.
"""
