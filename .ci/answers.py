"""Whether a server answers at the URL given, with a database that takes writes: exit status 0 if so."""

import sys
from urllib.parse import urlsplit

url = sys.argv[1]
where = urlsplit(url)
try:
    if where.scheme == "postgresql":
        import psycopg

        with psycopg.connect(url, connect_timeout=2) as connection:
            connection.execute("CREATE TEMPORARY TABLE kvflow_answers (n int)")
    elif where.scheme == "mysql":
        import pymysql

        with pymysql.connect(
            host=where.hostname,
            port=where.port or 3306,
            user=where.username,
            database=where.path.strip("/"),
            connect_timeout=2,
        ) as connection:
            connection.cursor().execute("CREATE TEMPORARY TABLE kvflow_answers (n int)")
    else:
        import redis

        with redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2) as client:
            client.set("kvflow:answers", "", px=1)
except Exception as error:
    print(f"{url}: {error}".splitlines()[0], file=sys.stderr)
    sys.exit(1)
