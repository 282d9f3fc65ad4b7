"""Hints in buckets of time: where to look for the runs that are due, or were born, about then.

A hint is a time and a run id, and it is only a hint: the run's file says what is true. It may be stale, and
then whoever comes upon it takes it away; but for each run there is one that is not later than the
truth, because it is written before what it hints at. Hints are not synced. After a
power cut they are made anew from the heads, so the file system may have lost any of them.

    buckets                  one line for each bucket that is there: its number and its group
    <group>/<number>         the hints of a thousand seconds: ``+ time id``, taken back by ``- time id``

A group is a workflow's wakes, so that one workflow's hints are in no other's way. Only the
buckets that are looked at are read, and a reader keeps them in order in memory: a look
costs the same beside any number of sleepers.
"""

import heapq
import os
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress

from kvflow.stores.file_disk import file_name, make_directory
from kvflow.stores.file_lines import Lines, append_blindly

WIDTH = 1_000_000
"""Milliseconds of a bucket, so that its number is how the times in it begin."""

_OPEN = 100
_MANY = 50

Pair = tuple[int, str]


class Bucket(Lines):
    """The hints of one bucket, in order."""

    def reset(self) -> None:
        self._live = set[Pair]()
        self._order = list[Pair]()

    def take(self, lines: list[list[str]]) -> None:
        live, added = self._live, list[Pair]()
        for sign, time, run_id in lines:
            pair = (int(time), run_id)
            if sign == "-":
                live.discard(pair)
            elif sign != "+":
                raise ValueError(sign)
            elif pair not in live:
                live.add(pair)
                added.append(pair)
        if len(added) * _MANY > len(self._order):
            self._order = sorted(live)
        else:
            for pair in added:
                _put(self._order, pair)

    def living(self) -> list[str]:
        return [_line("+", pair) for pair in sorted(self._live)]

    def __contains__(self, pair: Pair) -> bool:
        return pair in self._live

    def __len__(self) -> int:
        return len(self._live)

    def ascending(self) -> Iterator[Pair]:
        """Earliest first."""
        order, live = self._order, self._live
        dead = 0
        while dead < len(order) and order[dead] not in live:
            dead += 1
        del order[:dead]
        return (pair for pair in order if pair in live)

    def descending(self, before: Pair | None) -> Iterator[Pair]:
        """Latest first, from below a place."""
        order, live = self._order, self._live
        end = len(order) if before is None else bisect_left(order, before)
        return (order[at] for at in range(end - 1, -1, -1) if order[at] in live)


class BucketList(Lines):
    """Which buckets there are: for each group their numbers, in order."""

    def reset(self) -> None:
        self.of = dict[str, list[int]]()

    def take(self, lines: list[list[str]]) -> None:
        for sign, text, group in lines:
            number, there = int(text), self.has(group, int(text))
            if sign not in ("+", "-"):
                raise ValueError(sign)
            if sign == "+" and not there:
                insort(self.of.setdefault(group, []), number)
            elif sign == "-" and there:
                self.of[group].remove(number)
                if not self.of[group]:
                    del self.of[group]

    def living(self) -> list[str]:
        return [f"+\t{number}\t{group}" for group, numbers in self.of.items() for number in numbers]

    def __len__(self) -> int:
        return sum(map(len, self.of.values()))

    def has(self, group: str, number: int) -> bool:
        numbers = self.of.get(group, [])
        at = bisect_left(numbers, number)
        return at < len(numbers) and numbers[at] == number


