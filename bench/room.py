"""How much room the runs of one store take on its server, by part: heads, records, and each index."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import floors
from bench.grounds import FileGround, Ground, MySQLGround, PostgresGround, RedisGround

SAMPLE = 200
"""Keys of Redis that are asked one by one."""

POSTGRES = """SELECT c.relname, pg_relation_size(c.oid) + coalesce(pg_relation_size(c.reltoastrelid), 0)
FROM pg_class c
WHERE c.relkind IN ('r', 'i') AND c.relname LIKE %s"""

MYSQL = """SELECT table_name, index_name, stat_value * @@innodb_page_size FROM mysql.innodb_index_stats
WHERE database_name = DATABASE() AND stat_name = 'size' AND table_name IN (%s, %s)"""


def room(ground: Ground, prefix: str, run_ids: list[str]) -> dict[str, float]:
    """Bytes a run of each part, of a store that holds these runs and nothing else."""
    total: dict[str, float]
    match ground:
        case PostgresGround():
            total = _postgres(ground, prefix)
        case MySQLGround():
            total = _mysql(ground, prefix)
        case RedisGround():
            return _redis(ground, ground.prefix(prefix), run_ids)
        case FileGround():
            total = _file(ground, prefix)
        case _:
            return {}
    return {part: size / len(run_ids) for part, size in total.items()}


def _postgres(ground: PostgresGround, prefix: str) -> dict[str, float]:
    with floors.postgres_connection(ground.url) as connection:
        connection.execute("VACUUM")
        rows = connection.execute(POSTGRES, (f"{prefix}_%",)).fetchall()
        return {_part(name, prefix): float(size) for name, size in rows if "schema" not in name}


def _mysql(ground: MySQLGround, prefix: str) -> dict[str, float]:
    tables = (f"{prefix}_runs", f"{prefix}_log")
    with floors.mysql_connection(ground.url) as connection, connection.cursor() as cursor:
        cursor.execute(f"ANALYZE TABLE {', '.join(tables)}")
        cursor.fetchall()
        cursor.execute(MYSQL, tables)
        return {f"{_part(table, prefix)}.{index}": float(size) for table, index, size in cursor.fetchall()}


def _part(name: str, prefix: str) -> str:
    """A table or an index, by its name in any store."""
    return f"{{prefix}}{name.removeprefix(prefix)}"


def _redis(ground: RedisGround, tag: str, run_ids: list[str]) -> dict[str, float]:
    with floors.redis_client(ground.url) as client:
        sample = run_ids[:SAMPLE]
        indexes = ("wakes", "births")
        found: dict[str, float] = {
            "run:<id>": sum(_memory(client, f"{{{tag}}}:run:{run_id}") for run_id in sample) / len(sample),
            "log:<id>": sum(_memory(client, f"{{{tag}}}:log:{run_id}") for run_id in sample) / len(sample),
        }
        return found | {name: _memory(client, f"{{{tag}}}:{name}") / len(run_ids) for name in indexes}


def _memory(client: Any, key: str) -> int:
    return client.memory_usage(key, samples=0) or 0


def _file(ground: FileGround, prefix: str) -> dict[str, float]:
    """Blocks of files and directories: a file that holds nothing still has an inode, which is not in them."""
    found: dict[str, float] = {}
    root = Path(urlsplit(ground.url).path) / prefix
    for path in root.rglob("*"):
        part = path.relative_to(root).parts[0]
        found[part] = found.get(part, 0.0) + path.stat().st_blocks * 512
    return found
