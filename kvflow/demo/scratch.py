"""Where a demo takes place: a folder, and a store that nobody else uses. Afterwards both are gone."""

import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from kvflow.errors import InvalidArgument
from kvflow.store import Store
from kvflow.stores import open_store
from kvflow.stores.upkeep import upkeep_of


class Scratch(Struct, frozen=True):
    """The folder, and how any process finds the store."""

    folder: Path
    url: str
    prefix: str
    store: Store

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"


@contextmanager
def scratch(url: str | None) -> Generator[Scratch]:
    """With a FileStore in the folder, unless a URL names another server; there, under a new prefix."""
    if url is not None and url.lower().startswith("memory:"):
        raise InvalidArgument("memory: is seen by one process alone, and the demo's workers are three")
    prefix = f"kvflow_demo_{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="kvflow-demo-") as name:
        folder = Path(name)
        where = url or f"file:{folder}/store"
        upkeep = upkeep_of(where, prefix=prefix)
        _see_that_it_answers(where, prefix)
        try:
            with open_store(where, prefix=prefix) as store:
                yield Scratch(folder, where, prefix, store)
        finally:
            upkeep.drop()


def _see_that_it_answers(url: str, prefix: str) -> None:
    """Where nobody answers there is nothing to take away, and no second wait for it."""
    with open_store(url, prefix=prefix) as store:
        store.next_wake()