class Hints:
    """All buckets of one kind."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._list = BucketList(f"{directory}/buckets")
        self._list.reset()
        self._open = OrderedDict[tuple[str, int], Bucket]()
        self._empty = set[tuple[str, int]]()
        self.garbled = False

    def add(self, group: str, pair: Pair) -> None:
        """Hint at a time of a run. A bucket that nobody here reads is not read for that."""
        number = pair[0] // WIDTH
        self._read()
        if not self._list.has(group, number):
            with suppress(FileExistsError):
                make_directory(self._group(group))
            self._list.append([f"+\t{number}\t{group}"])
        if (group, number) not in self._open:
            append_blindly(f"{self._group(group)}/{number}", _line("+", pair))
        elif pair not in (bucket := self._bucket(group, number)):
            bucket.append([_line("+", pair)])

    def add_many(self, group: str, pairs: Iterable[Pair]) -> None:
        """Hint at many times of a group that nobody looks at yet."""
        for number, of_bucket in _by_bucket(pairs).items():
            self.add(group, of_bucket[0])
            self._bucket(group, number).append([_line("+", pair) for pair in of_bucket[1:]])

    def drop(self, group: str, pairs: Iterable[Pair], clock: int) -> None:
        """Take hints away, and with the last one a bucket whose time has passed by then."""
        self._read()
        for number, of_bucket in _by_bucket(pairs).items():
            if self._list.has(group, number):
                bucket = self._bucket(group, number)
                bucket.append(_line("-", pair) for pair in of_bucket if pair in bucket)
                if not bucket and _end(number) < clock:
                    self._remove([(group, number)])
                else:
                    bucket.tidy()

    def ascending(self, groups: tuple[str, ...] | None, until: int) -> Iterator[tuple[int, str, str]]:
        """The hints of these groups, or of all, up to a time, as time, id, group: earliest first."""
        self._read()
        names = tuple(self._list.of) if groups is None else groups
        return heapq.merge(*(self._ascending(group, until) for group in names))

    def descending(self, group: str, before: Pair | None) -> Iterator[Pair]:
        """The hints of one group from below a place: latest first."""
        self._read()
        numbers = self._list.of.get(group, [])
        end = len(numbers) if before is None else bisect_right(numbers, before[0] // WIDTH)
        for at in range(end - 1, -1, -1):
            bucket = self._bucket(group, numbers[at])
            yield from bucket.descending(before)
            if not bucket:
                self._empty.add((group, numbers[at]))

    def sweep(self, clock: int) -> None:
        """Remove the buckets that were walked over in vain, if their time has passed; never during a walk.

        A bucket is mostly emptied within its time, when there may be more to come, and nothing would be taken out of
        it later: without this every walk would cost what ever was.
        """
        if not self._empty:
            return
        self._read()
        passed = [key for key in self._empty if _end(key[1]) < clock and self._list.has(*key)]
        self._empty.clear()
        self._remove([key for key in passed if not self._bucket(*key)])

    def close(self) -> None:
        """Forget everything that was read."""
        self._empty.clear()
        self._list.close()
        self._list.garbled = self.garbled = False
        while self._open:
            self._open.popitem()[1].close()

    def _read(self) -> None:
        self._list.read()
        self.garbled |= self._list.garbled

    def _ascending(self, group: str, until: int) -> Iterator[tuple[int, str, str]]:
        for number in self._list.of.get(group, ()):
            if number * WIDTH > until:
                return
            bucket = self._bucket(group, number)
            for time, run_id in bucket.ascending():
                if time > until:
                    return
                yield time, run_id, group
            if not bucket and _end(number) < until:
                self._empty.add((group, number))

    def _bucket(self, group: str, number: int) -> Bucket:
        key = (group, number)
        if (bucket := self._open.get(key)) is None:
            bucket = self._open[key] = Bucket(f"{self._group(group)}/{number}")
            bucket.reset()
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(key)
        bucket.read()
        self.garbled |= bucket.garbled
        return bucket

    def _remove(self, buckets: list[tuple[str, int]]) -> None:
        """Remove empty buckets: all that add to one do so under the index lock, and read the list first."""
        for group, number in buckets:
            if (bucket := self._open.pop((group, number), None)) is not None:
                bucket.close()
            with suppress(FileNotFoundError):
                os.unlink(f"{self._group(group)}/{number}")
        self._list.append([f"-\t{number}\t{group}" for group, number in buckets])
        self._list.tidy()

    def _group(self, group: str) -> str:
        return f"{self._directory}/{file_name(group)[1]}"


def _put(order: list[Pair], pair: Pair) -> None:
    """Add a pair in its place; one that was taken back may still be there."""
    at = bisect_left(order, pair)
    if at == len(order) or order[at] != pair:
        order.insert(at, pair)


def _line(sign: str, pair: Pair) -> str:
    return f"{sign}\t{pair[0]}\t{pair[1]}"


def _end(number: int) -> int:
    """When the time of a bucket has passed."""
    return (number + 1) * WIDTH


def _by_bucket(pairs: Iterable[Pair]) -> dict[int, list[Pair]]:
    found = dict[int, list[Pair]]()
    for pair in pairs:
        found.setdefault(pair[0] // WIDTH, []).append(pair)
    return found
