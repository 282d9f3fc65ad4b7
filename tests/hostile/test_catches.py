"""The attacks find what they are for: kvflow broken on purpose does not get through them."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hostile.attack import run
from hostile.decoders import ATTACKS
from hostile.watch import Deed, answered, check_harmless, watched
from kvflow import Corrupt, KvflowError, history, info, records, values
from kvflow.stores import FileStore, file_disk
from kvflow.testing.runs import birth

Patch = Callable[[pytest.MonkeyPatch], None]


def fails(name: str, count: int = 400) -> None:
    """The attack must see that what it tries is broken."""
    inputs, attacked, _ = ATTACKS[name]
    with pytest.raises(
        (AssertionError, ValueError, ArithmeticError, LookupError, RuntimeError, msgspec.MsgspecError)
    ) as seen:
        run(name, inputs, attacked, count, shrink=False)
    assert not isinstance(seen.value, KvflowError)


def only_what_msgspec_says(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(records, "UNDECODABLE", (msgspec.DecodeError,))


def values_unguarded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(info, "UNDECODABLE", ())


def words_looked_up_blindly(patch: pytest.MonkeyPatch) -> None:
    def message(self: history.History, message: str) -> Any:
        return self._messages[message]  # pyright: ignore[reportPrivateUsage]

    patch.setattr(history.History, "message", message)


def pickles_loaded(patch: pytest.MonkeyPatch) -> None:
    def loaded(run_id: str, snapshot: bytes) -> Any:
        try:
            return pickle.loads(snapshot)
        except Exception as error:
            raise Corrupt("no pickle") from error

    patch.setattr("hostile.decoders.decode_head", loaded)


def text_evaluated(patch: pytest.MonkeyPatch) -> None:
    def evaluated(run_id: str, snapshot: bytes) -> Any:
        try:
            return eval(snapshot[:20], {})
        except BaseException as error:
            raise Corrupt("no expression") from error

    patch.setattr("hostile.decoders.decode_head", evaluated)


def lengths_believed(patch: pytest.MonkeyPatch) -> None:
    def believed(run_id: str, snapshot: bytes) -> Any:
        if snapshot[:1] == b"\xdd":
            bytearray(min(int.from_bytes(snapshot[1:5]), 2**26))
        raise Corrupt("no list")

    patch.setattr("hostile.decoders.decode_head", believed)


def ints_of_any_size(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(values, "encode", lambda value: msgspec.Raw(msgspec.msgpack.encode(value)))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("heads", only_what_msgspec_says),
        ("logs", only_what_msgspec_says),
        ("runs shown", values_unguarded),
        ("runs shown", words_looked_up_blindly),
        ("heads", pickles_loaded),
        ("heads", text_evaluated),
        ("heads", lengths_believed),
        ("payloads as types", ints_of_any_size),
    ],
)
def test_a_broken_decoder_is_seen(name: str, broken: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    fails(name)


def test_a_file_made_by_the_umask_alone_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hostile.test_files import mode_of

    monkeypatch.setattr(file_disk, "FILE_MODE", 0o644)
    with FileStore(tmp_path / "store") as store:
        store.save(birth())
    assert {mode_of(path) for path in tmp_path.rglob("*") if path.is_file()} == {0o644}


def test_a_file_opened_elsewhere_is_seen(tmp_path: Path) -> None:
    with pytest.raises(Deed, match="passwd"), watched(tmp_path):
        os.close(os.open("/etc/passwd", os.O_RDONLY))
    with pytest.raises(Deed, match=r"os\.system"), watched(tmp_path):
        os.system("true")  # pyright: ignore[reportDeprecated]


def test_an_error_of_another_kind_is_seen() -> None:
    with pytest.raises(KeyError):
        answered(lambda: os.environ["NOBODY SET THIS"])


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b", "\u202e", "\r", "\0", "\u2028"])
def test_what_a_terminal_acts_upon_is_seen(text: str) -> None:
    with pytest.raises(Deed):
        check_harmless(f"some {text} text")
