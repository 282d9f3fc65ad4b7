"""What every store refuses before it looks at a single stored byte.

All stores call these, so all refuse the same things with the same words. Each message says what
was given and what would do. ``now`` alone is never refused: it is compared and not kept, so a
time past either end of the range means that end.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from kvflow.errors import Corrupt, InvalidArgument, InvalidPrefix, InvalidRunId, KvflowError
from kvflow.run import Lease, Status, StoredRun

LATEST = 2**53
"""The last time and the last number that every store keeps exactly: Lua and JSON count in doubles."""

NAME_LENGTH = 200

Save = tuple[StoredRun, Sequence[bytes], Lease | None]

_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,30}")
_REFUSED = {"Cc": "a control character", "Cs": "a surrogate"}


def check_name(what: str, name: object, error: type[KvflowError]) -> None:
    """Refuse a name that is not 1 to 200 characters, none of them a control character or a surrogate."""
    if isinstance(name, str) and 1 <= len(name) <= NAME_LENGTH and name.isprintable():
        return  # nearly all
    would_do = f"a {what} is 1 to {NAME_LENGTH} characters, none of them a control character or a surrogate"
    if not isinstance(name, str):
        raise error(f"{what} {name!r} is a {type(name).__name__}: {would_do}")
    if not 1 <= len(name) <= NAME_LENGTH:
        raise error(f"{what} {name[:40]!r} has {len(name)} characters: {would_do}")
    for at, char in enumerate(name):
        if (refused := _REFUSED.get(unicodedata.category(char))) is not None:
            raise error(f"{what} {name!r} has {refused} at {at}: {would_do}")


def _check_whole(what: str, number: object, least: int, most: int = LATEST) -> None:
    if type(number) is int and least <= number <= most:
        return  # nearly all
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidArgument(f"{what} {number!r} is a {type(number).__name__}: it must be an int")
    if not least <= number <= most:
        raise InvalidArgument(f"{what} is {number}: it must be from {least} to {most}")


def check_count(what: str, number: int) -> None:
    """Refuse a stored number that no store counts up to; an expiry is a time and a ttl."""
    _check_whole(what, number, 0, 2 * LATEST)


def check_options(pool_size: object, timeout: object) -> None:
    """Refuse a pool without connections, and a time to wait that is none."""
    if isinstance(pool_size, bool) or not isinstance(pool_size, int) or pool_size < 1:
        raise InvalidArgument(f"pool_size is {pool_size!r}: it must be an int of 1 or more")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise InvalidArgument(f"timeout is {timeout!r}: it must be a number of seconds above 0")


def check_run_id(run_id: str) -> None:
    """Refuse what is not 1 to 200 characters of any Unicode but control characters and surrogates."""
    check_name("run id", run_id, InvalidRunId)


def check_prefix(prefix: str) -> None:
    """Refuse what could not name keys and tables alike on every server."""
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise InvalidPrefix(f"prefix {prefix!r}: it must match {_PREFIX.pattern}, such as 'kvflow' or 'shop_2'")


def check_lease(lease: Lease) -> None:
    """Refuse a lease without a usable token, or one that has run out before it begins."""
    if not isinstance(lease, Lease):
        raise InvalidArgument(f"lease is {lease!r}: it must be a Lease(token, ttl)")
    check_name("token", lease.token, InvalidArgument)
    check_ttl(lease.ttl)


def check_ttl(ttl: int) -> None:
    """Refuse a lease length that is not a positive number of milliseconds."""
    _check_whole("ttl (milliseconds)", ttl, 1)


def check_limit(limit: int) -> None:
    """Refuse a limit below one."""
    _check_whole("limit", limit, 1, 2**63 - 1)


def check_wake_at(wake_at: int | None) -> None:
    """Refuse a wake that some store could not keep to the millisecond."""
    if wake_at is not None:
        _check_whole("wake_at (epoch milliseconds)", wake_at, 0)


def check_records(records: Sequence[bytes]) -> None:
    """Refuse records that are not bytes, or not several."""
    if not isinstance(records, (list, tuple)):
        raise InvalidArgument(f"the records are {type(records).__name__}: they must be a list or tuple of bytes")
    for record in records:
        if not isinstance(record, bytes):
            raise InvalidArgument(f"a record is {type(record).__name__}: it must be bytes")


def check_workflows(workflows: Iterable[str] | None) -> tuple[str, ...] | None:
    """The names asked for, each once and in order; None for all."""
    if workflows is None:
        return None
    if isinstance(workflows, str):
        raise InvalidArgument(
            f"workflows is the string {workflows!r}: it must be several names, such as [{workflows!r}]"
        )
    try:
        names = tuple(dict.fromkeys(workflows))
    except TypeError as error:
        raise InvalidArgument(f"workflows is {workflows!r}: it must be several names, or None for all") from error
    for name in names:
        check_name("workflow", name, InvalidArgument)
    return names


def check_tokens(tokens: Mapping[str, str], ttl: int) -> None:
    """Refuse a renewal of anything but run ids and their tokens."""
    check_ttl(ttl)
    if not isinstance(tokens, Mapping):
        raise InvalidArgument(f"tokens is {tokens!r}: it must be {{run_id: token}}")
    for run_id, token in tokens.items():
        check_run_id(run_id)
        check_name("token", token, InvalidArgument)


def check_status(status: Status | str | None) -> Status | None:
    """The status meant, given as itself or by its name."""
    try:
        return None if status is None else Status(status)
    except ValueError:
        raise InvalidArgument(f"status {status!r}: it must be one of {', '.join(Status)}") from None


def check_after(after: tuple[int, str] | None) -> None:
    """Refuse a place in a listing that is not the last row's ``(created_at, run_id)``."""
    if after is None:
        return
    if not isinstance(after, tuple) or len(after) != 2:
        raise InvalidArgument(f"after is {after!r}: it must be the last row's (created_at, run_id)")
    _check_whole("after's created_at", after[0], 0)
    check_run_id(after[1])


