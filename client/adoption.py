"""Whether a published adapter is worth using here: it must help on answers it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

from client import adapters
from client.participation import kept_here
from client.store import Store
from common.adapter import lora
from common.adapter.plan import BOTH, Vector
from common.adapter.state import Shared, whole
from common.backbone import Backbone, Prepared, backbone_for
from common.config import Settings
from common.tasks.chat import Turn


def adopt(store: Store, settings: Settings, published: Shared, heldout: Sequence[Turn]) -> str:
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
        return f"{name}, in use; there are no held-out answers to try it on"
    now, mine = adapters.shared_in_use(store), adapters.settings_in_use(store)
    backbone = backbone_for(adapters.with_own(settings, mine))
    answers, kept = backbone.prepared(heldout), kept_here(store, published.plan)
    same = now is not None and (mine.model, now.plan) == (settings.model, published.plan)
    before = _nll(backbone, answers, now if same else None, kept)
    after = _nll(backbone, answers, published, kept)
    if after < before:
        adapters.keep_shared(store, settings, published)
    elif now is None:
        adapters.follow(store, settings)
    return (
        f"{name}, {'in use' if after < before else 'not used'}; on {len(heldout)} answers it has "
        f"not seen: {after:.3f} nats a token, {before:.3f} with what was used before"
    )


def _nll(
    backbone: Backbone, answers: Sequence[Prepared], shared: Shared | None, kept: Vector | None
) -> float:
    if shared is None:
        with lora.active(backbone.model):
            return backbone.score(answers).metrics()["nll"]
    lora.write(backbone.model, lora.SHARED, shared.plan, BOTH, whole(shared, kept))
    with lora.active(backbone.model, lora.SHARED):
        return backbone.score(answers).metrics()["nll"]
