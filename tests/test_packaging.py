"""What is installed is what is in git, works elsewhere with msgspec alone, and shows its types to a user's checker."""

import shutil
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parent.parent
DRIVERS = {"redis": {"redis"}, "postgres": {"psycopg", "psycopg_pool"}, "mysql": {"pymysql"}, "file": (), "memory": ()}
EVERY_DRIVER = {"redis", "psycopg", "psycopg_pool", "pymysql"}
STORES = {"RedisStore": "redis", "PostgresStore": "postgres", "MySQLStore": "mysql"}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}"
    return done.stdout


def tracked() -> list[str]:
    return run("git", "ls-files", "-z", cwd=ROOT).rstrip("\0").split("\0")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel made from it, of a copy of what git has."""
    copy = tmp_path_factory.mktemp("copy")
    for name in tracked():
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist", cwd=copy)
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    [wheel] = dist.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment that has the wheel and msgspec, and nothing else."""
    environment = tmp_path_factory.mktemp("elsewhere")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel, cwd=environment)
    [packages] = environment.glob("lib/python3*/site-packages")
    source = Path(msgspec.__file__).parent
    shutil.copytree(source, packages / source.name)
    return python


def python(interpreter: str | Path, code: str, cwd: Path) -> str:
    return run(interpreter, "-I", "-W", "error", "-c", textwrap.dedent(code), cwd=cwd)


def test_the_wheel_has_each_file_of_git_and_no_other(wheel: Path) -> None:
    places = {"kvflow/": "kvflow/", "stores/": "kvflow/stores/", "lua/": "kvflow/lua/"}
    expected = {
        name.replace(folder, place, 1)
        for name in tracked()
        for folder, place in places.items()
        if name.startswith(folder) and not (ROOT / name).is_symlink() and (ROOT / name).exists()
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_the_sdist_has_the_licence_and_no_half_of_the_tests(dist: Path) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "lua/save.lua", "stores/memory.py"} <= names
    assert not [name for name in names if name.startswith("tests")]


def test_msgspec_is_all_that_it_requires(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        required = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist", [])
    assert [each.partition(">")[0] for each in required if "extra ==" not in each] == ["msgspec"]


def test_it_works_elsewhere_with_msgspec_alone(elsewhere: Path, tmp_path: Path) -> None:
    said = python(
        elsewhere,
        """
        from importlib.resources import files
        import sys
        import kvflow, kvflow.store, kvflow.stores, kvflow.testing
        from kvflow import Status, StoredRun
        from kvflow.stores import open_store

        for url in ("memory:", "file:runs"):
            with open_store(url) as store:
                store.save(StoredRun(run_id="a", workflow="w", status=Status.WAITING, version=1,
                                     created_at=0, updated_at=0, snapshot=b""), [b"one"])
                assert store.load("a").log == (b"one",), url
        assert (files("kvflow.lua") / "save.lua").read_text()
        assert "pytest" not in sys.modules
        print(kvflow.__file__)
        """,
        cwd=tmp_path,
    )
    assert Path(said.strip()).is_relative_to(elsewhere.parent.parent)


@pytest.mark.parametrize(("store", "extra"), STORES.items())
def test_a_missing_driver_names_the_extra_that_brings_it(
    elsewhere: Path, tmp_path: Path, store: str, extra: str
) -> None:
    python(
        elsewhere,
        f"""
        import kvflow.stores
        from kvflow import MissingDriver
        try:
            kvflow.stores.{store}
        except MissingDriver as missing:
            assert "kvflow[{extra}]" in str(missing), missing
        else:
            raise AssertionError("nothing raised")
        """,
        cwd=tmp_path,
    )


def test_a_missing_command_line_names_the_extra_that_brings_it(elsewhere: Path, tmp_path: Path) -> None:
    for command in ([elsewhere, "-m", "kvflow"], [elsewhere.with_name("kvflow")]):
        done = subprocess.run([*command, "runs", "memory:"], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "kvflow: the command line needs typer: pip install 'kvflow[cli]'\n"


@pytest.mark.parametrize("module", ["kvflow", "kvflow.store", "kvflow.stores", "kvflow.testing"])
def test_the_core_imports_no_driver(module: str, tmp_path: Path) -> None:
    imports_only(module, (), tmp_path)


@pytest.mark.parametrize(("store", "own"), DRIVERS.items())
def test_a_store_imports_no_driver_but_its_own(store: str, own: Iterable[str], tmp_path: Path) -> None:
    imports_only(f"kvflow.stores.{store}", own, tmp_path)


def imports_only(module: str, allowed: Iterable[str], cwd: Path) -> None:
    forbidden = {*EVERY_DRIVER, "pytest"} - set(allowed)
    said = python(sys.executable, f"import sys, {module}; print({forbidden} & sys.modules.keys())", cwd=cwd)
    assert said == "set()\n"


def test_the_types_of_the_stores_reach_a_users_checker(elsewhere: Path, tmp_path: Path) -> None:
    """In the user's own project, from the wheel: the packages below kvflow are typed as it is."""
    (tmp_path / "theirs.py").write_text(
        textwrap.dedent(
            """
            from kvflow.stores import MemoryStore, open_store
            from kvflow.testing import StoreContract
            reveal_type(MemoryStore().next_wake)
            reveal_type(open_store("memory:").load("a"))
            reveal_type(StoreContract)
            """
        )
    )
    said = run(sys.executable, "-m", "mypy", "--strict", "--python-executable", elsewhere, "theirs.py", cwd=tmp_path)
    assert "int | None" in said
    assert "kvflow.run.StoredRun | None" in said
    assert "Any" not in said
