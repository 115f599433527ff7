"""The pages for browsers: all tasks at `/`, and at a task's URL the states of its runs.

What a browser opens first is the same for everybody and holds nothing. Its script takes the token from the fragment of
the URL, which browsers do not send, or asks for it, keeps it in `sessionStorage`, which no other port of this machine
can read, and asks with it for the text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from fanbench.local.routes.tasks import find_version
from fanbench.local.wire import OWNER, Services, WireError, authorize
from fanbench.wire.candidates import Candidate
from fanbench.wire.messages import TaskSlug

SHOWN_RUNS = 500
"""The most runs on a page."""

SHOWN_TASKS = 500
"""The most tasks on a page, the newest of them."""

_STYLE = "body { font: 14px/1.5 monospace; margin: 2rem; color-scheme: light dark }"
_SCRIPT = r"""
const [text, form, field] = ["text", "form", "field"].map((id) => document.getElementById(id));

function takeFromFragment() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token) {
    sessionStorage.setItem("token", token);
    history.replaceState(null, "", location.pathname + location.search);
  }
}

// A line that begins with a path of this server leads there.
function linked(line) {
  const path = /^\/(?:benchmarks\/tasks\/[\w/-]+)?(?= |$)/.exec(line)?.[0];
  if (!path) return line;
  const span = document.createElement("span"), link = document.createElement("a");
  link.href = link.textContent = path;
  span.append(link, line.slice(path.length));
  return span;
}

async function show() {
  const token = sessionStorage.getItem("token");
  form.hidden = Boolean(token);
  if (!token) return;
  try {
    const answer = await fetch(location.pathname, { headers: { Authorization: `Bearer ${token}` } });
    text.replaceChildren(...(await answer.text()).split("\n").flatMap((line) => [linked(line), "\n"]));
    form.hidden = answer.status !== 401;
  } catch (error) {
    text.textContent = `The server does not answer: ${error.message}`;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", field.value.trim());
  show();
});
addEventListener("hashchange", () => { takeFromFragment(); show(); });
takeFromFragment();
show();
"""
_PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>fanbench</title>
<style>{_STYLE}</style>
<pre id="text"></pre>
<form id="form" hidden>
<label>The token of this server: <input id="field" type="password" autocomplete="off" required></label>
<button>Show</button>
</form>
<noscript>This page needs JavaScript.</noscript>
<script>{_SCRIPT}</script>
</html>
"""


def _allow(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; script-src {_allow(_SCRIPT)}; style-src {_allow(_STYLE)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "vary": "Authorization",
    "x-content-type-options": "nosniff",
}


async def start_page(services: Services, request: Request) -> Response:
    """All tasks of the server, with the addresses of their pages."""
    return await _answer(services, request, _describe_all)


async def task_page(services: Services, request: Request) -> Response:
    """The runs of a task."""
    return await _answer(services, request, _describe)


async def _answer(
    services: Services, request: Request, describe: Callable[[Services, Request], Awaitable[str]]
) -> Response:
    """The text for requests with the token, and otherwise the page that asks for it."""
    if "authorization" not in request.headers:
        return HTMLResponse(_PAGE, headers=_HEADERS)
    try:
        authorize(services, request)
        text, status = await describe(services, request), 200
    except WireError as error:
        text, status = error.message, error.status
    return PlainTextResponse(f"{text}\n", status_code=status, headers=_HEADERS)


async def _describe_all(services: Services, request: Request) -> str:
    versions = await services.store.newest_versions()
    shown = versions[-SHOWN_TASKS:]
    lines = ["This is the local server of fanbench.", ""]
    lines += [
        f"/benchmarks/tasks/{OWNER}/{each.slug}  version {each.version}: {each.state.label}" for each in shown
    ] or ["No task has been pushed yet: fanbench tasks push FILE --local"]
    if len(versions) > len(shown):
        lines.append(f"and {len(versions) - len(shown)} older ones: fanbench tasks list --local")
    lines += [
        "",
        "To run many tasks on many models, and look on: fanbench sweep TASK... -m MODEL --local --view",
    ]
    return "\n".join(lines)


async def _describe(services: Services, request: Request) -> str:
    words = request.path_params
    slug = TaskSlug(
        owner_slug=words["owner"], task_slug=words["slug"], version_number=words.get("version", 0)
    )
    version = await find_version(services, slug)
    runs, total = await services.store.runs(version.id, [], after=0, limit=SHOWN_RUNS)
    lines = [
        f"{version.slug}, version {version.version}: {version.state.label}",
        "",
        *(f"  run {run.id}  {Candidate(run.model, run.effort).label}: {run.state.label}" for run in runs),
        f"{total} runs. To look at their results, with what was said in them:",
        f"  fanbench tasks download {version.slug} -o results --local && fanbench view results",
        "",
        "/  all tasks",
    ]
    return "\n".join(lines)
