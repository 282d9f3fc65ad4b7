"""The user's values: to bytes and back to the type that was annotated.

A value reaches the body only as decoded from its bytes, in a first pass as in a replay, so both see the
same. Anything that msgspec converts will do; pydantic models too, by their own two methods, without
importing pydantic here.
"""

import contextlib
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Raw

from kvflow.errors import InvalidArgument, InvalidPayload, WrongColour


def _to_builtins(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise NotImplementedError(f"objects of type {type(value).__qualname__} cannot be encoded")
    return dump(mode="json")


def _from_builtins(wanted: type, value: Any) -> Any:
    validate = getattr(wanted, "model_validate_json", None)
    if validate is None:
        raise NotImplementedError(f"objects of type {wanted.__qualname__} cannot be decoded")
    try:
        return validate(msgspec.json.encode(value))
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from error


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_builtins)
_sorting_encoder = msgspec.msgpack.Encoder(order="deterministic")


def encode(value: Any) -> Raw:
    """The bytes of a value; TypeError, ValueError or RecursionError where it has none."""
    try:
        return Raw(_encoder.encode(value))
    except OverflowError as error:
        raise ValueError(f"an int has no place in 64 bits: {error}") from error


@lru_cache(maxsize=1024)
def _decoder(wanted: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(wanted, dec_hook=_from_builtins)


def _decoder_for(wanted: Any) -> msgspec.msgpack.Decoder[Any]:
    try:
        return _decoder(wanted)
    except TypeError:  # a type that cannot be hashed
        return msgspec.msgpack.Decoder(wanted, dec_hook=_from_builtins)


def decode(raw: Raw, wanted: Any = Any) -> Any:
    """The value of these bytes, as ``wanted``; ``msgspec.ValidationError`` where it is none."""
    return _decoder_for(wanted).decode(raw)


def check_payload(payload: Any, wanted: Any, workflow: str) -> Raw:
    """The bytes of a payload as its body will see it; ``InvalidPayload`` says where it does not fit."""
    try:
        raw = encode(payload)
        return raw if wanted is Any else encode(decode(raw, wanted))
    except (msgspec.MsgspecError, TypeError, ValueError, NotImplementedError, RecursionError) as error:
        raise InvalidPayload(f"workflow {workflow!r} does not take this payload: {error}") from error


def same(one: Raw, other: Raw, wanted: Any) -> bool:
    """Whether two payloads are the same to a body that takes ``wanted``, whatever order their keys came in."""
    if bytes(one) == bytes(other):
        return True
    try:
        first, second = (_sorting_encoder.encode(decode(encode(decode(raw, wanted)))) for raw in (one, other))
    except (msgspec.MsgspecError, TypeError, ValueError, NotImplementedError, RecursionError):
        return False
    return first == second


def _annotation(function: Callable[..., Any], name: str) -> Any:
    """One annotation of a function, by itself: that others are in names unknown here does not matter.

    NameError where this one is; Any where there is none.
    """
    annotations: dict[str, Any] = getattr(function, "__annotations__", {})
    if name not in annotations:
        return Any

    def holder() -> None: ...

    holder.__annotations__ = {name: annotations[name]}
    names = dict(getattr(function, "__globals__", {}))
    with contextlib.suppress(TypeError, ValueError):
        names |= inspect.getclosurevars(function).nonlocals
    return typing.get_type_hints(holder, globalns=names, include_extras=True)[name]


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that carries the annotations: of a partial, a wrapper, or an object that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return type(function).__call__


def returned_type(function: Callable[..., Any]) -> Any:
    """What a function is annotated to return; Any where it does not say, or says it in names unknown here."""
    plain = _plain(function)
    if isinstance(plain, type):
        return plain
    try:
        returned = _annotation(plain, "return")
    except (NameError, TypeError, AttributeError, SyntaxError):
        return Any
    if typing.get_origin(returned) in (Awaitable, Coroutine):
        return typing.get_args(returned)[-1]
    return returned


_AS_ANY = _decoder(Any)
_of_functions: "WeakKeyDictionary[Callable[..., Any], msgspec.msgpack.Decoder[Any]]" = WeakKeyDictionary()


def result_decoder(function: Callable[..., Any]) -> msgspec.msgpack.Decoder[Any]:
    """What decodes the results of a function; looked up once for each, for a long replay asks often."""
    if not getattr(function, "__annotations__", True):
        return _AS_ANY
    try:
        return _of_functions[function]
    except (KeyError, TypeError):
        decoder = _decoder_for(returned_type(function))
    with contextlib.suppress(TypeError):  # what cannot be remembered is looked up each time
        _of_functions[function] = decoder
    return decoder


def payload_type(body: Callable[..., Any], name: str) -> Any:
    """What the second parameter of a body is annotated as; Any where it does not say."""
    parameters = list(inspect.signature(body).parameters.values())
    if len(parameters) < 2:
        return Any
    try:
        return _annotation(inspect.unwrap(body), parameters[1].name)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise InvalidArgument(
            f"workflow {name!r}: the annotation of {parameters[1].name!r} is not known where the body is: {error}"
        ) from error


def check_sync(function: Callable[..., Any] | None, what: str) -> None:
    """Refuse ``async def`` where nobody would await it."""
    code: CodeType | None = getattr(function, "__code__", None)
    if function is None or (code is not None and not code.co_flags & inspect.CO_COROUTINE):
        return
    if inspect.iscoroutinefunction(function):
        name = getattr(function, "__qualname__", repr(function))
        raise WrongColour(f"{what} {name} is async def: a sync runtime cannot await it; use AsyncRuntime, or def")
