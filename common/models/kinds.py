"""The two kinds of models: decoders (GPT), which write on, and encoders (BERT), which read.

Which one a model is follows from its configuration. Many families of encoders can be set up to
write (`is_decoder`), so that having a causal language model alone does not make a decoder.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from common.errors import InputError
from common.models.hub import from_pretrained
from common.models.names import DEFAULT_MODEL, OTHERS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


class ModelKind(Enum):
    """What a model does with a text."""

    DECODER = "decoder"
    ENCODER = "encoder"


def load_config(name: str) -> PreTrainedConfig:
    """What the model's `config.json` says."""
    from transformers import AutoConfig

    return from_pretrained(AutoConfig, name)  # type: ignore[no-any-return]


def kind_of(name: str) -> ModelKind:
    """Whether the model of this name is a decoder or an encoder.

    Raises:
        InputError: When it cannot be loaded, or is neither.
    """
    from transformers.models.auto import modeling_auto as known

    config: Any = load_config(name)
    family = config.model_type
    reads = family in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    writes = family in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not getattr(config, "is_encoder_decoder", False):
        if writes and (not reads or getattr(config, "is_decoder", False)):
            return ModelKind.DECODER
        if reads or family in known.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES:
            return ModelKind.ENCODER
    raise InputError(
        f"The model {name!r} ({family}) is neither of the GPT kind nor of the BERT kind.", OTHERS
    )


def require_speaking(name: str) -> None:
    """Refuse a model that cannot answer in words.

    Raises:
        InputError: It is an encoder.
    """
    if kind_of(name) is ModelKind.ENCODER:
        raise InputError(
            f"The model {name!r} is of the BERT kind: it reads texts and cannot answer in words.",
            f"For conversations name a model of the GPT kind, such as {DEFAULT_MODEL}.",
        )
