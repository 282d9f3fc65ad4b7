"""The stores of a course: where each is, which faults it can be made to suffer, and what is left in it, looked at
without kvflow: keys, rows and files as the server or the disk shows them to anybody.
"""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymysql
from redis import Redis

from chaos.plan import Kind
from kvflow import RunInfo
from servers.process import Server
from servers.tables import drop

WORKERS_DIE = (Kind.KILL, Kind.STOP)
SERVERS_DIE = (*WORKERS_DIE, Kind.CUT, Kind.SERVER_KILLED, Kind.SERVER_FROZEN)


class Ground(ABC):
    """One store."""

    name: str
    url: str
    kinds: tuple[Kind, ...]

    def __init__(self, url: str, prefix: str) -> None:
        self.url = url
        self.prefix = prefix

    @abstractmethod
    def at_rest(self, runs: Mapping[str, RunInfo]) -> Iterator[str]:
        """What is there that should not be when all these runs are over: wakes, leases, parts of runs that are none."""

    @abstractmethod
    def left(self) -> Iterator[str]:
        """What is there when every run was deleted."""

    def fill(self) -> None:
        """Have no space on the disk."""
        raise NotImplementedError

    def free(self) -> None:
        """Have space again."""
        raise NotImplementedError

    def away(self) -> None:
        """Take away what the course made."""
        drop(self.url, self.prefix)


class ServerGround(Ground):
    """A store on a server of the test's own."""

    kinds = SERVERS_DIE

    def __init__(self, server: Server, prefix: str) -> None:
        super().__init__(server.url, prefix)
        self.server = server

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    def by(self, port: int) -> str:
        """Its URL by way of another port."""
        return self.url.replace(f":{self.port}", f":{port}")


class RedisGround(ServerGround):
    name = "redis"

    def do(self, *words: str | bytes | int) -> Any:
        """What the server says to one command."""
        client: Any = Redis("127.0.0.1", self.port, protocol=2)
        with closing(client):
            return client.execute_command(*words)

    def _keys(self) -> set[bytes]:
        return set(self.do("KEYS", f"{{{self.prefix}}}:*"))

    def at_rest(self, runs: Mapping[str, RunInfo]) -> Iterator[str]:
        tag = f"{{{self.prefix}}}:"
        keys = self._keys()
        known = {f"{tag}{kind}:{run}".encode() for run in runs for kind in ("run", "log")}
        indexes = {f"{tag}{name}".encode() for name in ("births", "schema")}
        for key in sorted(keys - known - indexes):
            yield f"the key {key!r} is of no run"
        for key in sorted(known - keys):
            yield f"the key {key!r} is missing"
        born = sorted(entry.partition(b"\n")[2] for entry in self.do("ZRANGE", f"{tag}births", 0, -1))
        if born != sorted(run.encode() for run in runs):
            yield f"the index of births has {len(born)} entries, and there are {len(runs)} runs"

    def left(self) -> Iterator[str]:
        for key in sorted(self._keys() - {f"{{{self.prefix}}}:schema".encode()}):
            yield f"the key {key!r} is left"

    def away(self) -> None:
        for key in self._keys():
            self.do("DEL", key)


class PostgresGround(ServerGround):
    name = "postgres"

    def at_rest(self, runs: Mapping[str, RunInfo]) -> Iterator[str]:
        p = self.prefix
        yield from _of_tables(
            self._ask(f"SELECT run_id, status, token, wake_at, records FROM {p}_run"),
            self._ask(f"SELECT run_id, count(*) FROM {p}_log GROUP BY run_id"),
            runs,
        )

    def left(self) -> Iterator[str]:
        for table in ("run", "log"):
            ((count,),) = self._ask(f"SELECT count(*) FROM {self.prefix}_{table}")
            if count:
                yield f"{count} rows are left in {self.prefix}_{table}"

    def _ask(self, statement: str) -> list[Any]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()


class MySQLGround(ServerGround):
    name = "mysql"

    def at_rest(self, runs: Mapping[str, RunInfo]) -> Iterator[str]:
        p = self.prefix
        rows = self.do(f"SELECT id, run_id, status, token, wake_at, records FROM {p}_runs")
        names = {row[0]: _text(row[1]) for row in rows}
        logs = self.do(f"SELECT id, count(*) FROM {p}_log GROUP BY id")
        yield from _of_tables(
            [(_text(row[1]), _text(row[2]), *row[3:]) for row in rows],
            [(names.get(row[0], f"row {row[0]}"), row[1]) for row in logs],
            runs,
        )

    def left(self) -> Iterator[str]:
        for table in ("runs", "log"):
            ((count,),) = self.do(f"SELECT count(*) FROM {self.prefix}_{table}")
            if count:
                yield f"{count} rows are left in {self.prefix}_{table}"

    def do(self, statement: str) -> list[Any]:
        """What the server says to one statement."""
        where = urlsplit(self.url)
        ours = pymysql.connect(
            host=where.hostname,
            port=where.port or 0,
            user=where.username,
            database=where.path.strip("/"),
            autocommit=True,
        )
        with closing(ours), ours.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


def _text(column: Any) -> str:
    return column.decode() if isinstance(column, bytes) else str(column)


def _of_tables(rows: list[Any], logs: list[Any], runs: Mapping[str, RunInfo]) -> Iterator[str]:
    counts = dict(logs)
    stored = {row[0] for row in rows}
    for run in sorted(stored ^ runs.keys()):
        yield f"{run} has a row or is listed, and not both"
    for run in sorted(counts.keys() - stored):
        yield f"{run} has records and no row"
    for run, status, token, wake_at, records in rows:
        if token is not None:
            yield f"{run} is {status} and has a lease"
        if wake_at is not None:
            yield f"{run} is {status} and has a wake"
        if records != counts.get(run, 0):
            yield f"{run} has {counts.get(run, 0)} records, and its row says {records}"


class FileGround(Ground):
    """A directory on a disk of its own, which can be full: one in memory, where this account may mount one."""

    name = "file"
    SIZE = 64 << 20

    def __init__(self, folder: Path) -> None:
        super().__init__(f"file:{folder}/disk/runs", "kvflow")
        self._disk = folder / "disk"
        self._disk.mkdir(parents=True)
        self._ballast = self._disk / "ballast"
        self.runs = self._disk / "runs" / "runs"
        self._mounted = os.geteuid() == 0 and self._mount()
        self.kinds = (*WORKERS_DIE, Kind.DISK_FULL) if self._mounted else WORKERS_DIE

    def _mount(self) -> bool:
        mount = shutil.which("mount")
        if mount is None:
            return False
        command = [mount, "-t", "tmpfs", "-o", f"size={self.SIZE}", "none", str(self._disk)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        with self._ballast.open("wb") as ballast:
            while True:
                try:
                    os.write(ballast.fileno(), bytes(1 << 16))
                except OSError:
                    break

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def at_rest(self, runs: Mapping[str, RunInfo]) -> Iterator[str]:
        files = self._files()
        if len(files) != len(runs):
            yield f"{len(files)} files are there, and {len(runs)} runs"
        for file in files:
            if file.name.endswith(".new"):
                yield f"{file} was never finished"

    def left(self) -> Iterator[str]:
        for file in self._files():
            yield f"{file} is left"

    def _files(self) -> list[Path]:
        return [file for file in self.runs.rglob("*") if file.is_file()]

    def away(self) -> None:
        if self._mounted:
            subprocess.run(["umount", self._disk], check=True)
