"""The local server: the protocol of Kaggle Benchmarks with real task files and models, without an account.

    app ── routes ── scheduler ──┬─ environments   packages that a run needs in addition
             │            │      └─ executor       the process of a run: the real SDK, cell by cell
             │          store, logs, files         SQLite or PostgreSQL, and files of the data folder
             └── models                            what runs talk to, through the Model Proxy (routes/proxy)

It imports the messages of the protocol and what reads inline metadata, and nothing of the client or the command line.
"""
