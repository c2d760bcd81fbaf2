"""CoNLL files: what is read of them, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.errors import InputError
from common.records import conll


def read(folder: Path, content: str) -> list[tuple[int, list[str], list[str]]]:
    file = folder / "a.conll"
    file.write_text(content, encoding="utf-8")
    return [
        (one.document, list(one.record.tokens), list(one.record.tags)) for one in conll.read(file)
    ]


def test_tokens_and_their_last_column(tmp_path: Path) -> None:
    found = read(tmp_path, "Anna\tB-PER\nruns\tO\n\nRome\tB-LOC")
    assert found == [(0, ["Anna", "runs"], ["B-PER", "O"]), (0, ["Rome"], ["B-LOC"])]


def test_four_columns_and_documents(tmp_path: Path) -> None:
    start = "-DOCSTART- -X- O O\n\n"
    found = read(tmp_path, f"{start}This DT - O\n\n{start}Acme NNP - I-ORG\nInc NNP - I-ORG\n")
    assert found == [(0, ["This"], ["O"]), (1, ["Acme", "Inc"], ["B-ORG", "I-ORG"])]


@pytest.mark.parametrize(
    ("iob1", "bio"),
    [
        ("I-PER I-PER", "B-PER I-PER"),
        ("I-PER B-PER", "B-PER B-PER"),
        ("I-PER I-LOC", "B-PER B-LOC"),
        ("O I-LOC O", "O B-LOC O"),
        ("B-PER I-PER", "B-PER I-PER"),
    ],
)
def test_what_iob1_leaves_out_is_put_in(iob1: str, bio: str) -> None:
    assert conll.bio(iob1.split()) == bio.split()


def test_windows_lines_and_a_mark_at_the_start(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffAnna\tO\r\n\r\n\r\nRome\tO\r\n") == [
        (0, ["Anna"], ["O"]), (0, ["Rome"], ["O"]),
    ]  # fmt: skip
    assert read(tmp_path, "") == []


@pytest.mark.parametrize("line", ["secret", "secret PER", "secret B-", "secret\tX-PER"])
def test_another_line_is_refused_with_its_number_and_unquoted(tmp_path: Path, line: str) -> None:
    with pytest.raises(InputError, match="line 2: not a token and a tag") as caught:
        read(tmp_path, f"Anna O\n{line}\n")
    assert "secret" not in str(caught.value)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        conll.read(tmp_path / "b")
    with pytest.raises(InputError, match="cannot be read"):
        conll.read(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="not a file but"):
            conll.read(odd)
    (tmp_path / "c").write_text("x" * 200_000)
    with pytest.raises(InputError, match="more than 100,000 characters"):
        conll.read(tmp_path / "c")
