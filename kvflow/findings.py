"""What was found out about a store's server: a fact, what it means for runs, and what to set where that is not enough.

A level is about promises. ``BAD`` means that one is not kept while the server is up, or that the server cannot be
used at all; ``LIMIT`` that all are kept, until something dies or stands still that people should know of; ``UNKNOWN``
that the server does not tell, so somebody has to be asked.
"""

from enum import StrEnum

from msgspec import Struct


class Level(StrEnum):
    """What a finding means for the promises."""

    GOOD = "good"
    NOTE = "note"
    LIMIT = "limit"
    UNKNOWN = "unknown"
    BAD = "bad"


class Finding(Struct, frozen=True, kw_only=True):
    """A fact in people's words; ``remedy`` is what to do about it, and empty where nothing is to be done."""

    about: str
    level: Level
    says: str
    remedy: str = ""


def good(about: str, says: str) -> Finding:
    return Finding(about=about, level=Level.GOOD, says=says)


def note(about: str, says: str) -> Finding:
    return Finding(about=about, level=Level.NOTE, says=says)


def limit(about: str, says: str, remedy: str = "") -> Finding:
    return Finding(about=about, level=Level.LIMIT, says=says, remedy=remedy)


def unknown(about: str, says: str, remedy: str) -> Finding:
    return Finding(about=about, level=Level.UNKNOWN, says=says, remedy=remedy)


def bad(about: str, says: str, remedy: str) -> Finding:
    return Finding(about=about, level=Level.BAD, says=says, remedy=remedy)
