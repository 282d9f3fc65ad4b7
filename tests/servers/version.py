"""Which server it is that something was seen on."""

import re

from kvflow.stores.upkeep import upkeep_of


def version(url: str) -> str:
    """Its kind and its number, as in "MariaDB 10.11.6"."""
    said = next(found.says for found in upkeep_of(url).findings() if found.about == "version")
    told = re.match(r"\w+ [\d.]*\d", said)
    assert told is not None, said
    return told[0]
