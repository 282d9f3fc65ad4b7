"""The directory of a FileStore as an operator sees it: on what kind of disk it is, and how to be rid of it.

The kind is read where the system tells it in a file (Linux). It decides more than any setting: a disk in memory
forgets, and a network's locks and syncs keep other promises than those that the store counts on.
"""

import os
import re
import shutil
from pathlib import Path

from kvflow.findings import Finding, bad, good, limit, unknown
from kvflow.stores.file_url import directory_of

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "ceph",
    "glusterfs",
    "lustre",
    "afs",
    "fuse.sshfs",
    "fuse.s3fs",
}
_MEMORY = {"tmpfs", "ramfs"}


class FileUpkeep:
    """One directory, which need not be there yet."""

    def __init__(self, url: str, prefix: str) -> None:
        self._path = Path(directory_of(url, prefix)).absolute()
        self._missing = [parent for parent in self._path.parents if not parent.exists()]

    @property
    def names(self) -> str:
        return f"the directory {self._path}"

    def ddl(self) -> str:
        return ""

    def findings(self) -> list[Finding]:
        kind = _kind_of_disk(self._path)
        if kind is None:
            return [unknown("disk", "this system does not tell what kind of disk it is", "see that it is a local one")]
        if kind in _NETWORK:
            return [
                bad(
                    "disk",
                    f"{kind} is a file system of a network: its locks and syncs keep other promises",
                    "take a local disk, or one of the servers",
                )
            ]
        if kind.startswith("fuse"):
            return [unknown("disk", f"{kind} is a program's file system", "see that its flock and its fsync are true")]
        if kind in _MEMORY:
            return [
                limit("disk", f"{kind} is in memory: when the machine stops, every run is gone", "take a real disk")
            ]
        if kind == "overlay":
            return [
                limit(
                    "disk",
                    "overlay belongs to a container: with the container every run is gone",
                    "mount a volume there",
                )
            ]
        return [good("disk", f"{kind}: an acknowledged write is synced, and survives the death of the machine")]

    def drop(self) -> None:
        """Remove the directory, and those above it that were not there at first."""
        if self._path.exists():
            shutil.rmtree(self._path)
        for parent in self._missing:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _kind_of_disk(path: Path) -> str | None:
    """The type of the file system that holds this path or will; None where the system does not tell."""
    if not _MOUNTS.exists():
        return None
    real = Path(os.path.realpath(path))
    mounts: dict[str, str] = {}
    for line in _MOUNTS.read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        mounts[_unescaped(before.split()[4])] = after.split()[0]  # of several at one place, the last is on top
    return next((mounts[str(each)] for each in (real, *real.parents) if str(each) in mounts), None)


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)
