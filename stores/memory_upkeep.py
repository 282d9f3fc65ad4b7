"""A MemoryStore as an operator sees it: there is nothing to make, nothing to set, and nothing that stays."""

from kvflow.findings import Finding, limit


class MemoryUpkeep:
    """No server at all."""

    names = "nothing"

    def ddl(self) -> str:
        return ""

    def findings(self) -> list[Finding]:
        return [limit("durability", "with the process every run is gone, and no other process sees any", "for tests")]

    def drop(self) -> None:
        """What was in memory goes with who held it."""
