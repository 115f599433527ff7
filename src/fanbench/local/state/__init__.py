"""What the server knows, in SQLite or PostgreSQL: tasks, benchmarks, runs, tokens and the usage of models.

`tables` has the tables, `store` one method per query, `database` the connections and the schema, which `migrations`
change. `claims` ties a data folder and its database to each other.
"""
