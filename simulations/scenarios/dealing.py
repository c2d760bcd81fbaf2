"""`privity-sim people`: a data set as a folder of people, to simulate a federation of them.

A CoNLL file is one person, or, dealt among so many, each of its documents goes to one of them. A
CSV file of texts and labels is dealt such that labels are skewed: each label's texts are shared out
in proportions from a Dirichlet distribution (Hsu, Qi and Brown 2019, arXiv 1909.06335, section 3).
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from common.errors import InputError
from common.records import conll
from common.records.records import Labelled, Record
from common.system import files

CSV = ".csv"


def deal(
    sources: Sequence[Path],
    out: Path,
    *,
    users: int = 0,
    skew: float = 0.5,
    text: str = "text",
    label: str = "label",
    seed: int = 0,
) -> dict[str, int]:
    """Write one `<user>.jsonl` a person, and say how many records each has.

    Args:
        users: People a file is dealt among; 0: one a file.
        skew: The Dirichlet's concentration: the smaller, the more of a label one person has.
        text, label: Columns of a CSV file.

    Raises:
        InputError: A file cannot be read, or `out` has something in it.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not an empty folder.", "Name another --out.")
    chance = random.Random(seed)  # noqa: S311
    people: dict[str, list[Record]] = {}
    for source in sources:
        if source.suffix.lower() == CSV:
            dealt = _skewed(_labelled(source, text, label), users or 1, skew, chance)
        else:
            dealt = _by_document(conll.read(source), users or 1)
        for name, records in _named(source.stem, dealt):
            if name in people:
                problem = f"Two files are named {source.stem}."
                raise InputError(problem, "Rename one: people are called after their files.")
            people[name] = records
    out.mkdir(parents=True, exist_ok=True)
    for name, records in people.items():
        lines = (json.dumps({"kind": record.kind, **record.values}) for record in records)
        files.write(out / f"{name}.jsonl", "\n".join(lines) + "\n", durable=False)
    return {name: len(records) for name, records in people.items()}


def _named(stem: str, dealt: list[list[Record]]) -> Iterable[tuple[str, list[Record]]]:
    if len(dealt) == 1:
        return [(stem, dealt[0])]
    width = len(str(len(dealt) - 1))
    return [(f"{stem}-{number:0{width}d}", records) for number, records in enumerate(dealt)]


def _by_document(sentences: Sequence[conll.TaggedTokens], users: int) -> list[list[Record]]:
    """Documents in turn; where a file has one only, neighbouring sentences stay together."""
    if users == 1:
        return [[sentence.record for sentence in sentences]]
    documents = {sentence.document for sentence in sentences}
    dealt: list[list[Record]] = [[] for _ in range(users)]
    for place, sentence in enumerate(sentences):
        whose = sentence.document % users
        if len(documents) < users:
            whose = place * users // len(sentences)
        dealt[whose].append(sentence.record)
    return dealt


def _labelled(source: Path, text: str, label: str) -> list[Labelled]:
    try:
        with source.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            columns = rows.fieldnames or []
            for option, name in (("--text", text), ("--label", label)):
                if name not in columns:
                    problem = f"{source} has no column {name!r}."
                    raise InputError(problem, f"Give {option} one of: {', '.join(columns)}.")
            return [
                Labelled(text=row[text], label=row[label].strip())
                for row in rows
                if row[text] and row[label]
            ]
    except UnicodeDecodeError:
        raise InputError(f"{source} is not UTF-8 text.", "Save it as UTF-8.") from None
    except csv.Error:
        raise InputError(f"{source} is not a CSV file.", "Save it as comma-separated.") from None
    except OSError as error:
        problem = f"{source} cannot be read: {error.strerror}."
        raise InputError(problem, "Name a CSV file.") from error


def _skewed(
    records: Sequence[Labelled], users: int, skew: float, chance: random.Random
) -> list[list[Record]]:
    """Each person's records, in the order of the file."""
    if users == 1:
        return [list(records)]
    by_label: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        by_label.setdefault(record.label or "", []).append(place)
    mine: list[list[int]] = [[] for _ in range(users)]
    for places in by_label.values():
        chance.shuffle(places)
        weights = [chance.gammavariate(skew, 1.0) + 1e-12 for _ in range(users)]
        edges, total = [0], 0.0
        for weight in weights:
            total += weight
            edges.append(round(len(places) * total / sum(weights)))
        for user in range(users):
            mine[user] += places[edges[user] : edges[user + 1]]
    return [[records[place] for place in sorted(places)] for places in mine]
