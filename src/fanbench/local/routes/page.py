"""The page at a task's URL: plain text for a browser. It needs no token, and so shows states only."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from fanbench.local.routes.tasks import find_version
from fanbench.local.wire import Services, WireError
from fanbench.wire.messages import TaskSlug

SHOWN = 500


async def task_page(services: Services, request: Request) -> Response:
    words = request.path_params
    slug = TaskSlug(
        owner_slug=words["owner"], task_slug=words["slug"], version_number=words.get("version", 0)
    )
    try:
        version = await find_version(services, slug)
    except WireError as error:
        return PlainTextResponse(f"{error.message}\n", status_code=error.status)
    runs, total = await services.store.runs(version.id, [], after=0, limit=SHOWN)
    lines = [
        f"{version.slug}, version {version.version}: {version.state.label}",
        "",
        *(f"  run {run.id}  {run.model}: {run.state.label}" for run in runs),
        f"{total} runs. Their results: fanbench tasks download {version.slug} --local && fanbench results .",
    ]
    return PlainTextResponse("\n".join(lines) + "\n")
