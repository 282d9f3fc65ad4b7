"""What a store does when it is opened: its format is checked, and after a power cut the index is made anew.

Nothing of the index but the leases is synced, so what is left of it after the machine stopped may lack
anything. The boot that it was made in is written in it: under another boot, or where somebody
removed it, every head is read once. Torn tails are cut on the way, for this is when there can be any
that no living writer left a note of.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from operator import attrgetter

import msgspec

from kvflow.errors import UNDECODABLE, Corrupt, SchemaTooNew
from kvflow.rules import Entry
from kvflow.stores.file_disk import (
    boot,
    make_directory,
    read_file,
    replace_file,
)
from kvflow.stores.file_hints import Pair
from kvflow.stores.file_index import BIRTHS, Index
from kvflow.stores.file_run import Head, RunFile

SCHEMA = 1
"""The newest layout of the directory that this version reads and writes."""

SUFFIX = ".run"

_BATCH = 50_000

_log = logging.getLogger("kvflow.stores")


class _Format(msgspec.Struct):
    kvflow: int


def check_format(root: str) -> bool:
    """Whether the directory is laid out as a store; one laid out by a newer kvflow is refused."""
    path = f"{root}/format"
    written = read_file(path)
    if written is None:
        return False
    try:
        found = msgspec.json.decode(written, type=_Format).kvflow
    except UNDECODABLE as error:
        raise Corrupt(f'{path} is garbled ({error}): it must be {{"kvflow": {SCHEMA}}}') from error
    if found > SCHEMA:
        raise SchemaTooNew(f"{path} says schema {found} and this kvflow knows {SCHEMA}: use the newer kvflow")
    return True


def write_format(root: str) -> None:
    """Say that the directory is laid out."""
    replace_file(f"{root}/format", b'{"kvflow": %d}\n' % SCHEMA)


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
        make_directory(f"{root}/{directory}")
    held = list[tuple[Head, Entry]]()
    for batch in _batches(_heads(f"{root}/runs")):
        states = [(head, index.current(head)) for head in batch]
        held += (state for state in states if state[1].token is not None)
        _hint([entry for _, entry in states], index)
    index.keep(held)
    replace_file(f"{root}/index/boot", boot().encode(), durable=False)


def _hint(entries: list[Entry], index: Index) -> None:
    """Write the hints of these runs; those that are held have their leases."""
    wakes = dict[str, list[Pair]]()
    for entry in entries:
        if entry.token is None and entry.run.wake_at is not None:
            wakes.setdefault(entry.run.workflow, []).append((entry.run.wake_at, entry.run.run_id))
    index.births.add_many(BIRTHS, [(entry.run.created_at, entry.run.run_id) for entry in entries])
    for workflow, pairs in wakes.items():
        index.wakes.add_many(workflow, pairs)


def _batches(heads: Iterator[Head]) -> Iterator[list[Head]]:
    """The heads, some at a time: many, for each batch writes to many buckets, and yet a bounded number."""
    while batch := list(islice(heads, _BATCH)):
        yield batch


def _heads(directory: str) -> Iterator[Head]:
    """The head of every run that can be read."""
    for part in sorted(os.scandir(directory), key=attrgetter("name")):
        for file in os.scandir(part) if part.is_dir() else ():
            if file.name.endswith(SUFFIX) and (head := _recovered(file.path)) is not None:
                yield head


def _recovered(path: str) -> Head | None:
    """The head of a file; None of one that cannot be read, which harms no other."""
    try:
        file = RunFile.open(path)
        if file is None:
            return None
        with file:
            return file.recover()
    except Corrupt as error:
        _log.warning("a run is passed over: %s", error)
        return None
