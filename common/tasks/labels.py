"""The labels of a task as one setting: everybody in a federation must mean the same ones."""

from __future__ import annotations

from collections.abc import Iterable

from common.errors import InputError

SEPARATOR = "|"
MOST = 1000  # labels; each is a row of the head, which is sent


def split(setting: str) -> tuple[str, ...]:
    """The labels of a setting, in its order; none of an empty one.

    Raises:
        InputError: One is empty or stands twice, or there are too many.
    """
    if not setting:
        return ()
    labels = tuple(label.strip() for label in setting.split(SEPARATOR))
    if not all(labels):
        raise InputError("--labels has an empty label.", f"Put one {SEPARATOR!r} between two.")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"--labels has {twice!r} twice.", "Name each label once.")
    if len(labels) > MOST:
        problem = f"--labels has {len(labels)} labels; {MOST} is the most."
        raise InputError(problem, "Leave out rare ones, or join them under one label.")
    return labels


def joined(labels: Iterable[str]) -> str:
    """The setting that `split` reads.

    Raises:
        InputError: A label has the sign that parts them.
    """
    labels = list(labels)
    for label in labels:
        if SEPARATOR in label:
            problem = f"The label {label!r} has a {SEPARATOR!r} in it, which parts labels."
            raise InputError(problem, "Give it another name.")
    return SEPARATOR.join(labels)