def clamp(now: int) -> int:
    """``now`` within the range that every store compares exactly."""
    if isinstance(now, bool) or not isinstance(now, int):
        raise InvalidArgument(f"now {now!r} is a {type(now).__name__}: it must be an int of epoch milliseconds")
    return max(-1, min(now, LATEST))


def check_head(run: StoredRun) -> None:
    """Refuse a head of which a part is none."""
    check_run_id(run.run_id)
    check_name("workflow", run.workflow, InvalidArgument)
    if run.event is not None:
        check_name("event", run.event, InvalidArgument)
    if not isinstance(run.status, Status):
        raise InvalidArgument(f"status {run.status!r}: it must be a Status, one of {', '.join(Status)}")
    _check_whole("version", run.version, 1)
    _check_whole("seen", run.seen, 0)
    _check_whole("created_at", run.created_at, 0)
    _check_whole("updated_at", run.updated_at, 0)
    check_wake_at(run.wake_at)
    if not isinstance(run.snapshot, bytes):
        raise InvalidArgument(f"snapshot is {type(run.snapshot).__name__}: it must be bytes")


def check_stored(run: StoredRun, records: int) -> None:
    """Refuse a head as it was read that no save has written, before anybody drives it or builds upon it."""
    try:
        check_head(run)
        check_count("attempt", run.attempt)
        check_count("records", records)
    except InvalidArgument as error:
        raise Corrupt(f"run {run.run_id!r} is stored as no kvflow stores it: {error}") from error


def check_save(run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> None:
    """Refuse a head that contradicts itself, or a run at rest that nothing could ever wake."""
    if not isinstance(run, StoredRun):
        raise InvalidArgument(f"run is {run!r}: it must be a StoredRun")
    check_head(run)
    check_records(new)
    if lease is not None:
        check_lease(lease)
    if run.wake_at is None:
        _check_wakeable(run, lease)


def _check_wakeable(run: StoredRun, lease: Lease | None) -> None:
    if run.status is Status.RUNNING and lease is None:
        raise InvalidArgument(
            f"run {run.run_id!r} is running with neither lease nor wake_at: nothing would ever drive it"
        )
    if run.status is Status.SUSPENDED:
        raise InvalidArgument(f"run {run.run_id!r} is suspended without wake_at: nothing would ever wake it")


def check_entry(save: Save) -> None:
    """Refuse what is no ``(run, new, lease)`` that could be saved."""
    if not isinstance(save, tuple) or len(save) != 3:
        raise InvalidArgument(f"an entry of save_many is {save!r}: it must be (run, new, lease)")
    check_save(*save)


def check_each(saves: Iterable[Save]) -> list[KvflowError | None]:
    """For each entry of a save_many, why it cannot be taken, or None."""
    found: list[KvflowError | None] = []
    for save in saves:
        try:
            check_entry(save)
        except KvflowError as error:
            found.append(error)
        else:
            found.append(None)
    return found
