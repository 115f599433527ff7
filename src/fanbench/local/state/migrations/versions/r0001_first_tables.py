"""The tables before there were migrations. Those of an older server get what they lack."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.String().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
STATE = sa.String(64)


def upgrade() -> None:
    _create_table(
        "task_version",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("version", WHOLE, nullable=False),
        sa.Column("state", STATE, nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("datasets", sa.JSON(), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("notebook_public", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("slug", "version"),
    )
    _create_table(
        "run",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("version_id", WHOLE, sa.ForeignKey("task_version.id"), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("judge", sa.String(), nullable=False, server_default=""),
        sa.Column("state", STATE, nullable=False),
        sa.Column("started", TIME),
        sa.Column("ended", TIME),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("created", TIME, nullable=False),
    )
    _create_table(
        "model",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("slug", sa.String(), nullable=False),
        sa.UniqueConstraint("slug"),
    )
    _create_table(
        "token",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("expires", TIME, nullable=False),
        sa.UniqueConstraint("digest"),
    )
    _create_table(
        "usage",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("token_id", WHOLE, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nanodollars", sa.BigInteger(), nullable=False),
    )
    for table, column in (
        ("task_version", "slug"),
        ("run", "version_id"),
        ("run", "created"),
        ("usage", "token_id"),
        ("usage", "at"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column], if_not_exists=True)


def _create_table(name: str, *items: sa.Column[object] | sa.UniqueConstraint) -> None:
    """Create the table, or add the columns that it lacks, which must have a default in the database."""
    here = sa.inspect(op.get_bind())
    if not here.has_table(name):
        op.create_table(name, *items)
        return
    present = {column["name"] for column in here.get_columns(name)}
    for item in items:
        if isinstance(item, sa.Column) and item.name not in present:
            op.add_column(name, item)
