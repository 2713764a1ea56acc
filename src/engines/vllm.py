"""Generation with vLLM behind the engine protocol (``engine=vllm``): for GPUs and large batches."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

from src.engines.base import EngineSettings, closed
from src.models.settings import ModelSettings
from src.settings import RunSettings
from src.types import Children, OnToken, Turn, Writer
from src.verifiers.tags import ANSWER_END

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""LoRA ranks that vLLM accepts as ``max_lora_rank``."""

QUANTIZATIONS = {"nf4": "bitsandbytes"}
"""vLLM's name for each supported value of ``model.quantization``."""

SET = {
    **{name: f"model.{name}" for name in ("revision", "dtype", "quantization")},
    **{"model": "model.name", "max_model_len": "model.context"},
    **{"gpu_memory_utilization": "engine.memory", "enforce_eager": "engine.eager"},
    **{"enable_lora": "model.lora", "max_lora_rank": "model.lora.r", "max_loras": "model.lora"},
    "logprobs_mode": "rounds.temperature (log-probs are those at the sampling temperature)",
}
"""Arguments of vLLM that are set from other settings, and those settings."""


class VLLM(EngineSettings):
    """Settings of vLLM, which keeps its own copy of the base weights in a separate process.

    ``memory`` is the fraction of the device's memory for vLLM's weights and KV cache; on a CPU, vLLM's environment
    variables decide instead. ``eager`` disables CUDA graphs. ``options`` are further arguments of ``vllm.LLM``.
    """

    memory: float = Field(0.4, gt=0, le=1)
    eager: bool = False
    options: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def reserved(self) -> float:
        return self.memory

    def check(self) -> Iterable[str]:
        yield from (
            f"engine.options.{name}: this argument of vLLM is set by another setting; use {setting}"
            for name, setting in SET.items()
            if name in self.options
        )

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if importlib.util.find_spec("vllm") is None:
            yield "engine=vllm: vLLM is not installed; valid: `pip install vllm`, or engine=local"
        if (model := run.model) is None:
            return
        if model.lora is None:
            yield (
                "engine=vllm needs a LoRA adapter to update vLLM's weights, but model.lora=null trains all weights; "
                "valid: engine=local"
            )
        elif model.adapter is None and model.lora.r > RANKS[-1]:
            yield f"engine=vllm: model.lora.r={model.lora.r} must be at most {RANKS[-1]}"
        if model.dtype == "float64" or (model.dtype == "float32" and model.placed == "cuda"):
            yield f"engine=vllm: vLLM's LoRA does not support model.dtype={model.dtype}; valid: auto, bfloat16"
        if model.quantization is not None and model.quantization not in QUANTIZATIONS:
            yield (
                f"engine=vllm: model.quantization={model.quantization} is not supported; "
                f"valid: null, {', '.join(QUANTIZATIONS)}"
            )

    def build(self, weights: Any, model: ModelSettings) -> VLLMEngine:
        return VLLMEngine(self, weights, model)


