"""``kvflow schema``: the tables of a store as DDL, for a team's own migrations. No server needs to be there.

A store opened afterwards makes nothing, so its user needs no right to make tables.
"""

import sys
from typing import Annotated

import typer

from kvflow.cli.output import complain
from kvflow.cli.stores import Prefix, store_named
from kvflow.stores.schemes import scheme_of
from kvflow.stores.upkeep import upkeep_of


def schema(
    store: Annotated[
        str | None, typer.Argument(metavar="STORE", show_default=False, help="A URL; else KVFLOW_STORE.")
    ] = None,
    prefix: Prefix = "kvflow",
) -> None:
    """Print a store's tables as DDL, for migrations.

    It may be run any number of times; nothing is connected to. Where tables made from it are there, SELECT, INSERT,
    UPDATE and DELETE on them are all that workflows need. The other stores need no tables: nothing is printed.
    """
    url = store_named(store)
    ddl = upkeep_of(url, prefix=prefix).ddl()
    if ddl:
        sys.stdout.write(ddl)
    else:
        complain(f"{scheme_of(url)}: a store that needs no tables, so there is nothing to run")
