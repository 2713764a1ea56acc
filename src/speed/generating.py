"""Generation of completions of given lengths: this project's engine, transformers' ``generate``, vLLM, OpenVINO."""

from __future__ import annotations

import importlib
import importlib.util
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.models.policy import Policy
from src.models.settings import location
from src.speed.base import Unending, Workbench
from src.types import Children, Engine, InputError, OnToken, Sampling, Status, Turn, Writer
from src.verifiers.tags import ANSWER_END

GENERATE = "generate"
TORCH, COMPILED = "ours, plain torch", "ours, compiled"

ROWS, PREFILL = 256, 8192
"""OpenVINO GenAI's maximum batch size, and maximum prompt tokens per prefill."""

ALL = 2**31 - 1
"""A ``top_k`` that keeps the whole vocabulary."""


@dataclass(frozen=True)
class Request:
    """A prompt, and the number of new tokens."""

    prompt: tuple[int, ...]
    new: int


def random_prompt(rng: random.Random, policy: Policy, tokens: int) -> tuple[int, ...]:
    """Random tokens of the model's vocabulary, without end-of-sequence and padding tokens."""
    special = {*policy.end_tokens, policy.pad_token}
    usable = [token for token in range(policy.codec.size) if token not in special]
    return tuple(rng.choices(usable, k=tokens))


def ours(engine: Engine, requests: Sequence[Request]) -> int:
    """Generate all requests with this project's engine in one call. Returns the number of new tokens."""
    turns = [
        Turn((index,), request.prompt, Sampling(request.new), stream=index) for index, request in enumerate(requests)
    ]
    return sum(len(turn.completion) for turn in engine.generate(turns, lambda turn: ()))


def generate(policy: Policy, requests: Sequence[Request], batch: int) -> int:
    """Generate with ``model.generate`` in padded batches of ``batch`` rows; each batch runs to its longest request.

    Returns the number of requested tokens. Surplus tokens of shorter requests are discarded and do not count.

    Raises:
        RuntimeError: ``generate`` stopped before the longest request of a batch was complete.
    """
    written = 0
    with policy.writing(Writer.POLICY) as model, unending(model), torch.inference_mode():
        for start in range(0, len(requests), batch):
            part = requests[start : start + batch]
            new = max(request.new for request in part)
            ids, mask = padded([request.prompt for request in part], policy)
            tokens = model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                repetition_penalty=1.0,
                max_new_tokens=new,
                pad_token_id=policy.pad_token,
            )
            if tokens.shape[1] != ids.shape[1] + new:
                raise RuntimeError(
                    f"generate produced {tokens.shape[1] - ids.shape[1]} tokens per row instead of {new}"
                )
            written += sum(request.new for request in part)
    return written


