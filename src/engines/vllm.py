"""vLLM behind the same protocol: for GPUs, and for turns by the thousand (``engine=vllm``)."""

from __future__ import annotations

import importlib
import importlib.util
import math
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from src.engines.base import OnToken
from src.types import Children, Sampling, Status, Turn, Writer
from src.verifiers.tags import ANSWER_END

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of an adapter that vLLM makes room for."""

QUANTIZATIONS = {"nf4": "bitsandbytes"}
"""What vLLM calls the model's ``quantization``."""

SET = {
    **{name: f"model.{name}" for name in ("revision", "dtype", "quantization")},
    **{"model": "model.name", "max_model_len": "model.context"},
    **{"gpu_memory_utilization": "engine.memory", "enforce_eager": "engine.eager"},
    **{"enable_lora": "model.lora", "max_lora_rank": "model.lora.r", "max_loras": "model.lora"},
    "logprobs_mode": "rounds.temperature, whose log-probs they are",
}
"""vLLM's arguments that other settings decide."""


@dataclass
class VLLMEngine:
    """Writes turns with vLLM's own scheduler, which takes in a turn's children as soon as it is done.

    vLLM holds its own copy of the base in a process of its own, and takes ``memory`` of the device for it and its
    cache (on a CPU, the variables that vLLM reads say how much). Each call hands it the adapter as it is now, as a
    file and under a new number, so that no old one can be mistaken for it. A turn's tokens come from a seed of its
    own; its log-probs are known where it is drawn from its whole distribution, those of the model at temperature 1
    where that is the temperature.
    """

    weights: Any  # a policy
    context: int
    lora: Mapping[str, Any] | None
    adapter: str | None = None
    dtype: str = "auto"
    revision: str | None = None
    quantization: str | None = None
    memory: float = 0.4
    eager: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = []
        if importlib.util.find_spec("vllm") is None:
            errors.append("engine=vllm: vLLM is not installed; valid: `pip install vllm`, or engine=transformers")
        if self.lora is None:
            errors.append("engine=vllm hands over an adapter, and model.lora=null has none; valid: engine=transformers")
        elif self.adapter is None and self.lora["r"] > RANKS[-1]:
            errors.append(f"engine=vllm: model.lora.r={self.lora['r']} must be at most {RANKS[-1]}")
        if self.dtype == "float64" or (self.dtype == "float32" and torch.cuda.is_available()):
            errors.append(
                f"engine=vllm: model.dtype={self.dtype} is more than it computes adapters in; valid: auto, bfloat16"
            )
        if self.quantization is not None and self.quantization not in QUANTIZATIONS:
            errors.append(
                f"engine=vllm: model.quantization={self.quantization}; valid: null, {', '.join(QUANTIZATIONS)}"
            )
        errors += [
            f"engine.options.{name}: is not an option here; use {setting}"
            for name, setting in SET.items()
            if name in self.options
        ]
        if not 0 < self.memory <= 1:
            errors.append(f"engine.memory={self.memory} must be over 0 and at most 1, a share of the device's memory")
        return errors

    def __post_init__(self) -> None:
        self._requests = self._adapters = 0
        self._held: dict[Writer, Any] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="motif-vllm-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        engine = self._llm.llm_engine
        self._hand_over(engine)
        waiting: dict[str, Turn] = {}
        shown: dict[str, int] = {}

        def add(turn: Turn) -> None:
            self._requests += 1
            name = str(self._requests)
            prompt = {"prompt_token_ids": list(turn.prompt)}
            engine.add_request(name, prompt, self._sampling(turn, on_token), lora_request=self._held[turn.writer])
            waiting[name] = turn

        finished: list[Turn] = []
        try:
            for turn in turns:
                add(turn)
            while waiting:
                for output in engine.step():
                    turn, written = waiting[output.request_id], output.outputs[0]
                    if on_token is not None:
                        for token in written.token_ids[shown.get(output.request_id, 0) :]:
                            on_token(turn, token)
                        shown[output.request_id] = len(written.token_ids)
                    if output.finished:
                        del waiting[output.request_id]
                        finished.append(self._closed(turn, written))
                        for child in children(finished[-1]):
                            add(child)
        finally:
            engine.abort_request(list(waiting))  # of an interrupted call, so that the next one begins with none
        return finished

    @cached_property
    def _llm(self) -> Any:
        rank = self.weights.model.peft_config["default"].r
        with self.weights.writing(Writer.BASE) as model:
            name = model.config._name_or_path
        quantization = QUANTIZATIONS[self.quantization] if self.quantization else None
        return importlib.import_module("vllm").LLM(
            model=name,
            revision=self.revision,
            dtype=str(model.dtype).removeprefix("torch."),
            max_model_len=self.context,
            quantization=quantization,
            gpu_memory_utilization=self.memory,
            enforce_eager=self.eager,
            enable_lora=True,
            max_lora_rank=next((room for room in RANKS if room >= rank), rank),
            max_loras=2,  # the policy's, and that of a base which a run started from
            logprobs_mode="processed_logprobs",  # at the temperature that is sampled at
            **self.options,
        )

    def _hand_over(self, engine: Any) -> None:
        """The adapters as they are now, as requests name them; none for a base that is the model as it was loaded."""
        request = importlib.import_module("vllm.lora.request").LoRARequest
        for old in filter(None, self._held.values()):
            engine.remove_lora(old.lora_int_id)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._held = {Writer.BASE: None}
        for writer in Writer if self.weights.start is not None else (Writer.POLICY,):
            self._adapters += 1
            folder = self._folder / str(self._adapters)
            if writer == Writer.BASE:
                with self.weights.as_base():
                    self.weights.write(folder)
            else:
                self.weights.write(folder)
            self._held[writer] = request(str(self._adapters), self._adapters, str(folder))
            if not engine.add_lora(self._held[writer]):
                raise RuntimeError("vLLM did not take the adapter over")

    def _sampling(self, turn: Turn, on_token: OnToken | None) -> Any:
        vllm, kinds = (importlib.import_module(name) for name in ("vllm", "vllm.sampling_params"))
        sampling, kind = turn.sampling, kinds.RequestOutputKind
        return vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_new_tokens, self.context - len(turn.prompt)),
            seed=turn.stream % 2**63,
            logprobs=0,  # of the sampled token alone
            ignore_eos=True,
            stop_token_ids=sorted(self.weights.end_tokens),
            stop=[ANSWER_END] if sampling.stop_at_answer else None,
            include_stop_str_in_output=True,
            skip_special_tokens=False,
            detokenize=sampling.stop_at_answer,
            output_kind=kind.FINAL_ONLY if on_token is None else kind.CUMULATIVE,
        )

    def _closed(self, turn: Turn, written: Any) -> Turn:
        if written.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"vLLM gave a turn up ({written.finish_reason}): it was stopped, or failed")
        completion, ends = tuple(written.token_ids), self.weights.end_tokens
        logprobs = tuple(table[token].logprob for token, table in zip(completion, written.logprobs, strict=True))
        if not all(map(math.isfinite, logprobs)):
            raise FloatingPointError(
                "vLLM gave a log-prob that is not finite: the weights have diverged (lower optimizer.lr or "
                "train.max_grad_norm) or overflow in this dtype (model.dtype)"
            )
        shown = completion[:-1] if completion and completion[-1] in ends else completion
        return replace(
            turn,
            status=Status.DONE if written.finish_reason == "stop" else Status.TRUNCATED,
            completion=completion,
            logprobs=logprobs if _whole(turn.sampling) else (),
            model_logprobs=logprobs if _whole(turn.sampling) and turn.sampling.temperature in (0, 1) else (),
            text=self.weights.codec.decode(shown),
        )


def _whole(sampling: Sampling) -> bool:
    """Whether vLLM gives log-probs of a turn's whole distribution: greedy, or nothing was cut off."""
    return sampling.top_p == 1 or sampling.temperature == 0
