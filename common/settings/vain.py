"""Settings that would change nothing beside the others, though whoever gives one expects it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from common.errors import InputError
from common.settings.field import option
from common.settings.settings import Settings
from common.tasks import task_of


@dataclass(frozen=True, slots=True)
class _Need:
    """What some settings need.

    Attributes:
        names: The settings.
        met: Whether they change anything.
        why: What is in the way, behind "changes nothing".
        hint: What can be done about it.
    """

    names: tuple[str, ...]
    met: Callable[[Settings], bool]
    why: str
    hint: str


_NEEDS = (
    _Need(
        ("user_delta", "user_clip"), lambda s: s.user.epsilon > 0,
        "without --user-epsilon", "Add --user-epsilon.",
    ),
    _Need(
        ("evaluation_range",), lambda s: s.evaluation.epsilon > 0,
        "without --evaluation-epsilon", "Add --evaluation-epsilon.",
    ),
    _Need(
        ("max_grad_norm",), lambda s: s.record.dp,
        "without record-level privacy", "Leave it or --no-dp out.",
    ),
    _Need(
        ("accountant",), lambda s: s.record.dp or s.evaluation.epsilon > 0,
        "without record-level privacy", "Leave it or --no-dp out.",
    ),
    _Need(
        ("update_range",), lambda s: s.user.epsilon == 0,
        "with --user-epsilon, where --user-clip bounds an update", "Give --user-clip instead.",
    ),
    _Need(
        ("head_rank",), lambda s: not task_of(s.task).speaks,
        "for a task that is answered in words", "Leave it out, or give another --task.",
    ),
    _Need(
        ("rank",), lambda s: bool(s.adapter.module_names),
        "where no module carries the shared adapter", "Name some with --modules.",
    ),
    _Need(
        ("personal_rank",), lambda s: bool(s.personal.module_names),
        "where no module carries the personal adapter", "Name some with --personal-modules.",
    ),
    _Need(
        ("layers",), lambda s: bool(s.adapter.module_names or s.personal.module_names),
        "where no module carries an adapter", "Name some with --modules.",
    ),
    _Need(
        ("personal_rank", "personal_modules", "personal_rate", "personal_batch"),
        lambda s: s.personal.epochs > 0,
        "with --personal-epochs 0", "Leave one of them out.",
    ),
)  # fmt: skip


def require_none_in_vain(settings: Settings, given: Collection[str]) -> None:
    """Refuse a setting that was given and would change nothing.

    Args:
        given: The names of the settings that somebody chose, as people call them.

    Raises:
        InputError: Saying why it would not, and what can be done.
    """
    for need in _NEEDS:
        for name in need.names:
            if name in given and not need.met(settings):
                raise InputError(f"{option(name)} changes nothing {need.why}.", need.hint)
