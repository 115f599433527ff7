"""The local server: the protocol of Kaggle Benchmarks with real task files and models, without an account.

    app ── routes ── scheduler ── executor      the process of a run: the real SDK, cell by cell
             │            │
             │          store, logs, files      SQLite and files of the data folder
             └── proxy ── models                the Model Proxy that runs talk to

It imports the messages of the protocol, and nothing of the client or the command line.
"""
