"""What each store is measured on, and the settings that say how durable a write to it is."""

import os
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import psutil

from bench import floors
from bench.floors import Floor
from kvflow.store import Store
from kvflow.stores import MemoryStore, open_store


class Ground:
    """A place to measure one store; this one is for stores that need none: MemoryStore."""

    name = "memory"
    served = False
    """Whether there is a server, to which several processes can talk."""

    can_be_slow = False
    """Whether commits can be made slow, as they are on other disks."""

    bare_goal: float | None = None
    """How many times the bare write a save may take."""

    modes: tuple[str, ...] = ("",)
    """Durability settings under which saves are held against the bare write."""

    counts: str | None = None
    """What ``counted`` counts, where it can."""

    log = ""
    """What is written before a write is durable, by the name that people know it by."""

    url = "memory:"
    port = 0
    """Where the server listens when the URL does not say."""

    server = "this process's memory"
    """What the rows name: a server and its version."""

    durability = "nothing is durable"
    """What the rows name of how durable a write is; in ``about`` there is more."""

    def __init__(self) -> None:
        self.about = ["in this process's memory: nothing is durable"]

    def opener(self, prefix: str, url: str | None = None) -> Callable[[], Store]:
        """What opens the store whose data go by this prefix, at another URL if need be; other processes can have it."""
        return MemoryStore

    def floor(self) -> AbstractContextManager[Floor]:
        """The bare write; only where there is a goal for it."""
        raise NotImplementedError

    def mode(self, mode: str) -> None:
        """Set one of ``modes``."""

    def loading(self) -> AbstractContextManager[object]:
        """Within it much is loaded, and need not be durable."""
        return nullcontext()

    def slow(self, seconds: float) -> AbstractContextManager[object]:
        """Within it each commit takes at least so long, of connections that are opened within it."""
        raise NotImplementedError

    def settle(self) -> None:
        """After loading: what the server would have done by itself some minutes later."""

    def counting(self) -> AbstractContextManager[object]:
        """Within it ``counted`` goes up."""
        return nullcontext()

    def counted(self) -> int:
        """How many of ``counts`` there were so far, as seen when no store is open."""
        raise NotImplementedError

    def written(self) -> int | None:
        """How many bytes went into ``log`` so far; None where nobody can tell."""
        return None


class FileGround(Ground):
    """A directory below the one for temporary files (``TMPDIR``)."""

    name = "file"
    bare_goal = 2.0
    counts = "fsyncs"
    log = "files"
    can_be_slow = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"file:{path}"
        self._syncs = 0
        kind = filesystem(path)
        self.server, self.durability = "files", f"fdatasync on {kind}"
        self.about = [f"fdatasync on {kind}, {path}"]
        if kind in ("tmpfs", "ramfs"):
            self.about.append("nothing is durable on it: set TMPDIR to a directory on a disk")

    def opener(self, prefix: str, url: str | None = None) -> Callable[[], Store]:
        return partial(open_store, f"{url or self.url}/{prefix}", timeout=60.0)

    def floor(self) -> AbstractContextManager[Floor]:
        return floors.file(self._path / "bare")

    @contextmanager
    def loading(self) -> Generator[None]:
        """Without syncs, which would take minutes; then with one for all."""
        with mock.patch("os.fsync", _no_sync), mock.patch("os.fdatasync", _no_sync):
            yield
        os.sync()

    @contextmanager
    def slow(self, seconds: float) -> Generator[None]:
        """Each sync of this process waits first."""
        with mock.patch("os.fsync", _late(os.fsync, seconds)), mock.patch("os.fdatasync", _late(os.fdatasync, seconds)):
            self.durability += f" after {seconds * 1000:.0f} ms"
            yield
        self.durability = self.durability.rpartition(" after ")[0]

    @contextmanager
    def counting(self) -> Generator[None]:
        """Within it the syncs of this process are counted."""
        with mock.patch("os.fsync", self._counter(os.fsync)), mock.patch("os.fdatasync", self._counter(os.fdatasync)):
            yield

    def counted(self) -> int:
        return self._syncs

    def written(self) -> int | None:
        """By this process; Linux tells."""
        told = psutil.Process().io_counters() if psutil.LINUX else None
        return told.write_chars if told else None

    def _counter(self, sync: Callable[[Any], None]) -> Callable[[Any], None]:
        def count(descriptor: Any) -> None:
            self._syncs += 1
            sync(descriptor)

        return count


