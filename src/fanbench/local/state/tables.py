"""The tables of the database, and what their columns can store."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    Dialect,
    Enum,
    ForeignKey,
    Integer,
    String,
    TypeDecorator,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TypeEngine

from fanbench._util.text import without_surrogates
from fanbench.wire.messages import Citation, CreationState, RunState

__all__ = [
    "LARGEST",
    "LIVE_RUNS",
    "PENDING_CREATIONS",
    "Base",
    "BenchmarkTaskRow",
    "MetaRow",
    "ModelRow",
    "RunRow",
    "TokenRow",
    "UsageRow",
    "VersionRow",
    "now",
    "storable",
]

PENDING_CREATIONS = (CreationState.QUEUED, CreationState.RUNNING)
LARGEST = 2**63 - 1
"""The largest number that the database stores, as an id or otherwise."""
LIVE_RUNS = (RunState.QUEUED, RunState.RUNNING)


def now() -> datetime:
    """The time with the precision of the protocol: UTC, milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class _Time(TypeDecorator[datetime]):
    """A time in UTC. SQLite has no type for it, and its ISO text sorts by time."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        native = dialect.name == "postgresql"
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if native else String())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | str | None:
        return value if value is None or dialect.name == "postgresql" else value.isoformat()

    def process_result_value(self, value: datetime | str | None, dialect: Dialect) -> datetime | None:
        return datetime.fromisoformat(value) if isinstance(value, str) else value and value.astimezone(UTC)


def storable(text: str) -> str:
    """The text without NUL, which PostgreSQL does not store, and lone surrogates, which no database does."""
    return without_surrogates(text).replace("\0", "\ufffd")


class _Text(TypeDecorator[str]):
    """Any text that tasks and clients send, with U+FFFD for what cannot be stored."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: object) -> str | None:
        return storable(value) if value else value


class _Texts(TypeDecorator[list[str]]):
    """A list of texts, each as `_Text`."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: list[str] | None, dialect: object) -> list[str] | None:
        return value and [storable(each) for each in value]


class _Citations(TypeDecorator[list[Citation]]):
    """Citations, each as an object with two texts."""

    impl = JSON
    cache_ok = True

    def process_bind_param(
        self, value: list[Citation] | None, dialect: object
    ) -> list[dict[str, str]] | None:
        return (
            value
            if value is None
            else [{"title": storable(each.title), "url": storable(each.url)} for each in value]
        )

    def process_result_value(self, value: list[dict[str, str]] | None, dialect: object) -> list[Citation]:
        return [Citation(**each) for each in value or ()]


class _Whole(TypeDecorator[int]):
    """A whole number of 64 bits; a larger one, such as the nonsensical cost of an upstream, becomes the largest."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: object) -> int | None:
        return value if value is None else max(-LARGEST - 1, min(value, LARGEST))


# A column with the values of the wire, such as "BENCHMARK_TASK_RUN_STATE_QUEUED".
_enum = partial(
    Enum, native_enum=False, length=64, values_callable=lambda members: [each.value for each in members]
)


class Base(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: _Time,
        int: BigInteger().with_variant(Integer(), "sqlite"),  # SQLite counts up only an INTEGER, of 64 bits
        str: _Text,
        CreationState: _enum(CreationState),
        RunState: _enum(RunState),
        list[str]: _Texts,
        list[Citation]: _Citations,
    }


class VersionRow(Base):
    """One push of a task. The newest is what the protocol calls the task."""

    __tablename__ = "task_version"
    __table_args__ = (UniqueConstraint("slug", "version"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(index=True)
    version: Mapped[int]
    state: Mapped[CreationState] = mapped_column(default=CreationState.QUEUED)
    error: Mapped[str] = mapped_column(default="")
    created: Mapped[datetime] = mapped_column(default=now)
    datasets: Mapped[list[str]] = mapped_column(default=list)
    public: Mapped[bool] = mapped_column(default=False)
    notebook_public: Mapped[bool] = mapped_column(default=False)
    description: Mapped[str] = mapped_column(default="", server_default="")
    tags: Mapped[list[str]] = mapped_column(default=list, server_default="[]")
    """Those of the task: all its versions have the same."""
    provenance: Mapped[str] = mapped_column(default="", server_default="")
    citations: Mapped[list[Citation]] = mapped_column(default=list, server_default="[]")


class BenchmarkTaskRow(Base):
    """A version of a task that belongs to a benchmark. A benchmark is there as long as it has tasks."""

    __tablename__ = "benchmark_task"
    __table_args__ = (UniqueConstraint("benchmark", "task"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    benchmark: Mapped[str]
    task: Mapped[str]
    """The slug of the task, of which a benchmark has one version."""
    version_id: Mapped[int] = mapped_column(ForeignKey("task_version.id"))


class RunRow(Base):
    """One run. At most one of a version, model and effort is live, except those `beside` others.

    An index that the migrations make enforces it. It is not here, because SQLAlchemy would import all of PostgreSQL's
    dialect for it.
    """

    __tablename__ = "run"
    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("task_version.id"), index=True)
    model: Mapped[str]
    effort: Mapped[str] = mapped_column(default="", server_default="")
    """The reasoning effort of the model; empty for the model as it is."""
    judge: Mapped[str] = mapped_column(server_default="")
    """The model behind `judge_llm`; empty for the server's judge."""
    state: Mapped[RunState] = mapped_column(default=RunState.QUEUED)
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    """The number of the last attempt that was started, from 1. A server that takes the run up again starts another."""
    started: Mapped[datetime | None] = mapped_column(default=None)
    ended: Mapped[datetime | None] = mapped_column(default=None)
    error: Mapped[str] = mapped_column(default="")
    numeric_result: Mapped[float | None] = mapped_column(default=None)
    """The number that the task returned, or the mean of those of its rows."""
    boolean_result: Mapped[bool | None] = mapped_column(default=None)
    """Whether the model passed, for a task that returned no number."""
    cancelled: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether a client cancelled the run. Its row no longer changes then, and lists leave it out."""
    beside: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether the queue took the run although another one may be in progress."""
    benchmark: Mapped[str] = mapped_column(default="", server_default="")
    """The slug of the benchmark for which the run was put into the queue, if any."""
    created: Mapped[datetime] = mapped_column(default=now, index=True)
    version: Mapped[VersionRow] = relationship(lazy="joined")


class ModelRow(Base):
    """The number of a model, or of `MODEL@EFFORT`, which the protocol needs and which models.toml does not change."""

    __tablename__ = "model"
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)


class TokenRow(Base):
    """A Model Proxy token, stored as its hash."""

    __tablename__ = "token"
    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    expires: Mapped[datetime]
    model: Mapped[str] = mapped_column(default="", server_default="")
    effort: Mapped[str] = mapped_column(default="", server_default="")
    """The effort of requests to `model`, if they do not have one."""


class UsageRow(Base):
    """One answered request to a model."""

    __tablename__ = "usage"
    id: Mapped[int] = mapped_column(primary_key=True)
    token_id: Mapped[int] = mapped_column(index=True)
    model: Mapped[str]
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    input_tokens: Mapped[int] = mapped_column(_Whole, default=0)
    output_tokens: Mapped[int] = mapped_column(_Whole, default=0)
    cost_nanodollars: Mapped[int] = mapped_column(_Whole, default=0)


class MetaRow(Base):
    """What the database says about itself."""

    __tablename__ = "meta"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
