"""Which store a command is about: STORE among its arguments, or KVFLOW_STORE.

One rule for all commands: the first argument is STORE if it looks like a URL, that is if a store is registered for
its scheme (``file:runs``) or it has a scheme and two slashes (``redsi://host``: better an error than an id).
Anything else is an id, and then KVFLOW_STORE says which store. An id that looks like a URL is given after STORE.
"""

import os
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from kvflow.errors import InvalidArgument, StoreUnavailable
from kvflow.store import Store
from kvflow.stores import open_store
from kvflow.stores.file_url import directory_of
from kvflow.stores.schemes import is_known

Prefix = Annotated[
    str,
    typer.Option("--prefix", envvar="KVFLOW_PREFIX", metavar="PREFIX", help="Of the keys or tables in the store."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON; times in ISO 8601.")]


def store_and_rest(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The URL of the store, and the arguments that are left."""
    if arguments and _looks_like_a_url(arguments[0]):
        return arguments[0], list(arguments[1:])
    return store_named(None), list(arguments)


def store_named(url: str | None) -> str:
    """The URL given, or that of KVFLOW_STORE."""
    found = url or os.environ.get("KVFLOW_STORE")
    if not found:
        raise InvalidArgument("which store? give STORE, a URL such as redis://localhost, or set KVFLOW_STORE")
    return found


def opened(url: str, prefix: str) -> Store:
    """The store of a URL, to be closed by who asked for it; to look into a directory makes none."""
    if url[:5].lower() == "file:" and not os.path.isdir(path := directory_of(url, prefix)):
        raise StoreUnavailable(f"there is no directory {path!r}: name one in which a FileStore is")
    return open_store(url, prefix=prefix)


def _looks_like_a_url(text: str) -> bool:
    return is_known(text) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None
