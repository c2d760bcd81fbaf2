"""What differential privacy adds to a device's local step: time and memory, same model and batch.

Both variants go through `train_shared` from the published adapter, on the same examples with the
frozen lower layers already computed, as a device does from its second round on. One thread: with
several, a step waits for whichever core is busy with other work, up to ten times as long here.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import torch

from client.learning.training import train_shared
from common.adapter.weights import Shared
from common.learning.backbone import Prepared, backbone_for
from common.models import DEFAULT_MODEL, TINY_MODEL
from common.privacy.accountant import Release
from common.settings import Settings
from common.tasks.task import Example, Task
from simulations.evidence.benchmarks.timing import Figures, Row, in_own_process, interleaved, memory

DEFAULTS = Settings()
RELEASE = Release(noise_multiplier=1.0, sample_rate=1.0, steps=1)
DATA = "synthetic: chat answers of random words"
WORDS = ("tea", "rain", "garden", "train", "music", "bread", "winter", "river", "story", "lamp")
PROMPT_WORDS, ANSWER_WORDS = (4, 40), (4, 24)
THREADS = 1
REPEATS, QUICK_REPEATS = 5, 3


@dataclass(frozen=True, slots=True)
class Case:
    """A model and what carries its shared adapter; everything else is the default."""

    model: str
    rank: int = DEFAULTS.adapter.rank
    modules: str = DEFAULTS.adapter.modules
    examples: int = DEFAULTS.rounds.examples

    def __str__(self) -> str:
        return (
            f"{self.model}, r={self.rank}, {self.modules}, top {DEFAULTS.adapter.layers} layers, "
            f"{self.examples} examples"
        )

    @property
    def settings(self) -> Settings:
        """The run's settings that this case stands for: one step, every example in it."""
        return Settings.of(
            model=self.model, rank=self.rank, modules=self.modules, examples=self.examples,
            device="cpu",
        )  # fmt: skip


def rows(quick: bool) -> Iterator[Row]:
    """One row for each model and adapter."""
    models = (TINY_MODEL,) if quick else (TINY_MODEL, DEFAULT_MODEL)
    cases = [case for m in models for case in (Case(m), Case(m, 8, "q_proj,v_proj"))]
    for case in cases:
        yield row(case, QUICK_REPEATS if quick else REPEATS)


def row(case: Case, repeats: int) -> Row:
    """Measure one case."""
    step = Step(case)
    tasks = {"ours": lambda: step.timed(RELEASE), "plain_lora": lambda: step.timed(None)}
    with _threads(THREADS):
        medians = interleaved(tasks, repeats)
    ours = medians["ours"] | in_own_process(step_memory, case, RELEASE)
    plain = medians["plain_lora"] | in_own_process(step_memory, case, None)
    return Row(
        case=str(case),
        data=DATA,
        ours=ours,
        peers={"plain_lora": plain},
        limit={},
        ratios={
            "time_vs_plain": ours["step_s"] / plain["step_s"],
            "memory_vs_plain": ours["peak_rss_mb"] / plain["peak_rss_mb"],
        },
    )


class Step:
    """One local step of a device, ready to run again and again from the same start."""

    def __init__(self, case: Case) -> None:
        self._settings = case.settings
        self._backbone = backbone_for(self._settings)
        self._examples = self._prepared(case.examples)
        plan = self._backbone.shared
        self._published = Shared(plan, plan.initial(plan.sent))

    def _prepared(self, count: int) -> list[Prepared]:
        made = synthetic_examples(self._backbone.task, count)
        return self._backbone.prepare([self._backbone.encode(example) for example in made])

    def run(self, release: Release | None) -> int:
        """The step, private with a release and plain without; the tokens it trained on."""
        trained = train_shared(
            self._backbone,
            self._published,
            None,
            self._examples,
            self._settings,
            release,
            os.urandom,
        )
        return trained.tokens

    def timed(self, release: Release | None) -> Figures:
        """Time of one step."""
        start = perf_counter()
        tokens = self.run(release)
        step_s = perf_counter() - start
        return {
            "step_s": step_s,
            "tokens_per_s": tokens / step_s,
            "batch_tokens": tokens,
            "threads_count": THREADS,
        }


def step_memory(case: Case, release: Release | None) -> Figures:
    """Peak memory of a process that holds the model and runs one step."""
    step = Step(case)
    with _threads(THREADS):
        return memory(lambda: step.run(release))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synthetic_examples(task: Task, count: int) -> list[Example]:
    """Messages and answers of random words, always the same."""
    chance = random.Random(0)  # noqa: S311

    def words(span: tuple[int, int]) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(*span)))

    return [task.spoken(words(PROMPT_WORDS), words(ANSWER_WORDS)) for _ in range(count)]
