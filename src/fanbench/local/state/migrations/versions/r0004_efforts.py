"""The reasoning efforts of runs: at most one live run of a version, a model and an effort."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

LIVE = ("BENCHMARK_TASK_RUN_STATE_QUEUED", "BENCHMARK_TASK_RUN_STATE_RUNNING")


def upgrade() -> None:
    for table, column in (("run", "effort"), ("token", "model"), ("token", "effort")):
        op.add_column(table, sa.Column(column, sa.String(), nullable=False, server_default=""))
    live = sa.column("state", sa.String()).in_(LIVE)
    columns = ["version_id", "model", "effort"]
    op.drop_index("one_live_run", "run")
    op.create_index("one_live_run", "run", columns, unique=True, sqlite_where=live, postgresql_where=live)
