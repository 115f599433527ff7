"""The results of runs. Those that ended before have none: only their outputs tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("run", sa.Column("numeric_result", sa.Double(), nullable=True))
    op.add_column("run", sa.Column("boolean_result", sa.Boolean(), nullable=True))
