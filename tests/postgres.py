"""A PostgreSQL server of our own: Debian's programs, on 127.0.0.1, with its data in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 60.0
PASSWORD = "a-secret-of-postgres"
"""Needs no escape in a URL."""


def find_programs() -> Path | None:
    """The folder with the programs of the newest PostgreSQL; None if there is none that we can run."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found and shutil.which("setpriv") else None


class Postgres:
    def __init__(self, programs: Path, folder: Path, *, durable: bool) -> None:
        self.port = _free_port()
        self._durable = durable
        self._programs = programs
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def initialize(self) -> None:
        """Create the data folder, for which every connection needs the password."""
        password = self._data.with_name("password")
        password.write_text(PASSWORD)
        self._run(
            "initdb", "-U", "fan", "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--no-sync"
        )

    def start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "on" if self._durable else "off",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [*_as_nobody(), str(self._programs / "postgres"), "-D", str(self._data), *words]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if (
                subprocess.run(
                    [self._programs / "pg_isready", "-q", "-h127.0.0.1", f"-p{self.port}"]
                ).returncode
                == 0
            ):
                return
            time.sleep(0.05)
        raise AssertionError(self._log.read_text())

    def stop(self) -> None:
        """End it and all connections at once, as with `pg_ctl stop -m immediate`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(START_SECONDS)
            self._process = None

    def psql(self, statement: str, database: str = "postgres") -> str:
        """Execute one statement as the superuser. Return what it selects."""
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "fan", "-d", database]
        command = [
            str(self._programs / "psql"),
            "-X",
            "-q",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            *address,
            "-c",
            statement,
        ]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def create_database(self) -> str:
        """Create an empty database. Return its URL."""
        name = f"test_{secrets.token_hex(6)}"
        self.psql(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str, user: str = "fan", password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *words: str) -> None:
        command = [*_as_nobody(), str(self._programs / program), "-D", str(self._data), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def run_postgres(programs: Path, *, durable: bool = False) -> Iterator[Postgres]:
    """A server until the end of the block. It ends with this process, whatever happens.

    Unless it is `durable`, it does not wait for the disk, which saves time.
    """
    folder = Path(tempfile.mkdtemp(prefix="fanbench-postgres-"))
    try:
        if os.getuid() == 0:
            owner = _user()
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        postgres = Postgres(programs, folder, durable=durable)
        postgres.initialize()
        try:
            postgres.start()
            yield postgres
        finally:
            postgres.stop()
    finally:
        shutil.rmtree(folder)


def _as_nobody() -> list[str]:
    """The words before a command that ends with us, and as whom it is to run: PostgreSQL refuses root."""
    words = ["setpriv", "--pdeathsig=QUIT"]
    if os.getuid() == 0:
        words += [f"--reuid={_user().pw_uid}", f"--regid={_user().pw_gid}", "--clear-groups"]
    return words


def _user() -> pwd.struct_passwd:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
