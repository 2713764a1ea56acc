"""Model settings: weights, precision, LoRA, context length, prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from src.models.packages import PACKAGES, checkpoint_folder, weights_files
from src.rounds.prompts import Prompts
from src.settings import RunSettings, Section
from src.types import InputError
from src.utils import checkpoints
from src.utils.environment import cpu_features

if TYPE_CHECKING:
    import torch


EMBEDDED = Path(__file__).parents[1] / "assets"
"""Folder of the checkpoints that ship with this project (``model.name=embedded:<name>``)."""

HALF_ON_CPU = frozenset({"amx_bf16", "avx512_bf16"})
"""CPU instruction sets with bfloat16 matrix products, which are several times as fast as float32."""


class Lora(Section):
    """A LoRA adapter (arXiv 2106.09685) of rank ``r`` on the projections whose names end in one of ``targets``.

    ``targets="all-linear"`` adapts every linear layer except the output head, whatever the family calls them.
    """

    r: int = Field(32, ge=1)
    alpha: int = Field(32, gt=0)
    targets: Literal["all-linear"] | Sequence[str] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )

    def check(self) -> Iterable[str]:
        if "all-linear" in self.targets and self.targets != "all-linear":
            yield "model.lora.targets=[all-linear]: not a list; use model.lora.targets=all-linear"
        if not self.targets:
            yield "model.lora.targets=[] gives no projection an adapter; name some, e.g. [q_proj, v_proj]"


class ModelSettings(Section):
    """The model: its weights, precision and adapter, and the default token budgets of its rounds."""

    name: str  # a name on the hub, a folder, embedded:<name> or package:<name>
    context: int = Field(ge=2)  # maximal tokens of one round, prompt included
    round_tokens: int = Field(ge=1)  # default limit of new tokens per round
    prompts: Prompts | None = None  # prompt templates of the model family
    template: str | None = None  # a file with a chat template (Jinja) in place of the tokenizer's own
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "float32"
    quantization: Literal["nf4"] | None = None  # 4-bit base weights under an adapter (QLoRA, arXiv 2305.14314)
    gradient_checkpointing: bool = False  # recompute activations in the backward pass to save memory
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lora: Lora | None = Lora()  # null: train all weights
    adapter: str | None = None  # a LoRA adapter to start from: a folder that PEFT wrote, or a run directory
    pickled: bool = False  # whether weights may be pickles (pytorch_model.bin); safetensors only by default

    def check(self) -> Iterable[str]:
        if self.quantization and self.dtype == "float64":
            yield (
                f"model.quantization={self.quantization} does not support model.dtype=float64; use float32 or bfloat16"
            )
        if self.lora is None:
            yield from self._check_full()

    def _check_full(self) -> Iterable[str]:
        """Yield the settings that contradict training all weights."""
        if self.quantization:
            yield (
                f"model.lora=null trains all weights, but 4-bit weights (model.quantization={self.quantization}) "
                "cannot be trained; use model.quantization=null, or an adapter (model.lora.r=64)"
            )
        if self.adapter:
            yield (
                f"model.lora=null trains all weights, but model.adapter={self.adapter} is an adapter; merge it first "
                "(python -m src.export) and pass the result as model.name"
            )
        if self.dtype in ("bfloat16", "float16"):
            yield (
                f"model.lora=null trains all weights, but updates are lost to rounding in model.dtype={self.dtype}; "
                "use model.dtype=float32"
            )

    def check_run(self, run: RunSettings) -> Iterable[str]:
        if self.device == "cuda" and not _sees_cuda():
            yield "model.device=cuda, but torch sees no CUDA device here; valid: auto, cpu"
        elif self.quantization and self.dtype != "float64":
            from src.models.quantization import check_quantization

            yield from check_quantization(self.quantization, self.placed, self.precision)
        if self.template is not None and not Path(self.template).is_file():
            yield f"model.template={self.template}: no such file; name a file with a chat template (Jinja)"
        for find in (self._find_weights, self._find_adapter):
            try:
                find()
            except InputError as error:
                yield str(error)

    def _find_weights(self) -> None:
        if package := packaged(self.name):
            weights_files(package)
        else:
            location(self.name)

    def _find_adapter(self) -> None:
        if self.adapter:
            adapter_folder(self.adapter)

    @property
    def placed(self) -> str:
        """The device of the weights: ``cuda`` or ``cpu``."""
        if self.device != "auto":
            return self.device
        return "cuda" if _sees_cuda() else "cpu"

    @property
    def precision(self) -> torch.dtype:
        """The dtype of the weights and of the forward pass.

        With ``dtype=auto``, base weights under a LoRA adapter are bfloat16 on hardware with bfloat16 matrix products (a
        GPU, some CPUs) and float32 elsewhere. If all weights are trained, ``auto`` is float32.
        """
        import torch

        half = self.lora is not None and (self.placed == "cuda" or not HALF_ON_CPU.isdisjoint(cpu_features()))
        name = self.dtype if self.dtype != "auto" else ("bfloat16" if half else "float32")
        dtype: torch.dtype = getattr(torch, name)
        return dtype


def _sees_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def packaged(name: str) -> str | None:
    """The distribution in ``model.name=package:<distribution>``, or None for other names."""
    return name.removeprefix("package:") if name.startswith("package:") else None


def location(name: str) -> str:
    """The path or hub name to pass to ``from_pretrained`` for ``model.name``; a package's weights are converted first.

    Raises:
        InputError: the embedded model does not exist, or the package is not installed.
    """
    if package := packaged(name):
        return str(checkpoint_folder(package))
    if not name.startswith("embedded:"):
        return name
    folder = EMBEDDED / name.removeprefix("embedded:")
    if folder.resolve().parent != EMBEDDED.resolve() or not (folder / "config.json").is_file():
        names = sorted(entry.name for entry in EMBEDDED.iterdir() if (entry / "config.json").is_file())
        raise InputError(f"model.name={name}: no such embedded model; valid: {', '.join(names) or 'none'}")
    return str(folder)


def adapter_folder(name: str) -> Path:
    """The adapter folder for ``model.adapter``: a folder that PEFT wrote, or the reported checkpoint of a run.

    Raises:
        InputError: there is no adapter.
    """
    folder = Path(name)
    if checkpoints.steps(folder):
        folder = checkpoints.chosen(folder, None)
    adapter = next((place for place in (folder, folder / "adapter") if (place / "adapter_config.json").is_file()), None)
    if adapter is None:
        raise InputError(
            f"model.adapter={name}: contains no LoRA adapter (no adapter_config.json). Name a folder that PEFT wrote, "
            "a run of src.warmup, or a run of src.train"
        )
    refuse_pickled_adapter(adapter, f"model.adapter={name}: ")
    return adapter


def refuse_pickled_adapter(folder: Path, where: str = "") -> None:
    """Check that PEFT, which falls back to a pickle, reads the adapter in a folder from safetensors.

    Raises:
        InputError: it cannot; ``where`` begins the message.
    """
    if not (folder / "adapter_model.safetensors").is_file():
        raise InputError(
            f"{where}{folder} has no adapter_model.safetensors; pickles (adapter_model.bin) can run code and are not "
            "loaded. Save it again with PEFT's save_pretrained"
        )


def origin(name: str) -> str:
    """The model name to record in saved adapters, so that they can be loaded outside this project."""
    if package := packaged(name):
        return PACKAGES[package].origin
    return f"src/assets/{name.removeprefix('embedded:')}" if name.startswith("embedded:") else name
