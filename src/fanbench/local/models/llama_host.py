"""One GGUF file served by llama.cpp, in a process of its own: `python -m fanbench.local.models.llama_host JSON`.

It has a process of its own because a damaged file kills llama.cpp's process, because ending the process is the only
sure way to free its memory, and because its threads would disturb the server's event loop. It prints its address as
one line on stdout, and ends when its stdin does, that is, with the server.
"""

from __future__ import annotations

import os
import signal
import sys

import msgspec


class HostedModel(msgspec.Struct):
    """The argument of this program."""

    path: str
    context: int
    """Tokens of context per concurrent request."""
    parallel: int
    threads: int
    chat_template: str


def main() -> None:
    spec = msgspec.json.decode(sys.argv[1], type=HostedModel)
    # Service managers signal every process of a service, but runs that may still end need their model.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The address goes to the real stdout; what llama.cpp prints there goes to stderr, the server's log.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = spec.path
    params.n_ctx = spec.context * spec.parallel
    params.n_parallel = spec.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = spec.threads
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.offline = True
    params.verbosity = 1  # errors: at the default it logs 800 bytes a request
    params.api_keys = [os.environ["FANBENCH_HOST_KEY"]]
    if spec.chat_template:
        params.chat_template = spec.chat_template
    server = xllamacpp.Server(params)
    answer.write(server.listening_address + "\n")
    answer.close()
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
