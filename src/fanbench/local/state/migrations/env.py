"""Alembic executes this file to migrate the database to which `fanbench.local.state.database` is connected."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
