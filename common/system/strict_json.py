"""JSON as its standard has it: no NaN, no infinities, and no key twice in one object."""

from __future__ import annotations

import json
import math
from typing import Any


def encode(value: Any, *, indent: int | None = None) -> str:
    """JSON text of plain values. A float that is no finite number becomes null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def decode(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: It is not JSON.
        ValueError: It is JSON to Python only (NaN, infinities), has a key twice in one object, a
            lone surrogate, or a number that is too large.
        RecursionError: It is nested too deeply.
    """
    value = json.loads(text, parse_constant=_refuse, parse_float=_number, object_pairs_hook=_once)
    json.dumps(value, ensure_ascii=False).encode()  # refuses lone surrogates
    return value


class RepeatedKeyError(ValueError):
    """A key stands twice in one object: readers differ in which value counts."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RepeatedKeyError
    return found


def _number(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(digits)
    return number


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
