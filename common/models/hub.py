"""Loading what a name stands for, from this machine or else from the hub, with errors in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.console.say import say_aside
from common.errors import InputError
from common.models.folders import model_files
from common.models.names import OTHERS

HUB_ANSWER_S = 10.0


def from_pretrained(kind: Any, name: str, **options: Any) -> Any:
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
        raise InputError(f"{problem} damaged, or not those of a language model.", OTHERS) from None


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
