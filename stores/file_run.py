"""The file of one run: a header, then frames, each of which one save or post appended.

    header   magic, the run's birth (random), the floor, a checksum               28 bytes
    frame    prefix: magic, length, checksum of the body, checksum of the prefix  16 bytes
             body:   records, each after its length; the head; the trailer
             trailer: length of the head, checksum of the head, length of the body, magic

A frame carries the whole head, so the last one is all that a save need read, whatever the length of
the log; the trailer is there to find it from behind. All frames are synced before they are
acknowledged and before anybody else may append, so after a crash only the last append can be torn.

Torn and garbled are told apart with care, for a torn tail is cut off and a garbled file is kept as
it is. The **floor** is where the last append began: all before it was on the disk, so a file that ends
before its floor, or does not read up to it, is ``Corrupt``. From the floor on, bytes that are missing are a
torn append: the file ends within a frame, or whole sectors of the frame are zeros, which is how file
systems show what a power cut kept from the disk. Bytes that are there and wrong are never torn.
A birth, and a rewrite without the dead heads, is written beside and renamed: such a file is whole or not there.
"""

import errno
import os
import re
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Self
from zlib import crc32

import msgspec
from msgspec import Struct

from kvflow import checks
from kvflow.errors import UNDECODABLE, Corrupt, InvalidArgument, TooLarge
from kvflow.rules import Entry, check_sound
from kvflow.stores.file_disk import replace_file, sync, write_beside, write_whole

LARGEST = 2**28
"""The most bytes that one save or post may bring, snapshot and new records together (256 MiB)."""

_HEADER = struct.Struct("<8s8sQI")
_HEADER_FRONT = struct.Struct("<8s8sQ")
_PREFIX = struct.Struct("<4sIII")
_PREFIX_FRONT = struct.Struct("<4sII")
_TRAILER = struct.Struct("<III4s")
_LENGTH = _HEAD_LENGTH = struct.Struct("<I")
_FILE, _FRAME, _END = b"kvflow1\n", b"\nKVf", b"fVK\n"

_BIRTH = re.compile("[0-9a-f]{16}")
_SECTOR = 512
_TAIL = 4096
_CHUNK = 2**24
_DEAD = 2**16

_OF_ONE = {
    errno.EACCES,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.ENXIO,
    errno.EPERM,
    errno.ESPIPE,
}
"""What the system answers where one file is at fault, and others may well be read."""

_encode = msgspec.msgpack.Encoder().encode


class Head(Struct, frozen=True, array_like=True):
    """What the last frame says of the run.

    ``change`` counts the frames since birth, ``birth`` is the run's own random number: together they name one
    state of one life of the run, so that a lease written elsewhere can say what it was based on.
    ``living`` is how many bytes of the file are records; the rest is heads, and all but the last are dead.
    """

    entry: Entry
    change: int
    birth: str
    living: int

    def next(self, entry: Entry, new: Sequence[bytes]) -> "Head":
        """The head after one more change."""
        return Head(entry, self.change + 1, self.birth, self.living + _living(new))


_decoder = msgspec.msgpack.Decoder(Head)


