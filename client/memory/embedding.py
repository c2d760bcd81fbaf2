"""Sentence vectors: the mean of an encoder's last hidden states, scaled to length 1.

So MiniLM was trained to be used (arXiv:1908.10084, section 3; `all-MiniLM-L6-v2`'s model card).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from common.models.names import MINILM_MODEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Vectors = NDArray[np.float32]

MOST_TOKENS = 256  # of a text; the model was trained on no longer ones
CHARACTERS = 16  # of a token, at most, of which a text's beginning is reckoned
UNUSED_PLACES = 2  # RoBERTa's family begins to count positions there
BATCH = 32


class Embedder(Protocol):
    """From texts to vectors whose inner product says how near two texts are in meaning."""

    @property
    def name(self) -> str:
        """Kept beside each vector: vectors of another model are made again."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, [texts, width]."""


class SentenceEncoder:
    """A model of the BERT kind, loaded when the first text comes.

    Args:
        name: The model; a built-in name, a folder or a hub id.
        device: `auto`, `cpu` or `cuda`.
    """

    def __init__(self, name: str = MINILM_MODEL, device: str = "cpu") -> None:
        self.name, self._device = name, device
        self._loaded: tuple[Any, Any] | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`. Texts of like length share a batch, so that little is padding."""
        import numpy as np

        coded = [self._ids(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda row: len(coded[row]))
        found: Vectors | None = None
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            vectors = self._batch([coded[row] for row in rows]).cpu().numpy()
            if found is None:
                found = np.zeros((len(texts), vectors.shape[1]), np.float32)
            found[rows] = vectors
        return np.zeros((0, 0), np.float32) if found is None else found

    def _model_and_tokenizer(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from common.models import chosen_device, load_base, load_tokenizer

            self._device = chosen_device(self._device)
            model: Any = load_base(self.name)
            self._loaded = model.to(self._device), load_tokenizer(self.name)
        return self._loaded

    def _ids(self, text: str) -> list[int]:
        from common.models.tokens import framed, text_ids

        model, tokenizer = self._model_and_tokenizer()
        places = getattr(model.config, "max_position_embeddings", MOST_TOKENS)
        most = min(MOST_TOKENS, places - UNUSED_PLACES)
        return framed(text_ids(text[: MOST_TOKENS * CHARACTERS], tokenizer), tokenizer, most)

    def _batch(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """[texts, width], in one forward pass."""
        import torch
        from torch.nn import functional
        from torch.nn.utils.rnn import pad_sequence

        model, _ = self._model_and_tokenizer()
        rows = [torch.tensor(one, device=self._device) for one in ids]
        entry = pad_sequence(rows, batch_first=True)  # [texts, tokens]
        lengths = torch.tensor([len(one) for one in ids], device=self._device)
        mask = torch.arange(entry.shape[1], device=self._device) < lengths.unsqueeze(1)
        with torch.inference_mode():
            hidden = model(input_ids=entry, attention_mask=mask.long())[0].float()
            kept = mask.unsqueeze(2)
            mean = (hidden * kept).sum(1) / kept.sum(1)
            return functional.normalize(mean, dim=-1)
