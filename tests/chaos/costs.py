"""What the settings of Redis that narrow a loss cost: saves of one step each, on one connection, the settings in turn
many times over, so that whatever else the machine does befalls all alike. ``python -m chaos.costs``, in ``tests/``.
"""

import statistics
import sys
import time
from typing import Any

from redis import Redis

from chaos.grounds import RedisGround
from kvflow import Lease, Status, StoredRun
from kvflow.stores import RedisStore
from servers.guardian import Guardian
from servers.valkey import pair

ROUNDS, SAVES = 40, 50

Settings = tuple[str, str, int, bool]

WAYS: dict[str, Settings] = {
    "`appendonly no`": ("no", "everysec", 0, False),
    "`appendfsync everysec`": ("yes", "everysec", 0, False),
    "`everysec`, `min-replicas-to-write 1`": ("yes", "everysec", 1, False),
    "`everysec`, `WAIT 1` after each save": ("yes", "everysec", 0, True),
    "`appendfsync always`": ("yes", "always", 0, False),
    "`always`, `min-replicas-to-write 1`": ("yes", "always", 1, False),
    "`always`, `WAIT 1` after each save": ("yes", "always", 0, True),
}
"""AOF, its fsync, the replicas without which nothing is written, and whether each save is waited for at one."""

BASE = "`appendfsync everysec`"


def main() -> None:
    guardian = Guardian()
    primary, replica = pair(guardian, "costs")
    try:
        for server in (primary, replica):
            server.start()
        ground = RedisGround(primary, "costs")
        RedisGround(replica, "costs").do("REPLICAOF", "127.0.0.1", ground.port)
        while ground.do("WAIT", 1, 100) != 1:
            time.sleep(0.1)
        took = measured(ground)
    finally:
        primary.close()
        replica.close()
        guardian.close()
    base = statistics.median(took[BASE])
    for name, seconds in took.items():
        median = statistics.median(seconds)
        sys.stdout.write(f"| {name} | {median * 1e6:.0f} µs | {median / base:.2f} |\n")


def measured(ground: RedisGround) -> dict[str, list[float]]:
    """Seconds for a save, by the settings; one median a round."""
    took: dict[str, list[float]] = {name: [] for name in WAYS}
    with Redis("127.0.0.1", ground.port, protocol=2, single_connection_client=True) as client:
        store = RedisStore(client, prefix=ground.prefix)
        for turn in range(ROUNDS):
            for name, (kept, synced, replicas, waits) in WAYS.items():
                ground.do("CONFIG", "SET", "appendonly", kept, "appendfsync", synced, "min-replicas-to-write", replicas)
                while b"rewrite_in_progress:1" in bytes(str(ground.do("INFO", "persistence")), "utf8"):
                    time.sleep(0.01)
                took[name].append(statistics.median(saves(store, client, f"{turn}", waits)))
    return took


def saves(store: RedisStore, client: Any, name: str, waits: bool) -> list[float]:
    """The seconds of each save of one run, which is deleted afterwards."""
    took: list[float] = []
    lease = Lease(name, 60_000)
    for version in range(1, SAVES + 1):
        run = StoredRun(
            run_id=name,
            workflow="w",
            status=Status.RUNNING,
            version=version,
            created_at=1,
            updated_at=1,
            snapshot=bytes(200),
            seen=version - 1,
        )
        began = time.perf_counter()
        store.save(run, [bytes(200)], lease)
        if waits:
            client.execute_command("WAIT", 1, 1000)
        took.append(time.perf_counter() - began)
    store.delete(name)
    return took


if __name__ == "__main__":
    main()
