"""What of a model is below its head, whole and in two parts: frozen layers, and those above.

Below the lowest adapted layer nothing ever changes, so the hidden states that enter that layer are
computed once an example and kept. A decoder needs no mask: its padding stands on the right, where
nothing looks. An encoder looks at both sides, and is told how long each example is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Body(ABC):
    """The layers of one model.

    Args:
        model: With or without a head of its own.
        layers: Its blocks, which are in `model`.
        first: The lowest block that carries an adapter; as many as there are, where none does.
    """

    def __init__(self, model: Any, layers: nn.ModuleList, first: int) -> None:
        self._model, self._layers, self.first = model, layers, first

    @property
    @abstractmethod
    def divides(self) -> bool:
        """Whether the model is built such that its parts can be run one after the other."""

    @abstractmethod
    def whole(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states after the last layer and its norm, [batch, length, width].

        Args:
            ids: [batch, length].
            mask: True where an example has a token, [batch, length].
        """

    @abstractmethod
    def lower(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states that enter block `first`."""

    @abstractmethod
    def upper(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """`whole`, from what `lower` gave."""


class DecoderBody(Body):
    """Llama's kind: `layers` and a final `norm` side by side."""

    @property
    def divides(self) -> bool:
        """Whether both are where they are looked for, and all layers see as far as each other.

        The decoder numbers the layers that it is left with, and would give them others' windows.
        """
        if len(set(getattr(self._model.config, "layer_types", None) or ())) > 1:
            return False
        return getattr(self._model, "layers", None) is self._layers and hasattr(self._model, "norm")

    def whole(self, ids: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """See `Body`."""
        hidden: Tensor = self._model(input_ids=ids, use_cache=False)[0]
        return hidden

    def lower(self, ids: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """See `Body`."""
        with self._only(slice(0, self.first), norm=False):
            hidden: Tensor = self._model(input_ids=ids, use_cache=False)[0]
        return hidden

    def upper(self, hidden: Tensor, mask: Tensor) -> Tensor:  # noqa: ARG002
        """See `Body`."""
        with self._only(slice(self.first, None), norm=True):
            above: Tensor = self._model(inputs_embeds=hidden, use_cache=False)[0]
        return above

    @contextmanager
    def _only(self, layers: slice, *, norm: bool) -> Iterator[None]:
        """The decoder with some of its layers and, on request, without its final norm."""
        final = self._model.norm
        self._model.layers = self._layers[layers]
        if not norm:
            self._model.norm = nn.Identity()
        try:
            yield
        finally:
            self._model.layers, self._model.norm = self._layers, final


class EncoderBody(Body):
    """BERT's kind: `embeddings`, and blocks that are the `layer` of a part of their own."""

    @property
    def divides(self) -> bool:
        """Whether embeddings and blocks are where they are looked for."""
        return self._holder() is not None and hasattr(self._model, "embeddings")

    def whole(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See `Body`."""
        hidden: Tensor = self._model(input_ids=ids, attention_mask=mask.long())[0]
        return hidden

    def lower(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See `Body`."""
        with self._only(slice(0, self.first)):
            hidden: Tensor = self._model(input_ids=ids, attention_mask=mask.long())[0]
        return hidden

    def upper(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """See `Body`."""
        embeddings = self._model.embeddings
        self._model.embeddings = _Given()
        try:
            with self._only(slice(self.first, None)):
                above: Tensor = self._model(inputs_embeds=hidden, attention_mask=mask.long())[0]
        finally:
            self._model.embeddings = embeddings
        return above

    def _holder(self) -> Any:
        """The part whose `layer` are the blocks; None where the model is built another way."""
        parts = (getattr(self._model, name, None) for name in ("encoder", "transformer"))
        return next((one for one in parts if getattr(one, "layer", None) is self._layers), None)

    @contextmanager
    def _only(self, layers: slice) -> Iterator[None]:
        holder = self._holder()
        holder.layer = self._layers[layers]
        try:
            yield
        finally:
            holder.layer = self._layers


class _Given(nn.Module):
    """Stands in place of the embeddings and passes hidden states through."""

    def forward(self, *given: Any, **named: Any) -> Tensor:
        """The one argument that is no ids and no mask."""
        values = (*given, *named.values())
        return next(v for v in values if isinstance(v, Tensor) and v.is_floating_point())
