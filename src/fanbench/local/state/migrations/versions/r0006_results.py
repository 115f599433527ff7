"""The results of runs. Those that ended before have none: only their outputs tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("run", sa.Column("numeric_result", sa.Double(), nullable=True))
    op.add_column("run", sa.Column("boolean_result", sa.Boolean(), nullable=True))
