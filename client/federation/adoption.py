"""Whether a published adapter is worth using here: it must help on answers it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

from client.learning import adapters
from client.learning.adapters import kept_here
from client.learning.in_use import settings_in_use
from client.vault.store import Store
from common.adapter.plan import Vector
from common.adapter.weights import Shared, whole
from common.learning.backbone import Backbone, Prepared, backbone_for
from common.settings import Settings
from common.tasks import task_of
from common.tasks.task import Example, mean_loss


def adopt(store: Store, settings: Settings, published: Shared, heldout: Sequence[Example]) -> str:
    """Use a published adapter if it beats what is used now on the person's held-out answers.

    What is used now is the shared adapter of the same plan, or the base without one. Where there
    are no held-out answers, nothing speaks against it.

    Args:
        settings: The federation's; the policy has allowed their model.

    Returns:
        What was decided and why, for the person.
    """
    name = published.digest()[:12]
    if not heldout:
        adapters.keep_shared(store, settings, published)
        task = task_of(settings.task)
        return f"{name}, in use; there are no held-out {task.several} to try it on"
    now, mine = adapters.shared_in_use(store), settings_in_use(store)
    backbone = backbone_for(adapters.with_own(settings, mine.personal))
    answers, kept = backbone.prepared(heldout), kept_here(store, published.plan)
    same = now is not None and (mine.model.name, now.plan) == (settings.model.name, published.plan)
    before = _loss(backbone, answers, now if same else None, kept)
    after = _loss(backbone, answers, published, kept)
    if after < before:
        adapters.keep_shared(store, settings, published)
    elif now is None:
        adapters.follow(store, settings)
    task = backbone.task
    return (
        f"{name}, {'in use' if after < before else 'not used'}; on {len(heldout)} {task.several} it"
        f" has not seen: {after:.3f} {task.unit}, {before:.3f} with what was used before"
    )


def _loss(
    backbone: Backbone, answers: Sequence[Prepared], shared: Shared | None, kept: Vector | None
) -> float:
    with backbone.using(whole(shared, kept) if shared else None):
        return mean_loss(backbone.score(answers))
