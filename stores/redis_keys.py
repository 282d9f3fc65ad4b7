"""Where everything of one store is in Redis.

All keys carry the prefix as their hash tag, so that a cluster keeps a store on one node and a script may
touch any of them. No prefix holds a brace or a colon, so no two stores share a key.
"""


class Keys:
    """The keys of the store with this prefix."""

    def __init__(self, prefix: str) -> None:
        tag = f"{{{prefix}}}:".encode()
        self.schema = tag + b"schema"
        self.head = tag + b"run:"
        self.log = tag + b"log:"
        self.births = tag + b"births"
        self.leases = tag + b"leases"
        self.index = (tag + b"wakes", self.leases)
        self.indexes = (*self.index, self.births)

    def of(self, run_id: str) -> tuple[bytes, bytes]:
        """A run's head and log."""
        name = run_id.encode()
        return self.head + name, self.log + name


def place(entry: bytes) -> bytes:
    """What an entry of wakes or leases is ordered by within its workflow: the time, then the id."""
    return entry.partition(b"\n")[2]


def name(entry: bytes) -> bytes:
    """The id of an entry's run."""
    return entry.rpartition(b"\n")[2]


def birth(created_at: int, run_id: str) -> bytes:
    """The entry of a run in the index of births."""
    return f"{created_at:016}\n{run_id}".encode()
