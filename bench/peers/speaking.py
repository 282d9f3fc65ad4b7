"""A program's side of the talk with the bench: a JSON object a line, asked on stdin and answered on stdout.

This runs in the peers' environments too, so it needs nothing but the standard library. Whatever else is printed goes to
stderr, lest it be taken for an answer.
"""

import asyncio
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO, TypeVar

PAUSE = 0.005
"""Seconds between two looks at whether it is so."""

One = TypeVar("One")
Answer = TypeVar("Answer")


def speak(program: Any) -> None:
    """Answer by the program's methods until the bench says no more; in between an event loop goes on."""
    asyncio.run(_speak(program, _answers()))


async def _speak(program: Any, answers: TextIO) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        try:
            answer = getattr(program, asked.pop("do"))(**asked)
            told = {"answer": await answer if inspect.isawaitable(answer) else answer}
        except Exception:  # noqa: BLE001 - whatever it was, the bench reports it
            told = {"failed": traceback.format_exc()}
        answers.write(json.dumps(told) + "\n")
        answers.flush()


def _answers() -> TextIO:
    """What was stdout; from here on, stdout is stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def each(number: int, call: Callable[[One], Answer], ones: Iterable[One]) -> list[Answer]:
    """The answers of a call for each, so many at once, in threads; without threads for one at a time."""
    if number == 1:
        return [call(one) for one in ones]
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(call, ones))


async def each_async(number: int, call: Callable[[One], Awaitable[Answer]], ones: Iterable[One]) -> list[Answer]:
    """The same for what is awaited."""
    free = asyncio.Semaphore(number)

    async def one_of(one: One) -> Answer:
        async with free:
            return await call(one)

    return list(await asyncio.gather(*map(one_of, ones)))


async def until(done: Callable[[], bool], deadline: float) -> None:
    """Wait until it is so; that the deadline has passed is no error here, for the bench looks at what there is."""
    end = time.monotonic() + deadline
    while not done() and time.monotonic() < end:
        await asyncio.sleep(PAUSE)
