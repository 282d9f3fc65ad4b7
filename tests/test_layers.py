"""A store is what its name says: its files know each other, the contract below them and one driver.

The layers of the core are import-linter's (pyproject.toml). This is the rule that it cannot say, for it goes by the
names of files: redis.py and redis_link.py are one store, mysql.py is another (schemes.py and upkeep.py, which pick one,
are none).
"""

import sys

import grimp
import pytest

CORE = {
    *("kvflow", "kvflow.checks", "kvflow.errors", "kvflow.findings", "kvflow.rules", "kvflow.run", "kvflow.store"),
    "kvflow.lua",
}
PICK_ONE = {"kvflow.stores.schemes", "kvflow.stores.upkeep"}
DRIVERS = {"mysql": {"pymysql"}, "postgres": {"psycopg", "psycopg_pool"}, "redis": {"redis"}}
ALL_DRIVERS = set[str]().union(*DRIVERS.values())


def store_of(module: str) -> str:
    return module.removeprefix("kvflow.stores.").partition("_")[0]


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "kvflow", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


def test_the_files_of_a_store_know_no_other_store_and_no_other_driver(graph: grimp.ImportGraph) -> None:
    modules = graph.find_children("kvflow.stores") - PICK_ONE
    assert "kvflow.stores.memory" in modules
    for module in sorted(modules):
        store = store_of(module)
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            if imported.startswith("kvflow.stores"):
                assert store_of(imported) == store, f"{module} imports {imported}"
            elif imported.startswith("kvflow"):
                assert imported in CORE, f"{module} imports {imported}"
            elif imported in ALL_DRIVERS:
                assert imported in DRIVERS.get(store, ()), f"{module} imports {imported}"


def test_what_is_no_store_of_ours_is_the_standard_library_or_msgspec(graph: grimp.ImportGraph) -> None:
    outside = {module for module in graph.modules if graph.is_module_squashed(module)}
    assert outside - sys.stdlib_module_names - ALL_DRIVERS == {"msgspec", "croniter", "typer", "rich"}
    assert graph.find_modules_that_directly_import("croniter") == {"kvflow.times"}, "an extra, asked for when needed"
    for extra in ("typer", "rich"):
        importers = graph.find_modules_that_directly_import(extra)
        assert all(module.startswith(("kvflow.cli.", "kvflow.demo.")) for module in importers), "the command line's"
