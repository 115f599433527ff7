"""The embedded server: the wire of Kaggle Benchmarks, real task files, real models, no account.

    app ── routes ── scheduler ── executor      a run's process: the real SDK, cell by cell
             │            │
             │          store, logs, files      SQLite and files of the data folder
             └── proxy ── models                the Model Proxy that a run's process talks to

It knows the wire's messages (`fanbench.wire.messages`) and nothing of the client, the verbs or the command line.
"""
