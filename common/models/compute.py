"""Which device a model computes on, chosen in one place."""

from __future__ import annotations

from common.errors import InputError

DEVICES = ("auto", "cpu", "cuda")


def chosen_device(setting: str) -> str:
    """`cpu` or `cuda`; `auto` takes a CUDA device where there is one.

    Raises:
        InputError: CUDA is asked for, and PyTorch finds no such device.
    """
    import torch

    if setting == "cpu":
        return setting
    if torch.cuda.is_available():
        return "cuda"
    if setting == "cuda":
        problem = f"--device {setting}: PyTorch {torch.__version__} finds no CUDA device here."
        raise InputError(problem, "Take --device cpu, or install PyTorch for this machine's GPU.")
    return "cpu"
