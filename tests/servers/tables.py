"""Taking away what tests left on a server."""

from urllib.parse import urlsplit

import psycopg
import pymysql


def drop(url: str, prefix: str) -> None:
    """Drop the tables of this prefix from a SQL server; on Redis an emptied store is gone but for a few bytes."""
    if url.startswith("postgres"):
        with psycopg.connect(url) as connection:
            connection.execute(f"DROP TABLE IF EXISTS {prefix}_run, {prefix}_log, {prefix}_schema".encode())
    elif not url.startswith("redis"):
        where = urlsplit(url)
        with (
            pymysql.connect(
                host=where.hostname,
                port=where.port or 3306,
                user=where.username,
                password=where.password or "",
                database=where.path.strip("/"),
            ) as ours,
            ours.cursor() as cursor,
        ):
            cursor.execute(f"SHOW TABLES LIKE '{prefix}\\_%'")
            for (table,) in sorted(cursor.fetchall(), key=lambda row: "log" not in row[0]):
                cursor.execute(f"DROP TABLE `{table}`")
