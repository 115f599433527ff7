"""The local server: the protocol of Kaggle Benchmarks with real task files and models, without an account.

    app ── routes ── scheduler ── carriers ──┬─ executor      the process of a run: the real SDK, cell by cell
             │            │                   └─ ray           the same, on the machines of a cluster
             │            ├── state                            SQLite or PostgreSQL
             │            ├── logs                             files of the data folder
             │            └── outputs                          files of the data folder, or an object store
             └── models                                        what runs talk to, through the Model Proxy (routes/proxy,
                                                               in processes of its own with proxy_workers)

It imports the messages of the protocol and what reads inline metadata, and nothing of the client or the command line.
"""
