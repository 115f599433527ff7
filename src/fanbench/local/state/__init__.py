"""What the server knows, in SQLite or PostgreSQL: tasks, benchmarks, runs, tokens and the usage of models.

`store` has the tables and one method per query, `database` the connections and the schema, which `migrations` change.
"""
