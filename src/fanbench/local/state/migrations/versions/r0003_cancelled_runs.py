"""Which runs were cancelled, so that lists leave them out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("run", sa.Column("cancelled", sa.Boolean(), nullable=False, server_default=sa.false()))
