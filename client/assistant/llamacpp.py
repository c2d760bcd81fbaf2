"""The engine on llama.cpp, through xllamacpp: the base GGUF with both adapters as GGUF LoRA.

xllamacpp always starts llama.cpp's HTTP server too, open to every program and web page on the
machine. Here it listens on a Unix socket in a folder that is removed at once, behind a key nobody
has: requests come from this process by function call only. It also takes the process's signal
handlers; they are put back.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from client.assistant.engine import CONTEXT, FULL, TOP_K, TOP_P, Engine, Loaded, Pieces, Scales
from client.assistant.unseen import private_folder, socket_address, unseen_file
from common.adapter.gguf_io import architecture, encode_lora
from common.errors import InputError, PrivityError
from common.models import gguf_file, load_config, load_tokenizer
from common.tasks.task import Encoded

CERTAIN = 1e6  # a logit bias that decides which token is taken; probabilities are without it
SIGACTION_BYTES = 1024  # more than any system's struct sigaction


class LlamaCppEngine(Engine):
    """See `Engine`.

    Args:
        threads: For computing; 0 takes all cores that this process may use.
        exact: Attention and its cache in float32, to compare with PyTorch.
        file: Another GGUF of the same weights.

    Raises:
        InputError: When llama.cpp cannot load the model, or has no place for an adapter.
    """

    def __init__(
        self,
        model: str,
        adapters: Mapping[str, Loaded],
        *,
        threads: int = 0,
        exact: bool = False,
        file: Path | None = None,
    ) -> None:
        file = file or gguf_file(model)
        if file is None:
            raise InputError(f"the model {model!r} has no GGUF file.")
        config: Any = load_config(model)
        context = min(CONTEXT, config.max_position_embeddings)
        self._names = tuple(adapters)
        self._last: Scales | None = None
        self._lock = Lock()
        with ExitStack() as stack:
            paths = [
                stack.enter_context(
                    unseen_file(encode_lora(a.plan, a.vector, architecture(config)))
                )
                for a in adapters.values()
            ]
            self._server = _start(file, paths, context, threads, exact)
        name = f"llama.cpp on {file.name}"
        super().__init__(name, load_tokenizer(model), context, self._names)

    def token_log_likelihoods(self, tokens: Encoded, scales: Scales = FULL) -> list[float]:
        """One request a token; what is cached makes each a step of one token."""
        return [
            self._log_likelihood(tokens.ids[:position], int(label), scales)
            for position, label in enumerate(tokens.labels)
            if label >= 0 and position
        ]

    def _log_likelihood(self, ids: Sequence[int], label: int, scales: Scales) -> float:
        taken = self._forced(ids, label, 1, scales)
        if taken is None:  # llama.cpp drops the figures of a token that ends within a character
            taken = self._forced(ids, int(self.tokenizer.eos_token_id), len(self.tokenizer), scales)
            assert taken is not None
            taken = next(entry for entry in taken["top_logprobs"] if entry["id"] == label)
        assert taken["id"] == label
        return float(taken["logprob"])

    def _forced(
        self, ids: Sequence[int], token: int, likeliest: int, scales: Scales
    ) -> dict[str, Any] | None:
        """What llama.cpp reports of a token that it is made to take: figures without the bias."""
        request = {
            "prompt": ids,
            "max_tokens": 1,
            "temperature": 0.0,
            "n_probs": likeliest,
            "logit_bias": [[token, CERTAIN]],
        }
        answer = self._ask(request, scales)
        _refuse(answer)
        figures = answer["choices"][0]["logprobs"]
        return figures["content"][0] if figures else None

    def _generate(
        self, ids: list[int], max_tokens: int, temperature: float, seed: int, scales: Scales
    ) -> Pieces:
        request = {
            "prompt": ids,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_k": TOP_K,
            "top_p": TOP_P,
            "min_p": 0.0,
            "seed": seed,
            "stream": True,
        }
        chunks: SimpleQueue[dict[str, Any] | BaseException | None] = SimpleQueue()
        stop = Event()

        def receive(chunk: dict[str, Any]) -> bool:
            chunks.put(chunk)
            return stop.is_set()

        def run() -> None:
            try:
                if not stop.is_set():
                    self._ask(request, scales, receive)
                chunks.put(None)
            except BaseException as error:  # whoever waits for the next piece gets it
                chunks.put(error)

        # a thread of its own, so that Ctrl-C reaches whoever waits for the next piece
        Thread(target=run, name="llama.cpp", daemon=True).start()
        try:
            while (chunk := chunks.get()) is not None:
                if isinstance(chunk, BaseException):
                    raise chunk
                _refuse(chunk)
                if text := chunk["choices"][0]["text"]:
                    yield text
        finally:
            stop.set()

    def _ask(
        self,
        request: dict[str, Any],
        scales: Scales,
        receive: Callable[[dict[str, Any]], bool] | None = None,
    ) -> Any:
        with self._lock:
            if self._server is None:
                raise PrivityError("This engine is closed.")
            return self._server.handle_completions(request | self._chosen(scales), receive)

    def _chosen(self, scales: Scales) -> dict[str, Any]:
        """The request's adapters. Other scales than the last: what is cached is not theirs."""
        same, self._last = scales == self._last, scales
        chosen = [
            {"id": number, "scale": getattr(scales, name)}
            for number, name in enumerate(self._names)
        ]
        return {"lora": chosen, "cache_prompt": same}

    def close(self) -> None:
        """Waits for a request that is under way."""
        with self._lock:
            self._server = None


def _start(model: Path, paths: list[str], context: int, threads: int, exact: bool) -> Any:
    from xllamacpp import (
        CommonAdapterLoraInfo,
        CommonParams,
        Server,
        ggml_type,
        llama_flash_attn_type,
    )

    params = CommonParams()
    params.model.path = str(model)
    params.lora_adapters = [CommonAdapterLoraInfo(path, 1.0) for path in paths]
    params.n_ctx = context
    params.n_parallel = 1
    params.cpuparams.n_threads = threads or _cores()
    params.cpuparams_batch.n_threads = params.cpuparams.n_threads
    params.fit_params = False  # the context stays what it is
    params.cache_ram_mib = 0  # kept prompts do not know which adapters they were read with
    params.warmup = False
    params.verbosity = -1  # its log would quote the conversation
    params.ui = params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.offline = True
    params.api_keys = [secrets.token_hex(32)]
    if exact:
        params.flash_attn_type = llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.cache_type_k = params.cache_type_v = ggml_type.GGML_TYPE_F32
    with private_folder() as folder, socket_address(folder) as address, _own_signal_handlers():
        if hasattr(socket, "AF_UNIX"):
            params.hostnames = [address]
        try:
            return Server(params)
        except RuntimeError:
            raise InputError(f"llama.cpp cannot load {model.name}.") from None


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """SIGINT and SIGTERM do after the block what they did before, on any thread."""
    if os.name != "posix":
        yield
        return
    libc = ctypes.CDLL(None)
    saved = {
        number: ctypes.create_string_buffer(SIGACTION_BYTES)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    for number, action in saved.items():
        libc.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in saved.items():
            libc.sigaction(int(number), action, None)


def _refuse(answer: dict[str, Any]) -> None:
    """Raise for an error; llama.cpp's own words may quote the conversation and are left out."""
    error = answer.get("error", answer if "choices" not in answer else None)
    if error is not None:
        raise PrivityError(f"llama.cpp refused a request (code {error.get('code')}).")
