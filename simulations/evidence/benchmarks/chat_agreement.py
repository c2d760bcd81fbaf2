"""Whether llama.cpp and PyTorch mean the same: log-likelihoods of held-out answers in both.

llama.cpp quantises activations, so single probabilities differ. What an adapter does must not:
its effect is compared, in nats a token. With the same weights in float32 and exact attention
nothing but the adapter's conversion could differ.
"""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.assistant.engine import BASE, Engine, Scales
from client.assistant.llamacpp import LlamaCppEngine
from client.assistant.torch_engine import TorchEngine
from common.console.say import say_aside
from common.errors import PrivityError
from common.models import gguf_file, load_tokenizer
from common.models.tokens import answer_ids, prompt_ids
from common.settings import Settings
from common.tasks import task_of
from common.tasks.task import Example
from simulations import devices
from simulations.evidence.benchmarks.chat_data import DATA, Person
from simulations.evidence.benchmarks.gguf_float32 import write_float32
from simulations.evidence.benchmarks.timing import Figures, Row

ARMS = {"base": BASE, "shared": Scales(1.0, 0.0), "personal": Scales()}
EFFECTS = (("shared", "base"), ("personal", "shared"))
Found = dict[str, list[float]]  # arm → log-likelihood of every token


def row(settings: Settings, crowd: Sequence[Person], threads: int) -> Row:
    """Ours is llama.cpp on the quantised base; the peers are the references."""
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / "float32.gguf"
        source = gguf_file(settings.model.name)
        assert source is not None
        write_float32(source, exact)
        for number, person in enumerate(crowd):
            say_aside(f"  log-likelihoods of person {number + 1} of {len(crowd)}")
            for name, engine in _engines(settings, person.adapters, exact, threads):
                for arm, scales in ARMS.items():
                    for tokens in person.heldout:
                        values = engine.token_log_likelihoods(tokens, scales)
                        found.setdefault(name, {}).setdefault(arm, []).extend(values)
                engine.close()
    answers = sum(len(person.heldout) for person in crowd)
    compared = same_tokens(settings)
    figures = {name: _figures(arms, found["torch"]) for name, arms in found.items()}
    ours = figures.pop("ours") | {"compared_count": compared}
    return Row(
        case=f"{settings.model.name}, log-likelihood of {answers} answers",
        data=DATA,
        ours=ours,
        peers=figures,
        limit={},
        ratios={
            f"{arm}_effect_vs_torch": ours[key] / figures["torch"][key]
            for arm, _ in EFFECTS
            for key in [f"{arm}_effect_nats_per_token"]
        },
    )


def _engines(
    settings: Settings, adapters: Any, exact: Path, threads: int
) -> Iterator[tuple[str, Engine]]:
    model = settings.model.name
    yield "ours", LlamaCppEngine(model, adapters, threads=threads)
    yield "torch", TorchEngine(settings, adapters)
    yield (
        "llama_cpp_float32",
        LlamaCppEngine(model, adapters, threads=threads, exact=True, file=exact),
    )


def _figures(arms: Found, truth: Found) -> Figures:
    """Means over tokens; `..._difference` are against PyTorch, and absent for PyTorch itself."""
    values = {arm: np.array(found) for arm, found in arms.items()}
    true = {arm: np.array(found) for arm, found in truth.items()}
    figures = {f"{arm}_nll_nats_per_token": -float(found.mean()) for arm, found in values.items()}
    for arm, without in EFFECTS:
        effect = values[arm] - values[without]
        figures[f"{arm}_effect_nats_per_token"] = float(effect.mean())
    if arms is truth:
        return figures | {"answers_tokens": len(values["base"])}
    for arm in ARMS:
        figures[f"{arm}_rms_difference_nats_per_token"] = _rms(values[arm] - true[arm])
    for arm, without in EFFECTS:
        difference = (values[arm] - values[without]) - (true[arm] - true[without])
        figures[f"{arm}_effect_difference_nats_per_token"] = abs(float(difference.mean()))
    return figures


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt((values**2).mean()))


HARD = ("Grüße, 茶 and naïve café № 12,345.67!", "…«¿qué?» 🙂\t\n  two  spaces")


def same_tokens(settings: Settings) -> int:
    """Compare llama.cpp's own chat template and tokenizer with ours on all held-out examples.

    Returns:
        How many were compared, all of them equal.

    Raises:
        PrivityError: When one differs.
    """
    users = devices.people(settings)
    examples = [one for user in users for one in devices.examples(settings, user)[1]]
    if differing := llamacpp_differs(
        settings.model.name, [*examples, task_of(settings.task).spoken(*HARD)]
    ):
        raise PrivityError(f"llama.cpp has another {differing}.")
    return len(examples) + 1


def llamacpp_differs(model: str, examples: Sequence[Example]) -> str:
    """What llama.cpp does differently with one of these: "chat template", "tokenizer" or ""."""
    tokenizer = load_tokenizer(model)
    file = gguf_file(model)
    assert file is not None
    with _asking(file) as ask:
        for example in examples:
            question, answer = example.content
            messages = [{"role": "user", "content": question}]
            text = str(
                tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            )
            if ask("/apply-template", {"messages": messages})["prompt"] != text:
                return "chat template"
            for part, ids in (
                (text, prompt_ids(messages, tokenizer)),
                (f"{answer}{tokenizer.eos_token}", answer_ids(answer, tokenizer)),
            ):
                request = {"content": part, "add_special": False, "parse_special": True}
                if ask("/tokenize", request)["tokens"] != ids:
                    return "tokenizer"
    return ""


@contextmanager
def _asking(file: Path) -> Iterator[Any]:
    """Requests to llama.cpp's HTTP server on a socket of its own; only there is a tokenizer."""
    from xllamacpp import CommonParams, Server

    with tempfile.TemporaryDirectory() as folder:
        key, address = secrets.token_hex(16), str(Path(folder) / "s.sock")
        params = CommonParams()
        params.model.path = str(file)
        params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, False, -1
        params.hostnames, params.api_keys = [address], [key]
        server = Server(params)

        def ask(path: str, request: dict[str, Any]) -> Any:
            connection = http.client.HTTPConnection("localhost")
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.connect(address)
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(request), headers)
            content = json.loads(connection.getresponse().read())
            connection.close()
            return content

        yield ask
        del server
