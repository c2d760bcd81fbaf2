"""One setting: its default, what it means, what it may be, and the name that people give it by."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Collection, Mapping
from typing import Any

from common.errors import InputError

Scalar = bool | int | float | str


def setting(
    default: Any,
    text: str,
    *,
    name: str = "",
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Collection[Any] = (),
    binding: bool = True,
    operators: bool = True,
) -> Any:
    """A dataclass field that is a setting.

    Args:
        text: Its help, on command lines and in files.
        name: What people call it, where a field's own name would be that of several.
        low, high: Bounds, both allowed.
        above: A bound that is not.
        binding: Whether a federation and its devices must agree on it.
        operators: Whether an operator sets it; else a simulation or each device for itself.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": text, "name": name, "low": low, "high": high, "above": above,
            "choices": choices, "binding": binding, "operators": operators,
        },
    )  # fmt: skip


def name_of(field: dataclasses.Field[Any]) -> str:
    """What people call a setting, in files and, with dashes, on command lines."""
    return str(field.metadata["name"] or field.name)


def option(name: str) -> str:
    """A setting as an option of a command."""
    return "--" + name.replace("_", "-")


def require_within(shown: str, rules: Mapping[str, Any], value: Scalar) -> None:
    """Refuse a value that a setting cannot have.

    Args:
        shown: The setting, as whoever gave the value knows it.
        rules: The metadata of its field.

    Raises:
        InputError: Saying what it can be.
    """
    if rules["choices"] and value not in rules["choices"]:
        known = ", ".join(str(choice) for choice in rules["choices"])
        raise InputError(f"{shown} cannot be {str(value)[:100]!r}.", f"Choose one of: {known}.")
    if isinstance(value, str | bool):
        return
    if not math.isfinite(value):
        raise InputError(f"{shown} must be a finite number, not {value}.")
    for key, holds, words in (
        ("above", operator.gt, "greater than"),
        ("low", operator.ge, "at least"),
        ("high", operator.le, "at most"),
    ):
        if rules[key] is not None and not holds(value, rules[key]):
            raise InputError(f"{shown} must be {words} {rules[key]:g}, not {value:g}.")
