"""Records: checked wherever they are made, and the same in a file, in memory and in a vault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import InputError
from common.records.records import (
    KINDS,
    Fact,
    Labelled,
    Message,
    Rating,
    keys_of,
    read_records,
    record_of,
)

EVERY_KIND: dict[str, dict[str, Any]] = {
    "message": {"text": "hi", "author": "me", "conversation": "c"},
    "fact": {"text": "tea"},
    "rating": {"item": "1", "title": "Tea", "value": 5, "text": "good", "tags": ["hot"]},
    "measurement": {"name": "weight", "value": 70.5, "unit": "kg"},
    "transaction": {"amount": -3, "currency": "EUR", "payee": "Tea House", "category": "food"},
    "answer": {"question": "when?", "answer": "now"},
    "example": {"text": "refund", "probabilities": {"money": 0.9, "other": 0.1}},
    "tagged": {"tokens": ["tea"], "tags": ["O"]},
}


def test_every_kind_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert list(EVERY_KIND) == list(KINDS)
    file = tmp_path / "me.jsonl"
    lines = [{"kind": kind, **values} for kind, values in EVERY_KIND.items()]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = read_records(file)
    assert [(one.kind, one.values) for one in found] == list(EVERY_KIND.items())
    assert found == [record_of(kind, values) for kind, values in EVERY_KIND.items()]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_repr_shows_nothing(kind: str) -> None:
    shown = repr(record_of(kind, EVERY_KIND[kind], at="2026-01-01T00:00:00+00:00"))
    assert shown == f"{KINDS[kind].__name__}(redacted)"


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind, values in EVERY_KIND.items() for key in values]
)
def test_each_key_has_its_type(kind: str, key: str) -> None:
    """Also where a record is made by code, and no file is read; the value is not quoted."""
    for wrong in (True, object(), [1] if key not in ("tags", "tokens") else "secret"):
        with pytest.raises(InputError, match=f"'{key}' is a (bool|object|list|str), wanted") as no:
            KINDS[kind](**EVERY_KIND[kind] | {key: wrong})
        assert "secret" not in str(no.value)


def test_each_kind_has_the_keys_that_it_needs() -> None:
    for kind, values in EVERY_KIND.items():
        assert set(values) <= set(keys_of(KINDS[kind]))
        with pytest.raises(InputError, match=f"a {kind} record without"):
            record_of(kind, {})
        with pytest.raises(InputError, match=f"unknown key in a {kind} record"):
            record_of(kind, values | {"mood": "secret"})
    with pytest.raises(InputError, match="unknown kind"):
        record_of("secret", {})


def test_what_has_few_values_has_no_other() -> None:
    with pytest.raises(InputError, match="'author' must be one of me, other, assistant"):
        Message(text="hi", author="secret", conversation="c")
    with pytest.raises(InputError, match="'split' must be one of train, heldout"):
        Fact(text="hi", split="secret")
    for both in ({}, {"label": "a", "probabilities": {"a": 1.0}}):
        with pytest.raises(InputError, match="either 'label' or 'probabilities'"):
            Labelled(text="hi", **both)  # type: ignore[arg-type]


def test_an_optional_key_may_be_missing_but_not_null() -> None:
    assert Rating(item="1", title="Tea", value=5).values == {
        "item": "1",
        "title": "Tea",
        "value": 5,
    }
    with pytest.raises(InputError, match="'text' is a NoneType, wanted str"):
        record_of("rating", {"item": "1", "title": "Tea", "value": 5, "text": None})
