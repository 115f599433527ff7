"""What the pages of tasks say, and which tasks are in a benchmark."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for column in ("description", "provenance"):
        op.add_column("task_version", sa.Column(column, sa.String(), nullable=False, server_default=""))
    for column in ("tags", "citations"):
        op.add_column("task_version", sa.Column(column, sa.JSON(), nullable=False, server_default="[]"))
    whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "benchmark_task",
        sa.Column("id", whole, primary_key=True),
        sa.Column("benchmark", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("version_id", whole, sa.ForeignKey("task_version.id"), nullable=False),
        sa.UniqueConstraint("benchmark", "task"),
    )
