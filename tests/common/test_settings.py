"""Settings: one table of names over nested groups, and functions that take what they need."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import InputError
from common.settings import GROUPS, TABLE, Settings

ROOT = Path(__file__).parents[2]
PROGRAMS = ("client", "common", "server", "simulations")
SEVERAL = 3  # groups, and a function may as well take them all


def test_every_setting_has_one_name() -> None:
    fields = [field for kind in GROUPS.values() for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    assert len(TABLE) == len(fields)
    assert list(GROUPS) == [field.name for field in dataclasses.fields(Settings)]


def test_what_is_given_by_name_comes_out_by_name() -> None:
    settings = Settings.of(user_epsilon=3.0, personal_rank=2, rounds=7)
    assert (settings.user.epsilon, settings.personal.rank, settings.rounds.count) == (3.0, 2, 7)
    assert Settings.of(**settings.to_dict()) == settings
    assert settings.but(rounds=8).but(rounds=7) == settings != settings.but(rounds=8)


def test_an_unknown_name_and_a_value_out_of_bounds_are_refused() -> None:
    with pytest.raises(InputError, match="'roundz'"):
        Settings.of(roundz=3)
    with pytest.raises(InputError, match="--personal-rank must be at least 1"):
        Settings().but(personal_rank=0)


def test_a_digest_is_of_what_all_must_agree_on_and_of_nothing_else() -> None:
    agreed = Settings().digest()
    for name, setting in TABLE.items():
        if setting.field.metadata["binding"] and type(setting.field.default) is float:
            changed = Settings().but(**{name: setting.field.default * 0.9 + 0.02})
            assert changed.digest() != agreed, name
    assert Settings().but(personal_rank=3, out="x", data="y", deadline_s=1.0).digest() == agreed


def test_whoever_takes_all_settings_hands_them_on_or_needs_several_groups() -> None:
    mistaken = [
        f"{file.relative_to(ROOT)}:{function.lineno} {function.name}"
        for name in PROGRAMS
        for file in (ROOT / name).rglob("*.py")
        for function in _functions(file)
        for parameter in _whole(function)
        if 0 < len(read := _groups_read(function, parameter)) < SEVERAL and None not in read
    ]
    assert not mistaken


def _functions(file: Path) -> Iterator[ast.FunctionDef]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _whole(function: ast.FunctionDef) -> list[str]:
    parameters = [*function.args.args, *function.args.kwonlyargs]
    typed = [(one.arg, one.annotation) for one in parameters if one.annotation]
    return [name for name, kind in typed if ast.unparse(kind) == "Settings"]


def _groups_read(function: ast.FunctionDef, parameter: str) -> set[str | None]:
    """The groups that it reads of the parameter; with None where it uses the whole."""
    parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    read: set[str | None] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == parameter:
            above = parents[node]
            group = above.attr if isinstance(above, ast.Attribute) else None
            read.add(group if group in GROUPS else None)
    return read
