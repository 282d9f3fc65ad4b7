"""What a store does when it is opened: its format is checked, and after a power cut the index is made anew.

Nothing of the index but the leases is synced, so what is left of it after the machine stopped may lack
anything. The boot that it was made in is written in it: under another boot, or where somebody
removed it, every head is read once. Torn tails are cut on the way, for this is when there can be any
that no living writer left a note of.
"""

import logging
import os
import shutil
from contextlib import suppress

import msgspec

from kvflow.errors import Corrupt, SchemaTooNew
from kvflow.rules import Entry
from kvflow.stores.file_disk import (
    DIRECTORY_MODE,
    boot,
    read_file,
    replace_file,
)
from kvflow.stores.file_hints import Pair
from kvflow.stores.file_index import BIRTHS, Index
from kvflow.stores.file_run import Head, RunFile

SCHEMA = 1
"""The newest layout of the directory that this version reads and writes."""

SUFFIX = ".run"

_log = logging.getLogger("kvflow.stores")


class _Format(msgspec.Struct, forbid_unknown_fields=False):
    kvflow: int


def check_format(root: str) -> None:
    """Refuse a directory that a newer kvflow laid out; say of a new one that it is ours."""
    path = f"{root}/format"
    written = read_file(path)
    if written is None:
        replace_file(path, b'{"kvflow": %d}\n' % SCHEMA)
        return
    try:
        found = msgspec.json.decode(written, type=_Format).kvflow
    except msgspec.DecodeError as error:
        raise Corrupt(f'{path} is garbled ({error}): it must be {{"kvflow": {SCHEMA}}}') from error
    if found > SCHEMA:
        raise SchemaTooNew(f"{path} says schema {found} and this kvflow knows {SCHEMA}: use the newer kvflow")


def is_current(root: str) -> bool:
    """Whether the index was made under the present boot of the machine, and is all there."""
    made = read_file(f"{root}/index/boot")
    return made is not None and made.decode(errors="replace") == boot() and os.path.exists(f"{root}/leases")


def rebuild(root: str, index: Index) -> None:
    """Make the index anew from the heads; the leases that still hold are kept.

    Files that lie beside their place are let be: somebody may be about to put one there.
    """
    index.close()
    index.leases.read()
    with suppress(FileNotFoundError):  # first, so that a rebuild that is killed is begun again
        os.unlink(f"{root}/index/boot")
    with suppress(FileNotFoundError):
        shutil.rmtree(f"{root}/index")
    for directory in ("index", "index/wakes", "index/births"):
        os.mkdir(f"{root}/{directory}", DIRECTORY_MODE)
    held = list[tuple[Head, Entry]]()
    for directory in sorted(os.listdir(f"{root}/runs")):
        _hint(_states(f"{root}/runs/{directory}", index), index, held)
    index.keep(held)
    replace_file(f"{root}/index/boot", boot().encode(), durable=False)


def _hint(states: list[tuple[Head, Entry]], index: Index, held: list[tuple[Head, Entry]]) -> None:
    """Write the hints of these runs; those that are held are put with ``held``."""
    wakes = dict[str, list[Pair]]()
    for head, entry in states:
        run = entry.run
        if entry.token is not None:
            held.append((head, entry))
        elif run.wake_at is not None:
            wakes.setdefault(run.workflow, []).append((run.wake_at, run.run_id))
    index.births.add_many(BIRTHS, [(entry.run.created_at, entry.run.run_id) for _, entry in states])
    for workflow, pairs in wakes.items():
        index.wakes.add_many(workflow, pairs)


def _states(directory: str, index: Index) -> list[tuple[Head, Entry]]:
    """The heads of one directory of runs, and the entries with their leases."""
    states = list[tuple[Head, Entry]]()
    for name in os.listdir(directory):
        if name.endswith(SUFFIX) and (head := _recovered(f"{directory}/{name}")) is not None:
            states.append((head, index.current(head)))
    return states


def _recovered(path: str) -> Head | None:
    """The head of a file; None of one that cannot be read, which harms no other."""
    try:
        with RunFile(path, os.open(path, os.O_RDWR)) as file:
            return file.recover()
    except Corrupt as error:
        _log.warning("a run is passed over: %s", error)
        return None
