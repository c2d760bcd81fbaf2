"""What a person with a device waits for, and whether the fast engine says what training meant.

Decoding with both adapters beside the plain base in llama.cpp and beside PyTorch; then the
log-likelihoods of held-out answers in both engines (chat_agreement.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import torch

from client.assistant.engine import ChatMessage, Engine, Scales
from client.assistant.llamacpp import LlamaCppEngine
from client.assistant.torch_engine import TorchEngine
from common.console.say import say_aside
from common.settings import Settings
from simulations.evidence.benchmarks import chat_agreement
from simulations.evidence.benchmarks.chat_data import Person, people, settings_for
from simulations.evidence.benchmarks.timing import Figures, Row, interleaved

THREADS = 1
REPEATS = 3
DECODED, QUICK_DECODED = 96, 16
PERSONS, HELDOUT, QUICK_HELDOUT = 5, 12, 2
QUESTION: list[ChatMessage] = [
    {"role": "user", "content": "Tell me a long story about a river, a train and a winter garden."}
]


def rows(quick: bool) -> Iterator[Row]:
    """Speed, then agreement."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        say_aside("  fitting adapters")
        settings = settings_for(1 if quick else PERSONS)
        crowd = list(people(settings, QUICK_HELDOUT if quick else HELDOUT))
        say_aside("  decoding")
        yield speed_row(settings, crowd[0], QUICK_DECODED if quick else DECODED)
        yield chat_agreement.row(settings, crowd, THREADS)
    finally:
        torch.set_num_threads(before)


def speed_row(settings: Settings, person: Person, decoded: int) -> Row:
    """Decoding one answer of this many tokens, greedily."""
    adapters = person.adapters
    engines: dict[str, Engine] = {
        "ours": LlamaCppEngine(settings.model.name, adapters, threads=THREADS),
        "llama_cpp_plain": LlamaCppEngine(settings.model.name, {}, threads=THREADS),
        "torch": TorchEngine(settings, adapters),
    }
    tasks = {name: lambda engine=engine: timed(engine, decoded) for name, engine in engines.items()}
    medians = interleaved(tasks, REPEATS)
    for engine in engines.values():
        engine.close()
    ours = medians.pop("ours")
    return Row(
        case=f"{settings.model.name}, both adapters, an answer of {decoded} tokens",
        data="one question, greedy",
        ours=ours,
        peers=medians,
        limit={},
        ratios={
            f"speed_vs_{name}": ours["decode_tokens_per_s"] / peer["decode_tokens_per_s"]
            for name, peer in medians.items()
        },
    )


def timed(engine: Engine, decoded: int) -> Figures:
    """One answer; the prompt is new to the engine, since the scales just were others."""
    engine.log_likelihood([*QUESTION, {"role": "assistant", "content": "a"}], scales=Scales(0, 0))
    start = perf_counter()
    times = [perf_counter() for _ in engine.reply(QUESTION, max_tokens=decoded, temperature=0.0)]
    return {
        "first_token_s": times[0] - start,
        "decode_tokens_per_s": (len(times) - 1) / (times[-1] - times[0]),
        "answer_tokens": len(times),
        "threads_count": THREADS,
    }