class RunFile:
    """An open run file. What reads needs nobody else to append meanwhile, and what writes nobody else at all."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.end = 0
        self._size = 0

    @classmethod
    def open(cls, path: str) -> Self | None:
        """The file of a run; None where there is none."""
        try:
            return cls(path, os.open(path, os.O_RDWR | os.O_NOFOLLOW))
        except FileNotFoundError:
            return None
        except OSError as error:
            _refuse(path, error)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.fd)

    def head(self) -> Head:
        """The last whole head; ``end`` is where the next frame goes. Reads the end of the file alone."""
        size = self._size = os.fstat(self.fd).st_size
        start = max(0, size - _TAIL)
        tail = self._read(start, size - start)
        _, floor = self._header(tail if start == 0 else self._read(0, _HEADER.size))
        if size >= floor and (packed := self._last(tail, size)) is not None:
            self.end = size
            return self._decode(packed)
        return self.whole()[0]

    def whole(self) -> tuple[Head, tuple[bytes, ...]]:
        """The head and the log, every byte of them checked."""
        data = self._read(0, os.fstat(self.fd).st_size)
        self._size = len(data)
        _, floor = self._header(data)
        packed, log, self.end = self._scan(data, floor)
        head = self._decode(packed)
        if len(log) != head.entry.records:
            raise self._corrupt(f"{len(log)} records are there and the head counts {head.entry.records}")
        return head, log

    def append(self, head: Head, new: Sequence[bytes]) -> None:
        """Add a frame behind ``end``, not yet synced; a frame that does not fit the disk leaves nothing behind."""
        frame = _frame(head, new, self.end)
        self.cut()
        try:
            write_whole(self.fd, _header(bytes.fromhex(head.birth), self.end), 0)
            write_whole(self.fd, frame, self.end)
        except OSError as error:
            with suppress(OSError):  # a tail that cannot be cut now is cut by the next append
                os.ftruncate(self.fd, self.end)
            error.filename = self.path
            raise
        self.end = self._size = self.end + len(frame)

    def cut(self) -> bool:
        """Cut off a torn tail, which nobody was told is stored; whether there was one."""
        torn = self._size > self.end
        if torn:
            os.ftruncate(self.fd, self.end)
            self._size = self.end
        return torn

    def sync(self) -> None:
        """Wait until every frame is on the disk."""
        try:
            sync(self.fd)
        except OSError as error:
            error.filename = self.path
            raise

    def recover(self) -> Head:
        """The head, after a power cut: the last frame is checked whole, and cut off if it is torn."""
        head = self.head()
        frame = _TRAILER.unpack(self._read(self.end - _TRAILER.size, _TRAILER.size))[2] + _PREFIX.size
        if _whole_until(memoryview(self._read(self.end - frame, frame)), 0) != frame:
            head = self.whole()[0]
        if self.cut():
            self.sync()
        return head

    def settle(self) -> None:
        """Make sure of an append whose writer died or was told of an error: cut it, or write it once more.

        It is written again because a page that a disk refused once is not sent to it a second time.
        """
        self.whole()
        self.cut()
        write_whole(self.fd, self._read(0, self.end), 0)
        self.sync()

    def dead(self, head: Head) -> bool:
        """Whether dead heads outweigh what lives in the file."""
        living = head.living + len(head.entry.run.snapshot) + _TAIL
        return self.end - living > max(_DEAD, living)

    def rewrite(self) -> None:
        """Put a file without dead heads in the place of this one."""
        head, log = self.whole()
        replace_file(self.path, _file(head, log))

    def _read(self, start: int, length: int) -> bytes:
        """Bytes of the file, fewer where it ends before."""
        try:
            data = os.pread(self.fd, length, start)
            if len(data) < length:  # the kernel gives no more than 2 GiB at a time
                parts = [data]
                while part := os.pread(self.fd, length - sum(map(len, parts)), start + sum(map(len, parts))):
                    parts.append(part)
                data = b"".join(parts)
        except OSError as error:
            _refuse(self.path, error)
            raise
        return data

    def _header(self, data: bytes) -> tuple[bytes, int]:
        """The birth and the floor."""
        if len(data) < _HEADER.size:
            raise self._corrupt("it ends within its header")
        magic, birth, floor, check = _HEADER.unpack_from(data)
        if magic != _FILE or crc32(data[: _HEADER_FRONT.size]) != check:
            raise self._corrupt("its header is garbled")
        return birth, floor

    def _last(self, tail: bytes, size: int) -> bytes | None:
        """The head that the trailer at the very end points to; None where that end is no trailer."""
        if len(tail) < _HEADER.size + _TRAILER.size:
            return None
        length, check, body, magic = _TRAILER.unpack_from(tail, len(tail) - _TRAILER.size)
        back = length + _TRAILER.size
        if magic != _END or body < back or body + _PREFIX.size + _HEADER.size > size:
            return None
        packed = tail[-back : -_TRAILER.size] if back <= len(tail) else self._read(size - back, length)
        return packed if crc32(packed, _seed(size - body - _PREFIX.size, body)) == check else None

    def _scan(self, data: bytes, floor: int) -> tuple[bytes, tuple[bytes, ...], int]:
        """Every frame from the first: the last head, all records, and where the last whole frame ends."""
        view, at = memoryview(data), _HEADER.size
        packed, log = b"", list[bytes]()
        while (end := _whole_until(view, at)) > at:
            head = end - _TRAILER.size - _HEAD_LENGTH.unpack_from(view, end - _TRAILER.size)[0]
            start = at + _PREFIX.size
            while start < head:
                (length,) = _LENGTH.unpack_from(view, start)
                start += _LENGTH.size + length
                log.append(data[start - length : start])
            if start != head:
                raise self._corrupt("a record's length contradicts its frame")
            packed = data[head : end - _TRAILER.size] or packed
            at = end
        if at < len(data) and (at < floor or not _torn(view, at)):
            raise self._corrupt(f"the frame at byte {at} is garbled")
        if at < floor or not packed:
            raise self._corrupt(f"it ends at byte {len(data)}, and {floor} bytes were stored")
        return packed, tuple(log), at

    def _decode(self, packed: bytes) -> Head:
        try:
            head = _decoder.decode(packed)
            check_sound(head.entry, head.entry.run.run_id)
            checks.check_count("change", head.change)
            checks.check_count("living", head.living)
        except (*UNDECODABLE, InvalidArgument) as error:
            raise self._corrupt(f"its head does not decode ({error})") from error
        if not _BIRTH.fullmatch(head.birth):
            raise self._corrupt(f"its birth is {head.birth[:40]!r}")
        return head

    def _corrupt(self, why: str) -> Corrupt:
        return Corrupt(f"{self.path}: {why}; it is left as it is, to be restored from a backup or deleted")


def born(entry: Entry, new: Sequence[bytes]) -> Head:
    """The first head of a run that was not there."""
    return Head(entry, 1, os.urandom(8).hex(), _living(new))


def write_birth(path: str, head: Head, new: Sequence[bytes]) -> RunFile:
    """Write a new run's file beside its place, into which ``put`` brings it once it is synced."""
    return RunFile(path, write_beside(path, _file(head, new)))