class VLLMEngine:
    """Generates with vLLM's scheduler; a turn's children are queued as soon as the turn is finished.

    Each call to ``generate`` saves the current LoRA adapter and loads it under a new id, so that vLLM cannot reuse a
    stale one. Every turn has its own sampling seed. ``logprobs`` are set only if the turn is sampled from the full
    distribution (``top_p`` 1, or greedy), ``model_logprobs`` only if the sampling temperature is also 1 (or 0).
    """

    def __init__(self, settings: VLLM, weights: Any, model: ModelSettings) -> None:
        self.settings, self.weights, self.model = settings, weights, model
        self._requests = self._adapters = 0
        self._held: dict[Writer, Any] = {}  # the LoRA request of each writer; None without an adapter
        self._folder = Path(tempfile.mkdtemp(prefix="motif-vllm-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def generate(self, turns: Sequence[Turn], children: Children, on_token: OnToken | None = None) -> list[Turn]:
        engine = self._llm.llm_engine
        self._hand_over(engine)
        waiting: dict[str, Turn] = {}
        streamed: dict[str, int] = {}  # tokens already passed to `on_token`, per request

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
                for request in engine.step():
                    turn, output = waiting[request.request_id], request.outputs[0]
                    if on_token is not None:
                        for token in output.token_ids[streamed.get(request.request_id, 0) :]:
                            on_token(turn, token)
                        streamed[request.request_id] = len(output.token_ids)
                    if request.finished:
                        del waiting[request.request_id]
                        finished.append(self._closed(turn, output))
                        for child in children(finished[-1]):
                            add(child)
        finally:
            engine.abort_request(list(waiting))  # an interrupted call must not leave requests for the next one
        return finished

    @cached_property
    def _llm(self) -> Any:
        rank = self.weights.model.peft_config["default"].r
        with self.weights.writing(Writer.BASE) as model:
            name = model.config._name_or_path
        quantization = QUANTIZATIONS[self.model.quantization] if self.model.quantization else None
        return importlib.import_module("vllm").LLM(
            model=name,
            revision=self.model.revision,
            dtype=str(model.dtype).removeprefix("torch."),
            max_model_len=self.model.context,
            quantization=quantization,
            gpu_memory_utilization=self.settings.memory,
            enforce_eager=self.settings.eager,
            enable_lora=True,
            max_lora_rank=next((room for room in RANKS if room >= rank), rank),
            max_loras=2,  # the policy's adapter, and the adapter that the run started from (the base)
            logprobs_mode="processed_logprobs",  # log-probs at the sampling temperature
            **self.settings.options,
        )

    def _hand_over(self, engine: Any) -> None:
        """Load the current LoRA adapters into vLLM. The base has none unless the run started from an adapter."""
        request = importlib.import_module("vllm.lora.request").LoRARequest
        for old in filter(None, self._held.values()):
            engine.remove_lora(old.lora_int_id)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._held = {Writer.BASE: None}
        for writer in (Writer.POLICY, Writer.BASE) if self.weights.start is not None else (Writer.POLICY,):
            self._adapters += 1
            folder = self._folder / str(self._adapters)
            if writer == Writer.BASE:
                with self.weights.as_base():
                    self.weights.write(folder)
            else:
                self.weights.write(folder)
            self._held[writer] = request(str(self._adapters), self._adapters, str(folder))
            if not engine.add_lora(self._held[writer]):
                raise RuntimeError(f"vLLM did not load the LoRA adapter of the {writer} ({folder})")

    def _sampling(self, turn: Turn, on_token: OnToken | None) -> Any:
        vllm, kinds = (importlib.import_module(name) for name in ("vllm", "vllm.sampling_params"))
        sampling, kind = turn.sampling, kinds.RequestOutputKind
        ends = [ANSWER_END] * sampling.stop_at_answer + ([sampling.stop] if sampling.stop else [])
        return vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=min(sampling.max_new_tokens, self.model.context - len(turn.prompt)),
            seed=turn.stream % 2**63,
            logprobs=0,  # only the sampled token's log-prob
            ignore_eos=True,
            stop_token_ids=sorted(self.weights.end_tokens),
            stop=ends or None,
            include_stop_str_in_output=True,
            skip_special_tokens=False,
            detokenize=bool(ends),
            output_kind=kind.FINAL_ONLY if on_token is None else kind.CUMULATIVE,
        )

    def _closed(self, turn: Turn, output: Any) -> Turn:
        """The finished turn, from vLLM's completion output."""
        if output.finish_reason not in ("stop", "length"):
            raise RuntimeError(
                f"vLLM did not finish turn {turn.path} of tree {turn.tree}: finish_reason={output.finish_reason}, "
                "expected stop or length (the request was aborted or failed)"
            )
        completion = tuple(output.token_ids)
        logprobs = [table[token].logprob for token, table in zip(completion, output.logprobs, strict=True)]
        return closed(turn, completion, logprobs, output.finish_reason, self.weights, "vLLM")
