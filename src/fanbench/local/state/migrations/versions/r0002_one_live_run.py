"""Attempts of runs, at most one live run of a version and a model, and what the database says about itself."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

LIVE = ("BENCHMARK_TASK_RUN_STATE_QUEUED", "BENCHMARK_TASK_RUN_STATE_RUNNING")


def upgrade() -> None:
    whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("run", sa.Column("attempt", whole, nullable=False, server_default="0"))
    _end_duplicates()
    live = sa.column("state", sa.String()).in_(LIVE)
    columns = ["version_id", "model"]
    op.create_index("one_live_run", "run", columns, unique=True, sqlite_where=live, postgresql_where=live)
    op.create_table(
        "meta",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.String(), nullable=False),
    )


def _end_duplicates() -> None:
    """End all but the oldest of several live runs, which the index does not allow."""
    end = sa.text(
        """
        UPDATE run SET state = 'BENCHMARK_TASK_RUN_STATE_ERRORED', ended = :now, error = :error
        WHERE id IN (
            SELECT newer.id FROM run AS newer JOIN run AS older
            ON older.version_id = newer.version_id AND older.model = newer.model AND older.id < newer.id
            WHERE newer.state IN :live AND older.state IN :live
        )
        """
    ).bindparams(sa.bindparam("live", LIVE, expanding=True))
    error = "Another run of this version and model was in progress."
    op.get_bind().execute(end, {"now": datetime.now(UTC).isoformat(), "error": error})
