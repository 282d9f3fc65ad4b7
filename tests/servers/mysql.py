"""MariaDB or MySQL for the tests: no wheel carries one, so it is the one on this machine, in a directory of our own."""

import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pymysql

from servers.guardian import Guardian
from servers.process import Missing, Server, account, free_port, own_directory, run

HOW = "apt install mariadb-server, or brew install mariadb"

FAST = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0")
"""For the shared server: no test of it loses power. A server of a test's own keeps the server's defaults."""

WHO = """\
CREATE DATABASE IF NOT EXISTS test;
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
"""
"""Run at every start: the installers of MariaDB and MySQL make different accounts."""


def mysql(guardian: Guardian, name: str, *, durable: bool) -> Server:
    """A new MariaDB or MySQL, not yet started, in the directory ``name`` of the session."""
    user = account()
    binary = _find("mariadbd") or _find("mysqld")
    if binary is None:
        raise Missing(f"no MariaDB or MySQL on the PATH: {HOW}")
    home = own_directory(guardian.home / name, user)
    data = home / "data"
    run(_install(binary, data), cwd=home, user=user)
    who = home / "who.sql"
    who.write_text(WHO)
    who.chmod(0o644)
    port = free_port()
    url = f"mysql://root@127.0.0.1:{port}/test"
    command = (
        *(binary, "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"),
        *(f"--socket={home / 'socket'}", f"--pid-file={home / 'pid'}", f"--init-file={who}"),
        f"--tmpdir={home}",  # at its start a server removes what lies in a shared one, whosever it is
        *("--max-connections=200", "--skip-log-bin", "--loose-mysqlx=OFF", "--skip-name-resolve"),
    )
    return Server(
        url,
        command if durable else (*command, *FAST),
        lambda: _answer(url),
        home=home,
        guardian=guardian,
        user=user,
    )


def _install(binary: Path, data: Path) -> list[str | Path]:
    if b"MariaDB" not in subprocess.check_output([binary, "--no-defaults", "--version"]):
        return [binary, "--no-defaults", "--initialize-insecure", f"--datadir={data}"]
    install = _find("mariadb-install-db") or _find("mysql_install_db")
    if install is None:
        raise Missing(
            f"{binary} has no mariadb-install-db beside it: apt install mariadb-server, or brew install mariadb"
        )
    return [install, "--no-defaults", f"--datadir={data}", "--skip-test-db", "--auth-root-authentication-method=normal"]


def _find(name: str) -> Path | None:
    """On the PATH, or where Debian puts servers, which a person's PATH often leaves out."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))
    return None if found is None else Path(found)


def _answer(url: str) -> None:
    where = urlsplit(url)
    connection = pymysql.connect(
        host=where.hostname,
        port=where.port or 0,
        user=where.username,
        database="test",
        connect_timeout=2,
        read_timeout=2,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