def padded(prompts: Sequence[Sequence[int]], policy: Policy) -> tuple[Tensor, Tensor]:
    """Left-padded prompts and their attention mask; both ``[prompts, longest]``."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), policy.pad_token)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(policy.device), mask.to(policy.device)


@contextmanager
def unending(model: Any) -> Iterator[None]:
    """Inside this context, ``model.generate`` has no end-of-sequence token."""
    places = [place for place in (model.generation_config, model.config) if place is not None]
    ends = [place.eos_token_id for place in places]
    try:
        for place in places:
            place.eos_token_id = None
        yield
    finally:
        for place, end in zip(places, ends, strict=True):
            place.eos_token_id = end


@dataclass
class Generating:
    """``model.generate`` as an engine: all turns of a round in one padded batch, which runs to its longest turn."""

    policy: Policy

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        finished: list[Turn] = []
        waiting = list(turns)
        while waiting:
            # A batch has one set of sampling parameters, and so do all turns of a round.
            kind = (waiting[0].writer, waiting[0].sampling)
            batch = [turn for turn in waiting if (turn.writer, turn.sampling) == kind]
            done = self._generate_batch(batch)
            finished += done
            waiting = [turn for turn in waiting if (turn.writer, turn.sampling) != kind]
            waiting += [child for turn in done for child in children(turn)]
        return finished

    def _generate_batch(self, turns: Sequence[Turn]) -> list[Turn]:
        sampling = turns[0].sampling
        stop = (
            {"stop_strings": [ANSWER_END], "tokenizer": self.policy.codec.tokenizer} if sampling.stop_at_answer else {}
        )
        distribution = {"temperature": sampling.temperature, "top_k": 0, "top_p": sampling.top_p}
        ids, mask = padded([turn.prompt for turn in turns], self.policy)
        with self.policy.writing(turns[0].writer) as model, torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(turns[0].stream % 2**63)
            tokens = model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=sampling.temperature > 0,
                repetition_penalty=1.0,
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=sorted(self.policy.end_tokens),
                pad_token_id=self.policy.pad_token,
                **(distribution if sampling.temperature > 0 else {}),
                **stop,
            )[:, ids.shape[1] :].tolist()
        return [self._finished(turn, own) for turn, own in zip(turns, tokens, strict=True)]

    def _finished(self, turn: Turn, tokens: Sequence[int]) -> Turn:
        """The finished turn, cut after its end token or answer. Its log-probs are 0, since ``generate`` gives none."""
        count = next((place for place, _ in enumerate(tokens, 1) if self._ends(turn, tokens[:place])), None)
        completion = tuple(tokens[:count])
        shown = completion[:-1] if completion[-1] in self.policy.end_tokens else completion
        return replace(
            turn,
            status=Status.TRUNCATED if count is None else Status.DONE,
            completion=completion,
            logprobs=(0.0,) * len(completion),
            text=self.policy.codec.decode(shown),
        )

    def _ends(self, turn: Turn, written: Sequence[int]) -> bool:
        if written[-1] in self.policy.end_tokens:
            return True
        tail = written[-len(ANSWER_END) :] if turn.sampling.stop_at_answer else ()
        return ANSWER_END in self.policy.codec.decode(tail)


class VLLM:
    """The same model in vLLM; needs the package and a free accelerator, or its CPU build."""

    def __init__(self, bench: Workbench) -> None:
        # By default, the CPU build leaves one core unused and allocates nearly all memory.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{torch.get_num_threads() - 1}")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
        self.vllm = importlib.import_module("vllm")
        model = bench.model
        self.llm = self.vllm.LLM(
            model=location(model.name),
            revision=model.revision,
            dtype=str(model.precision).removeprefix("torch."),
            max_model_len=model.context,
            seed=bench.seed,
            gpu_memory_utilization=0.5,  # the other ways' weights are there too
            block_size=32,  # of its cache, the smallest on a CPU: what prompts share is shared in whole blocks
        )

    def __call__(self, requests: Sequence[Request]) -> int:
        self.llm.reset_prefix_cache()  # or the warm-up would have read the prompts already
        kind = self.vllm.SamplingParams
        sampling = [
            kind(temperature=1.0, max_tokens=request.new, ignore_eos=True, detokenize=False) for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests]
        outputs = self.llm.generate(prompts, sampling, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)


class OpenVINO:
    """The same model in OpenVINO GenAI on the CPU, from a folder written by ``optimum-cli export openvino``.

    Each call changes the first token of its prompts, so that the prefix cache works within a call, not across calls.
    """

    def __init__(self, bench: Workbench, folder: str) -> None:
        self.openvino, self.genai = (importlib.import_module(name) for name in ("openvino", "openvino_genai"))
        scheduler = self.genai.SchedulerConfig()
        scheduler.max_num_seqs = ROWS
        scheduler.max_num_batched_tokens = PREFILL
        scheduler.enable_prefix_caching = True
        precision = "bf16" if bench.model.precision == torch.bfloat16 else "f32"
        self.pipeline = self.genai.ContinuousBatchingPipeline(
            folder,
            scheduler,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
                "KV_CACHE_PRECISION": precision,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )
        self.calls = 0

    def __call__(self, requests: Sequence[Request]) -> int:
        self.calls += 1
        prompts = [self.openvino.Tensor(np.array([[self.calls, *request.prompt[1:]]])) for request in requests]
        sampling = [
            self.genai.GenerationConfig(
                do_sample=True, temperature=1.0, top_k=ALL, max_new_tokens=request.new, ignore_eos=True, rng_seed=row
            )
            for row, request in enumerate(requests)
        ]
        outputs = self.pipeline.generate(prompts, sampling)
        return sum(len(output.m_generation_ids[0]) for output in outputs)


Way = Callable[[Sequence[Request]], int]


def own_engines(bench: Workbench, weights: Any) -> tuple[dict[str, Engine], list[str]]:
    """This project's engine without and with compiled code, and notes with the reason if there is no compiled code."""
    plain, compiled = (bench.engine(weights, native=native) for native in (False, True))
    ours(plain, [Request((0,), 1)])  # one-time costs of the first call are not measured
    try:
        ours(compiled, [Request((0,), 1)])
    except InputError as error:
        return {TORCH: plain}, [f"{COMPILED}: left out ({error})"]
    return {TORCH: plain, COMPILED: compiled}, []


def own_ways(bench: Workbench, policy: Policy) -> tuple[dict[str, Way], list[str]]:
    """Generation functions of ``own_engines``, and notes on what is left out."""
    engines, notes = own_engines(bench, Unending(policy))
    return {name: partial(ours, engine) for name, engine in engines.items()}, notes


def others(bench: Workbench) -> tuple[dict[str, Way], list[str]]:
    """Generation functions of the other engines that are installed, and notes on those that are left out."""
    ways: dict[str, Way] = {}
    notes = []
    if importlib.util.find_spec("vllm") is None:
        notes.append("vLLM: not installed")
    else:
        ways["vLLM"] = VLLM(bench)
    if importlib.util.find_spec("openvino_genai") is None:
        notes.append("OpenVINO GenAI: not installed")
    elif bench.settings.openvino is None:
        notes.append("OpenVINO GenAI: left out (measuring.openvino names no exported model)")
    else:
        ways["OpenVINO GenAI"] = OpenVINO(bench, bench.settings.openvino)
    return ways, notes
