"""The built-in names of models, and the hint that goes with every other one that cannot be used."""

from __future__ import annotations

DEFAULT_MODEL = "smollm2-135m"
MINILM_MODEL = "minilm"
TINY_MODEL = "tiny"
TINY_BERT_MODEL = "tiny-bert"
NAMES = (DEFAULT_MODEL, MINILM_MODEL, TINY_MODEL, TINY_BERT_MODEL)
OTHERS = f"Give a folder, a Hugging Face id, or one of {', '.join(NAMES)} as the model."