def remove(path: str) -> None:
    """Remove a run's file, readable or not; what was put in its place and is no file is not ours to remove."""
    try:
        os.unlink(path)
    except OSError as error:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            raise Corrupt(f"{path} is a directory in the place of a run's file: move it away") from error
        raise


def _refuse(path: str, error: OSError) -> None:
    """Blame the one file if it is at fault: whatever keeps the directory from being read is not about one run."""
    if error.errno in _OF_ONE:
        os.lstat(path)
        raise Corrupt(
            f"{path}: {os.strerror(error.errno)}; it is left as it is: "
            "have a file there that this user may read and write, or restore it from a backup"
        ) from error


def check_size(run_id: str, snapshot: bytes, new: Sequence[bytes]) -> None:
    """Refuse what no frame should hold."""
    size = len(snapshot) + sum(map(len, new))
    if size > LARGEST:
        raise TooLarge(
            f"run {run_id!r}: {size} bytes at once; snapshot and new records together may have {LARGEST}, "
            "so keep large data elsewhere and its name here"
        )


def _living(new: Sequence[bytes]) -> int:
    return sum(map(len, new)) + _LENGTH.size * len(new)


def _file(head: Head, log: Sequence[bytes]) -> bytes:
    """A whole file; a long log is parted among frames without a head, each of a length that fits its prefix."""
    frames, end = list[bytes](), _HEADER.size
    chunk, size = list[bytes](), 0
    for record in log:
        if size > _CHUNK:
            frames.append(_frame(None, chunk, end))
            end += len(frames[-1])
            chunk, size = [], 0
        chunk.append(record)
        size += len(record)
    frames.append(_frame(head, chunk, end))
    end += len(frames[-1])
    return b"".join([_header(bytes.fromhex(head.birth), end), *frames])


def _header(birth: bytes, floor: int) -> bytes:
    front = _HEADER_FRONT.pack(_FILE, birth, floor)
    return front + _LENGTH.pack(crc32(front))


def _seed(at: int, body: int) -> int:
    """What a head's checksum begins with: its frame's place, so that no copy of a frame within a record passes."""
    return (at ^ body) & 0xFFFFFFFF


def _frame(head: Head | None, records: Sequence[bytes], at: int) -> bytes:
    packed = b"" if head is None else _encode(head)
    parts = [part for record in records for part in (_LENGTH.pack(len(record)), record)]
    body = sum(map(len, parts)) + len(packed) + _TRAILER.size
    parts += [packed, _TRAILER.pack(len(packed), crc32(packed, _seed(at, body)), body, _END)]
    whole = b"".join(parts)
    front = _PREFIX_FRONT.pack(_FRAME, body, crc32(whole))
    return front + _LENGTH.pack(crc32(front)) + whole


def _whole_until(view: memoryview, at: int) -> int:
    """Where the frame at ``at`` ends; ``at`` itself where no whole frame is there."""
    start = at + _PREFIX.size
    if start > len(view):
        return at
    magic, length, check, own = _PREFIX.unpack_from(view, at)
    end = start + length
    if magic != _FRAME or end > len(view) or length < _TRAILER.size:
        return at
    return end if crc32(view[start:end]) == check and crc32(view[at : at + _PREFIX_FRONT.size]) == own else at


def _torn(view: memoryview, at: int) -> bool:
    """Whether what begins at ``at`` is an append of which bytes are missing, and not one with wrong bytes."""
    rest = view[at:]
    if len(rest) < _PREFIX.size:
        return _FRAME.startswith(bytes(rest[:4])) or not any(rest)
    magic, length, _, own = _PREFIX.unpack_from(view, at)
    if magic != _FRAME or crc32(rest[: _PREFIX_FRONT.size]) != own:
        return _zeroed(view, at, at + _PREFIX.size)
    end = at + _PREFIX.size + length
    return end > len(view) or (end == len(view) and _zeroed(view, at, end))


def _zeroed(view: memoryview, start: int, end: int) -> bool:
    """Whether of some sector all that lies between ``start`` and ``end`` is zeros."""
    first = start - start % _SECTOR
    return any(not any(view[max(start, at) : min(end, at + _SECTOR)]) for at in range(first, end, _SECTOR))
