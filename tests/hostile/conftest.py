"""What the tests of hostile input run on."""

from on_every_store import clock, opened_stores, store

__all__ = ["clock", "opened_stores", "store"]
