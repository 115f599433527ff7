"""The smallest things that results are made of: one attempt of one model at one item of a task."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

__all__ = ["Item", "ItemState"]


class ItemState(StrEnum):
    """What became of an attempt at an item."""

    SCORED = "scored"
    #: It raised an error, or its run did.
    ERRORED = "errored"
    #: It ended without a value that is a number: none at all, not a number, or several numbers.
    NO_VALUE = "no_value"
    #: Other runs have the item, and this one left nothing about it.
    MISSING = "missing"


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt of one model at one item of a task.

    Attributes:
        task: The task's slug, with its owner where that is known.
        content: Equal for versions of the task that have the same content.
        version: The task's version on the server.
        model: The model's slug, with its owner where that is known.
        sweep: The folder of the sweep, or the folder given.
        run_id: The run's id on the server.
        repeat: The number of the planned run of this task and model, from 1.
        attempt: The number of the attempt at that planned run, from 1.
        superseded: There is a later attempt at that planned run, which counts instead of this one.
        item: The name of the item within the task; empty if the run has only one, which is the run itself. A run may
            have several attempts at an item.
        part: Which sub-run of its run file it is, from 0; None for the run file as a whole.
        state: Whether it has a score.
        value: The score. True is 1, and False is 0.
        kind: `boolean`, `numeric`, or `dict`, which has no score; None without a result.
        low: The low end of the interval that the task itself stated, if it did; only a run as a whole has one.
        high: Its high end.
        tokens_in: Input tokens of the model under test.
        tokens_out: Its output tokens.
        cost_usd: Its cost in US dollars; unknown unless every request reported its cost.
        judge_tokens_in: Input tokens of all other models, such as a judge.
        judge_tokens_out: Their output tokens.
        judge_cost_usd: Their cost in US dollars.
        started: The time of the start as ISO 8601 in UTC, with milliseconds and a Z.
        seconds: The wall time from start to end.
        run_cost_usd: What all requests of its run cost, those that belong to no item included; equal for its items.
        run_seconds: The wall time of its run; equal for its items.
        error: The line of the error message that names the exception. Of an item with a score, it is that of its run.
        server_value: What the server reports for a run that has left nothing here: its score, with 1 for a pass and 0
            for a failure. It is no score of an item, and only the leaderboard shows it.
        path: The run file, relative to `sweep`, or the run's folder if there is no run file.
    """

    task: str
    content: str
    version: int | None = None
    model: str
    sweep: str
    run_id: int | None = None
    repeat: int = 1
    attempt: int = 1
    superseded: bool = False
    item: str = ""
    part: int | None = None
    state: ItemState
    value: float | None = None
    kind: Literal["boolean", "numeric", "dict"] | None = None
    low: float | None = None
    high: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    judge_tokens_in: int | None = None
    judge_tokens_out: int | None = None
    judge_cost_usd: float | None = None
    started: str | None = None
    seconds: float | None = None
    run_cost_usd: float | None = None
    run_seconds: float | None = None
    error: str | None = None
    server_value: float | None = None
    path: str