def _late(sync: Callable[[Any], None], seconds: float) -> Callable[[Any], None]:
    def late(descriptor: Any) -> None:
        time.sleep(seconds)
        sync(descriptor)

    return late


def _no_sync(descriptor: Any) -> None:
    """Instead of a sync."""


class PostgresGround(Ground):
    name = "postgres"
    served = True
    bare_goal = 1.5
    counts = "WAL syncs"
    log = "WAL"
    port = 5432

    def __init__(self, url: str) -> None:
        self.url = url
        with floors.postgres_connection(url) as connection:
            show = {name: str(_one(connection.execute(f"SHOW {name}".encode()))) for name in POSTGRES_SETTINGS}
        self._version = int(show["server_version_num"])
        self.server = f"PostgreSQL {show['server_version'].split()[0]}"
        self.durability = _settings({name: show[name] for name in ("fsync", "synchronous_commit")})
        self.can_be_slow = show["fsync"] == "on" and show["synchronous_commit"] == "on"
        self.about = [
            f"PostgreSQL {show.pop('server_version')} at {_where(url)}",
            _settings(show, "server_version_num"),
        ]

    def opener(self, prefix: str, url: str | None = None) -> Callable[[], Store]:
        return partial(open_store, url or self.url, prefix=prefix, timeout=60.0)

    def floor(self) -> AbstractContextManager[Floor]:
        return floors.postgres(self.url)

    @contextmanager
    def slow(self, seconds: float) -> Generator[None]:
        """By ``commit_delay``, which a lone commit waits for too where ``commit_siblings`` is 0."""
        settings = {"commit_delay": f"{seconds * 1e6:.0f}", "commit_siblings": "0"}
        usual = self.durability
        with floors.postgres_connection(self.url) as connection:
            database = f'ALTER DATABASE "{urlsplit(self.url).path.strip("/")}"'
            for name, value in settings.items():
                connection.execute(f"{database} SET {name} = {value}".encode())
            self.durability = f"{usual}, {_settings(settings)}"
            try:
                yield
            finally:
                self.durability = usual
                for name in settings:
                    connection.execute(f"{database} RESET {name}".encode())

    def settle(self) -> None:
        with floors.postgres_connection(self.url) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    def counted(self) -> int:
        """Backends tell what they did at the latest when they end."""
        syncs = (
            "SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'"
            if self._version >= 180000
            else "SELECT wal_sync FROM pg_stat_wal"
        )
        with self._alone() as connection:
            return int(_one(connection.execute(syncs)))

    @contextmanager
    def _alone(self) -> Generator[floors.PostgresConnection]:
        """A connection, once it is the only one to the database: in one transaction, however long that takes."""
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        deadline = time.monotonic() + 10
        with floors.postgres_connection(self.url) as connection, connection.transaction():
            while (
                _one(connection.execute(f"{others} AND backend_type = 'client backend'".encode()))
                and time.monotonic() < deadline
            ):
                time.sleep(0.01)
                connection.execute("SELECT pg_stat_clear_snapshot()")
            yield connection

    def written(self) -> int | None:
        with floors.postgres_connection(self.url) as connection:
            return int(_one(connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")))

    def commits(self) -> int:
        """How many transactions the database has committed, as seen when no store is open."""
        with self._alone() as connection:
            committed = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            return int(_one(connection.execute(committed)))


POSTGRES_SETTINGS = (
    *("server_version", "server_version_num", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method"),
    *("shared_buffers", "autovacuum"),
)


class MySQLGround(Ground):
    name = "mysql"
    served = True
    bare_goal = 1.8
    counts = "InnoDB syncs"
    log = "redo log"
    port = 3306

    def __init__(self, url: str) -> None:
        self.url = url
        with floors.mysql_connection(url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT version(), " + ", ".join(f"@@{name}" for name in MYSQL_SETTINGS))
            (version, *values), *_ = cursor.fetchall()
        kind = "MariaDB" if "maria" in str(version).lower() else "MySQL"
        settings = {name: str(value) for name, value in zip(MYSQL_SETTINGS, values, strict=True)}
        self.server = f"{kind} {str(version).split('-')[0]}"
        self.durability = _settings({name: settings[name] for name in MYSQL_SETTINGS[:3]})
        self.about = [f"{kind} {version} at {_where(url)}", _settings(settings)]

    def opener(self, prefix: str, url: str | None = None) -> Callable[[], Store]:
        return partial(open_store, url or self.url, prefix=prefix, timeout=60.0)

    def floor(self) -> AbstractContextManager[Floor]:
        return floors.mysql(self.url)

    def counted(self) -> int:
        return self._status("Innodb_data_fsyncs")

    def written(self) -> int | None:
        return self._status("Innodb_os_log_written")

    def _status(self, name: str) -> int:
        with floors.mysql_connection(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(f"SHOW GLOBAL STATUS LIKE '{name}'")
            ((_, count), *_) = cursor.fetchall()
            return int(count)


MYSQL_SETTINGS = (
    *("innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "innodb_doublewrite", "innodb_flush_method"),
    "innodb_buffer_pool_size",
)


class RedisGround(Ground):
    name = "redis"
    served = True
    bare_goal = 1.25
    counts = "commands"
    log = "AOF"
    port = 6379

    def __init__(self, url: str, name: str, ours: bool) -> None:
        self.url = url
        self._name = name
        if ours:  # somebody else's server stays as it is
            self.modes = ("appendfsync everysec", "appendfsync always")
            self.mode(self.modes[0])
        with floors.redis_client(url) as client:
            server: dict[str, Any] = client.info("server")
            settings: dict[str, str] = client.config_get(*REDIS_SETTINGS)
        version = server.get("valkey_version") or server["redis_version"]
        kind = "Valkey" if "valkey_version" in server else "Redis"
        self.server = f"{kind} {version}"
        self._told(settings)
        self.about = [f"{kind} {version} at {_where(url)}", _settings(settings)]
        if ours:
            self.about.append("all but the rows that say otherwise under appendfsync everysec")

    def _told(self, settings: dict[str, str]) -> None:
        on = settings["appendonly"] == "yes"
        self.durability = f"appendonly=yes, appendfsync={settings['appendfsync']}" if on else "appendonly=no"

    def opener(self, prefix: str, url: str | None = None) -> Callable[[], Store]:
        return partial(open_store, url or self.url, prefix=self.prefix(prefix), timeout=60.0)

    def prefix(self, name: str) -> str:
        """What keys must begin with, or have in them behind a colon, to be removed at the end."""
        return f"{self._name}_{name}"

    def floor(self) -> AbstractContextManager[Floor]:
        return floors.redis(self.url, f"{self._name}:bare")

    def mode(self, mode: str) -> None:
        if mode:
            with floors.redis_client(self.url) as client:
                client.config_set(*mode.split(" "))
                self._told(client.config_get(*REDIS_SETTINGS))

    def counted(self) -> int:
        with floors.redis_client(self.url) as client:
            return int(client.info("stats")["total_commands_processed"])

    def written(self) -> int | None:
        """Where there is an AOF."""
        with floors.redis_client(self.url) as client:
            size: int | None = client.info("persistence").get("aof_current_size")
            return size

    def clear(self) -> None:
        """Remove our keys from somebody else's server."""
        with floors.redis_client(self.url) as client:
            keys: Iterable[bytes] = client.scan_iter(f"*{self._name}_*", count=1000)
            some: list[bytes] = []
            for key in keys:
                some.append(key)
                if len(some) == 1000:
                    client.unlink(*some)
                    some.clear()
            if some:
                client.unlink(*some)


REDIS_SETTINGS = ("appendonly", "appendfsync", "save", "maxmemory-policy")


def _one(cursor: Any) -> Any:
    return cursor.fetchone()[0]


def _settings(values: dict[str, str], *left_out: str) -> str:
    return ", ".join(
        f"{name}={value!r}" if " " in value or not value else f"{name}={value}"
        for name, value in values.items()
        if name not in left_out
    )


def _where(url: str) -> str:
    where = urlsplit(url)
    return f"{where.hostname}:{where.port}" if where.port else where.hostname or url


def filesystem(path: Path) -> str:
    """The kind of file system that holds the path."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[place] for place in (path, *path.parents) if place in mounts), "an unknown file system")
