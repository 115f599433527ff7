"""Measure the tokens per second of the embedded models, through the Model Proxy and with llama.cpp called directly.

    python benchmarks/model_speed.py [--tokens 96]

Both run alternately with the same options (half of the cores). Their ratio is the overhead of the proxy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx

from fanbench import Client, resolve_config
from fanbench.local.address import LocalServer, find_server
from fanbench.local.folder import DataFolder
from fanbench.local.models.catalog import Catalog, write_catalog
from fanbench.local.models.embedded import Embedded, default_threads
from fanbench.local.models.provision import BUNDLED, provide_bundled

PROMPTS = ["Tell me about the sea.", "Describe a forest.", "What is a city?", "Explain the rain."]

Ask = Callable[[str], int]
"""Answers a prompt and returns the number of tokens generated."""


def rate(ask: Ask, at_once: int) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        tokens = sum(pool.map(ask, PROMPTS[:at_once]))
    return tokens / (time.perf_counter() - start)


def request(prompt: str, tokens: int) -> dict[str, Any]:
    # Both generate the full number of tokens, wherever the model would stop.
    return {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
    }


def direct(spec: Embedded, tokens: int) -> None:
    """Run in a separate process: for each number read from stdin, print the rate with that many requests."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = spec.path
    params.n_ctx, params.n_parallel = spec.context * spec.parallel, spec.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = default_threads()
    params.offline = True
    if spec.chat_template:
        params.chat_template = spec.chat_template
    server = xllamacpp.Server(params)

    def ask(prompt: str) -> int:
        answer = server.handle_chat_completions(request(prompt, tokens))
        return int(answer["usage"]["completion_tokens"])

    ask("Hello")
    for line in sys.stdin:
        print(json.dumps(rate(ask, int(line))), flush=True)


def proxied(address: LocalServer, slug: str, tokens: int) -> Ask:
    async def key() -> str:
        async with Client(resolve_config(endpoint=address.url, token=address.token)) as client:
            return (await client.create_proxy_token()).token

    http = httpx.Client(
        base_url=f"{address.url}/models", headers={"authorization": f"Bearer {anyio.run(key)}"}, timeout=300
    )

    def ask(prompt: str) -> int:
        answer = http.post("openapi/chat/completions", json=request(prompt, tokens) | {"model": slug})
        return int(answer.raise_for_status().json()["usage"]["completion_tokens"])

    return ask


def compare(address: LocalServer, spec: Embedded, tokens: int) -> dict[str, Any]:
    model = json.dumps([spec.path, spec.chat_template])
    command = [sys.executable, __file__, "--direct", model, "--tokens", str(tokens)]
    ask = proxied(address, spec.slug, tokens)
    ask("Hello")
    report: dict[str, Any] = {}
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for at_once in (1, 4):
            pairs = []
            for _ in range(3):
                print(at_once, file=other.stdin, flush=True)
                pairs.append((float(other.stdout.readline()), rate(ask, at_once)))
            report[f"{at_once} at once"] = {
                "direct tokens/s": round(statistics.median(pair[0] for pair in pairs), 1),
                "proxy tokens/s": round(statistics.median(pair[1] for pair in pairs), 1),
                "proxy / direct": round(statistics.median(pair[1] / pair[0] for pair in pairs), 2),
            }
        other.stdin.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--direct", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.direct:
        path, template = json.loads(arguments.direct)
        direct(Embedded(slug="x/y", path=path, chat_template=template), arguments.tokens)
        return
    report: dict[str, Any] = {
        "cores": os.cpu_count(),
        "threads": default_threads(),
        "tokens": arguments.tokens,
    }
    with tempfile.TemporaryDirectory() as top:
        folder = DataFolder(Path(top))
        specs = [provide_bundled(name, folder, print) for name in BUNDLED]
        # With stop words, the answers of the two would differ in length.
        specs = [Embedded(slug=s.slug, path=s.path, chat_template=s.chat_template) for s in specs]
        write_catalog(folder.models_file, Catalog(model=[*specs]))
        command = [sys.executable, "-m", "fanbench", "serve", "--data", top, "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while (address := find_server(Path(top))) is None:
                time.sleep(0.02)
            for spec in specs:
                report[spec.slug] = compare(address, spec, arguments.tokens)
        finally:
            process.terminate()
            process.wait()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
