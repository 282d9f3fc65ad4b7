"""``kvflow check``: whether a live server is good enough, found out by trying the store contract on it.

Three things are asked, in this order: what the server's own settings mean for an acknowledged write, whether this
account may do what a store does, and whether each promise of the contract holds. The first two only where they leave
something to try. All that is written is written in a scratch prefix, which is gone when the command ends.
"""

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Annotated

import typer

from kvflow.cli.measures import measure
from kvflow.cli.output import complain
from kvflow.cli.promises import PROMISES, Away, Broken, Outcome, Promise, tried, try_test
from kvflow.cli.report import GOOD, LIMITS, NOT, Report, View, view
from kvflow.cli.scratch import Scratch, opened
from kvflow.cli.stopping import Wish, stopping
from kvflow.cli.stores import AsJson, Prefix, store_named
from kvflow.errors import InvalidArgument, KvflowError, NotSupported, StoreUnavailable
from kvflow.findings import Finding, Level, bad, unknown
from kvflow.stores.schemes import redacted
from kvflow.stores.upkeep import upkeep_of


def check(
    store: Annotated[
        str | None, typer.Argument(metavar="STORE", show_default=False, help="A URL; else KVFLOW_STORE.")
    ] = None,
    prefix: Prefix = "kvflow",
    scratch: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="Tables or keys that were prepared for checks, where this account may make no others.",
        ),
    ] = None,
    json: AsJson = False,
) -> int:
    """Tell whether a server is good enough for runs.

    The store contract is tried on it. Said is which promises hold, and what the server's own settings mean. All is
    written in a scratch prefix, which is gone afterwards, and never in your own. It takes some seconds. On a terminal
    tables, elsewhere a line for each thing found, with tabs between fields. Exit 1 if it is not good enough.
    """
    if not __debug__:
        raise InvalidArgument("Python runs without its asserts (-O, PYTHONOPTIMIZE), so a check would find nothing")
    url, begun, shown = store_named(store), time.monotonic(), view(json)
    try:
        with stopping() as wish, _quiet(), shown:
            settings = _settings(url, prefix)
            place = Scratch(url, prefix, scratch)
            outcomes, left = _tried(place, settings, wish, shown)
    except KeyboardInterrupt:
        complain("stopped at once: what is named ..._check_... may be left on the server, to be removed by hand")
        return 130
    if wish.code:
        complain("stopped, and nothing is left behind" if not left else f"stopped: {left}")
        return wish.code
    report = Report(redacted(url), _verdict(settings, outcomes), settings, outcomes, time.monotonic() - begun)
    shown.report(report)
    if left:
        complain(left)
    return int(report.verdict == NOT or bool(left))


def _settings(url: str, prefix: str) -> list[Finding]:
    try:
        upkeep = upkeep_of(url, prefix=prefix)
    except NotSupported as error:
        return [unknown("durability", "what an acknowledged write survives is not known here", str(error))]
    return upkeep.findings()


def _tried(place: Scratch, settings: list[Finding], wish: Wish, shown: View) -> tuple[list[Outcome], str]:
    """How the promises fared, and what is left on the server, which should be nothing; adds to ``settings``."""
    outcomes: list[Outcome] = []
    if any(found.level is Level.BAD for found in settings):
        shown.settings(settings)
        return outcomes, ""
    try:
        place.check_unused()
    except NotSupported as error:
        settings.append(_not_allowed(place, error))
        shown.settings(settings)
        return outcomes, ""
    try:
        if _measured(place, settings, shown):
            _try_all(place, outcomes, wish, shown)
    except Away as error:
        settings.append(bad("server", f"it went away during the check: {error}", "check again"))
        shown.settings(settings[-1:])
    finally:
        left = _cleared(place)
    return outcomes, left


def _measured(place: Scratch, settings: list[Finding], shown: View) -> bool:
    """Whether the store can be used at all."""
    try:
        with opened(place.open) as store:
            settings += measure(store)
    except NotSupported as error:
        settings.append(_not_allowed(place, error))
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - what a store does wrong at once, the promises will show
        settings.append(unknown("speed", f"not measured: {type(error).__name__}: {error}", "see what is broken"))
    shown.settings(settings)
    return not any(found.level is Level.BAD for found in settings)


def _not_allowed(place: Scratch, error: NotSupported) -> Finding:
    return bad("permission", str(error), place.how_to_prepare)


def _try_all(place: Scratch, outcomes: list[Outcome], wish: Wish, shown: View) -> None:
    for promise in PROMISES:
        results: list[Broken | str | None] = []
        for mixin, name in promise.tests:
            if wish.code:
                return
            shown.trying(promise.says, len(results), len(promise.tests))
            place.empty()
            results.append(try_test(mixin, name, place.open))
        outcomes.append(_told(promise, results, shown))


def _told(promise: Promise, results: list[Broken | str | None], shown: View) -> Outcome:
    outcome = tried(promise, results)
    shown.outcome(outcome)
    return outcome


def _cleared(place: Scratch) -> str:
    """What could not be taken away, and why; empty if nothing is left."""
    try:
        place.clear()
    except (KvflowError, OSError) as error:
        return f"{place.names} may be left on the server, to be removed by hand: {error}"
    return ""


def _verdict(settings: list[Finding], outcomes: list[Outcome]) -> str:
    levels = {found.level for found in settings}
    if Level.BAD in levels or any(outcome.broken for outcome in outcomes):
        return NOT
    limited = levels & {Level.LIMIT, Level.UNKNOWN} or any(outcome.left_out for outcome in outcomes)
    return LIMITS if limited else GOOD


@contextmanager
def _quiet() -> Generator[None]:
    """What stores log of runs that the contract breaks on purpose is for nobody."""
    log = logging.getLogger("kvflow.stores")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
