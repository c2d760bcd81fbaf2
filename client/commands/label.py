"""`privity-client label`: what the adapters say of a text, with labels in place of words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from client.vault.home import open_vault
from common.console.say import say
from common.errors import InputError
from common.visible import visible

if TYPE_CHECKING:
    from client.learning.adapters import Adapters
    from common.tasks.labelled import LabelTask
    from common.tasks.task import Example

STANDARD_INPUT = "-"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("label", help="what your adapters say of a text: label, or names")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="or - for lines of standard input")
    parser.set_defaults(action=run)


def run(options: argparse.Namespace) -> int:
    """Nothing that is asked is stored or sent."""
    from client.federation.examples import sets_key
    from client.learning import adapters
    from client.learning.in_use import settings_in_use
    from common.tasks import task_of
    from common.tasks.labelled import LabelTask
    from common.tasks.sets import chosen

    with open_vault(options) as vault:
        task = task_of(settings_in_use(vault.store).task)
        if not isinstance(task, LabelTask):
            problem = f"Your adapter is for --task {task.name}, which is answered in words."
            raise InputError(problem, "Talk with it: privity-client chat.")
        have = adapters.load(vault.store)
        examples = task.examples(vault.records.all())
        heldout = chosen(examples, sets_key(vault.store), have.settings.rounds.examples)[1]
    for line in _answers(task, have, heldout, _texts(options.texts)):
        say(visible(line))  # labels are the federation's words
    return 0


def _texts(given: Sequence[str]) -> Iterator[str]:
    for text in given:
        lines = sys.stdin if text == STANDARD_INPUT else [text]
        yield from (line.strip() for line in lines if line.strip())


def _answers(
    task: LabelTask, have: Adapters, heldout: Sequence[Example], texts: Iterator[str]
) -> Iterator[str]:
    from common.adapter.weights import whole
    from common.learning.backbone import backbone_for

    shared = whole(have.shared, have.kept) if have.shared else None
    personal = have.personal.vector if have.personal else None
    if shared is None and personal is None:
        problem = "No adapter of this task was found to help here yet."
        raise InputError(problem, "Take part in a round, or learn alone: privity-client train.")
    backbone = backbone_for(have.settings)
    with backbone.using(shared, personal):
        score = backbone.score(backbone.prepared(heldout))
        for text in texts:
            example = task.asked(text)
            (prepared,) = backbone.prepare([backbone.encode(example)])
            yield task.told(example, backbone.outputs(prepared), score)
