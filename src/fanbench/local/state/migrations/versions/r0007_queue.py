"""Runs of the queue: those that may run beside others of their version, model and effort, and for which benchmark."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

LIVE = ("BENCHMARK_TASK_RUN_STATE_QUEUED", "BENCHMARK_TASK_RUN_STATE_RUNNING")


def upgrade() -> None:
    op.add_column("run", sa.Column("beside", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("run", sa.Column("benchmark", sa.String(), nullable=False, server_default=""))
    live = sa.and_(
        sa.column("state", sa.String()).in_(LIVE), sa.column("beside", sa.Boolean()).is_(sa.false())
    )
    columns = ["version_id", "model", "effort"]
    op.drop_index("one_live_run", "run")
    op.create_index("one_live_run", "run", columns, unique=True, sqlite_where=live, postgresql_where=live)
