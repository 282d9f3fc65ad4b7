"""What the tests of the engine run on."""

from on_every_store import clock, opened_stores, opener, store

__all__ = ["clock", "opened_stores", "opener", "store"]
