"""Which model, in which precision, and loading it with its tokenizer and LoRA adapter."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase

from src.engines.local.native import instructions
from src.models.gradient_checkpointing import recompute
from src.models.packages import PACKAGES, checkpoint_folder, weights_file
from src.models.policy import Policy, adapter_weights
from src.models.quantization import check_quantization
from src.models.tokenizer import TokenizerCodec
from src.training import checkpoint
from src.types import InputError

transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # inside peft

EMBEDDED = Path(__file__).parents[1] / "assets"
"""Checkpoints that ship with this project; ``model.name=embedded:<name>`` names one."""


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter (arXiv 2106.09685) on the projections whose names end in ``targets``."""

    r: int = 32
    alpha: int = 32
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = []
        if self.r < 1:
            errors.append(f"model.lora.r={self.r} must be 1 or more")
        if not self.targets:
            errors.append(
                "model.lora.targets is empty; name the projections that get an adapter, e.g. [q_proj, v_proj]"
            )
        if self.alpha <= 0:
            errors.append(f"model.lora.alpha={self.alpha} must be above 0")
        return errors


@dataclass(frozen=True)
class ModelConfig:
    """Which model, in which precision, and the sizes that rounds take from it."""

    name: str  # a name on the hub, a folder, embedded:<name> or package:<name>
    context: int  # tokens of one round, prompt included
    round_tokens: int  # a round's default budget of new tokens
    prompts: Any = None  # the texts of its family
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "float32"
    quantization: Literal["nf4"] | None = None  # 4-bit weights under the adapter (QLoRA, arXiv 2305.14314)
    gradient_checkpointing: bool = False  # layers computed again in the backward pass, in place of memory
    device: Literal["auto", "cpu", "cuda"] = "auto"
    lora: Lora | None = Lora()  # null trains all weights
    adapter: str | None = None  # a LoRA adapter to start from, in place of a fresh one: its folder, or a run's

    def check(self) -> list[str]:
        """What is wrong with the settings, in words."""
        errors = []
        if self.context < 2:
            errors.append(f"model.context={self.context} must hold a prompt and a token at least (2 or more)")
        if self.round_tokens < 1:
            errors.append(f"model.round_tokens={self.round_tokens} must be 1 or more")
        errors += self.lora.check() if self.lora else self._check_full()
        if self.quantization and self.dtype == "float64":
            errors.append(
                f"model.quantization={self.quantization} cannot compute in model.dtype=float64; use float32 or bfloat16"
            )
        if self.device == "cuda" and not torch.cuda.is_available():
            errors.append("model.device=cuda, but torch sees no CUDA device here; valid: auto, cpu")
        elif self.quantization and self.dtype != "float64":
            errors += check_quantization(self.quantization, self.placed, self.precision)
        for find in (self._check_name, self._check_adapter):
            try:
                find()
            except InputError as error:
                errors.append(str(error))
        return errors

    def _check_full(self) -> list[str]:
        """What does not go together with training all weights."""
        errors = []
        if self.quantization:
            errors.append(
                f"model.lora=null trains all weights, and model.quantization={self.quantization} has none that can be "
                "trained; use model.quantization=null, or an adapter (model.lora.r=64)"
            )
        if self.adapter:
            errors.append(
                f"model.lora=null trains all weights, and model.adapter={self.adapter} is an adapter; merge it first "
                "(python -m src.export) and give the result as model.name"
            )
        if self.dtype in ("bfloat16", "float16"):
            errors.append(
                f"model.lora=null trains all weights, and steps are too small for model.dtype={self.dtype}; use "
                "model.dtype=float32"
            )
        return errors

    def _check_name(self) -> None:
        if package := packaged(self.name):
            weights_file(package)
        else:
            location(self.name)

    def _check_adapter(self) -> None:
        if self.adapter:
            adapter_folder(self.adapter)

    @property
    def placed(self) -> str:
        """The device that the weights go to."""
        return self.device if self.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def precision(self) -> torch.dtype:
        """What is computed in; ``dtype=auto`` takes half precision under an adapter where the device computes in it (a
        GPU, a CPU with bfloat16 products), and single elsewhere."""
        half = self.lora is not None and (self.placed == "cuda" or not HALF_ON_CPU.isdisjoint(instructions()))
        name = self.dtype if self.dtype != "auto" else ("bfloat16" if half else "float32")
        dtype: torch.dtype = getattr(torch, name)
        return dtype


HALF_ON_CPU = frozenset({"amx_bf16", "avx512_bf16"})
"""Instructions for products of bfloat16, several times as fast as those of float32."""


def packaged(name: str) -> str | None:
    """The distribution that ``model.name=package:<name>`` names."""
    return name.removeprefix("package:") if name.startswith("package:") else None


def location(name: str) -> str:
    """What ``from_pretrained`` is given for ``model.name``; the weights of a package are converted at first.

    Raises:
        InputError: no such embedded model, or a package that is not installed.
    """
    if package := packaged(name):
        return str(checkpoint_folder(package))
    if not name.startswith("embedded:"):
        return name
    folder = EMBEDDED / name.removeprefix("embedded:")
    if not (folder / "config.json").is_file():
        names = sorted(entry.name for entry in EMBEDDED.iterdir() if (entry / "config.json").is_file())
        raise InputError(f"model.name={name}: no such embedded model; valid: {', '.join(names) or 'none'}")
    return str(folder)


def adapter_folder(name: str) -> Path:
    """The folder of the adapter that ``model.adapter`` names: itself, or that of a run's newest checkpoint.

    Raises:
        InputError: there is no adapter.
    """
    folder = Path(name)
    if checkpoint.steps(folder):
        folder = checkpoint.latest(folder)
    found = next((place for place in (folder, folder / "adapter") if (place / "adapter_config.json").is_file()), None)
    if found is None:
        raise InputError(
            f"model.adapter={name}: holds no LoRA adapter (no adapter_config.json). Name a folder that PEFT wrote, a "
            "run of src.warmup, or a run of src.train"
        )
    return found


def load_codec(config: ModelConfig) -> TokenizerCodec:
    """The model's tokenizer alone (no weights).

    Raises:
        InputError: it cannot be loaded, or has no chat template.
    """
    tokenizer = _from_pretrained(AutoTokenizer, config)
    if tokenizer.chat_template is None:
        raise InputError(
            f"model.name={config.name}: its tokenizer has no chat template, so it cannot be asked anything; choose an "
            "instruction-tuned model (their names often end in -Instruct)"
        )
    return TokenizerCodec(tokenizer)


def _from_pretrained(kind: Any, config: ModelConfig, **options: Any) -> Any:
    try:
        return kind.from_pretrained(location(config.name), revision=config.revision or "main", **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"model.name={config.name}: cannot be loaded ({str(error).splitlines()[0]}). Valid: embedded:tiny, a "
            "folder with a checkpoint, or a name on the Hugging Face hub where this machine can reach it."
        ) from error


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and bytes of all parameters: what a result started from."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        tensors = {name: parameter.detach()}
        if (scales := getattr(parameter, "quant_state", None)) is not None:
            tensors |= {f"{name}.{key}": scale for key, scale in sorted(scales.as_dict(packed=True).items())}
        for full, tensor in tensors.items():
            digest.update(f"{full}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_model(config: ModelConfig) -> Any:
    """The causal LM, on its device."""
    if config.quantization is None:
        return _from_pretrained(AutoModelForCausalLM, config, dtype=config.precision).to(config.placed)
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=config.precision,
    )
    model = _from_pretrained(
        AutoModelForCausalLM,
        config,
        dtype=config.precision,
        quantization_config=quantized,
        device_map={"": config.placed},
    )
    for module in model.modules():  # this path of theirs packs anew with coarser scales, and has no gradient
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def blueprint(config: ModelConfig) -> Any:
    """The causal LM without its weights: modules on the meta device, with names, shapes and types.

    Raises:
        InputError: the model's configuration cannot be loaded.
    """
    settings = _from_pretrained(AutoConfig, config)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(settings, dtype=config.precision)


def load_policy(
    config: ModelConfig,
    seed: int,
    saved: Path | None = None,
    codec: TokenizerCodec | None = None,
    keep_start: bool = False,
) -> Policy:
    """The model as a run starts with it, or as the checkpoint in ``saved`` left it.

    An adapter is that of ``model.adapter``, else a fresh one whose initialisation ``seed`` fixes. Where all weights are
    trained, ``keep_start`` keeps a copy of them, so that the base can still be asked; it costs their size once more.

    Raises:
        InputError: the model cannot be loaded, or the adapter or checkpoint does not fit it.
    """
    codec = codec or load_codec(config)
    model = _load_model(config)
    if config.gradient_checkpointing:
        recompute(model)
    torch.manual_seed(seed)
    if config.lora is None:
        policy = Policy(model, codec, weights_hash(model))
        keep = keep_start
    elif config.adapter is not None:
        model = _adapt(model, adapter_folder(config.adapter), config)
        policy, keep = Policy(model, codec, weights_hash(model)), True
    else:
        base_hash = weights_hash(model)
        lora = LoraConfig(
            r=config.lora.r,
            lora_alpha=config.lora.alpha,
            target_modules=list(config.lora.targets),
            task_type="CAUSAL_LM",
        )
        policy, keep = Policy(get_peft_model(model, lora), codec, base_hash), False
    if policy.adapted:
        policy.model.peft_config["default"].base_model_name_or_path = origin(config.name)
    if keep:
        policy.start = [parameter.detach().clone() for parameter in policy.parameters()]
    if saved is not None:
        policy.load(saved)
    return policy


def load_merged(config: ModelConfig, saved: Path, dtype: str | None = None) -> tuple[Any, PreTrainedTokenizerBase]:
    """The plain model of a checkpoint and its tokenizer. An adapter is merged in single precision at least, into what
    4-bit weights stand for; ``dtype`` is that of the result, by default what the run computed in.

    Raises:
        InputError: the model cannot be loaded, or the checkpoint does not fit it.
    """
    codec = load_codec(config)
    if config.lora is None:
        model = load_policy(config, 0, saved, codec).model
    else:
        model = _load_model(config)
        model = model.dequantize(torch.float32) if config.quantization else model
        model = model if config.precision == torch.float64 else model.to(torch.float32)
        model = _adapt(model, saved / "adapter", config).merge_and_unload()
    return model.to(getattr(torch, dtype) if dtype else config.precision), codec.tokenizer


def _adapt(model: Any, folder: Path, config: ModelConfig) -> Any:
    """The model with the adapter in ``folder``, to be trained on."""
    try:
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
        adapter_weights(adapted, folder)
        return adapted
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"the adapter in {folder} cannot be loaded on {config.name}: {error}") from error


def origin(name: str) -> str:
    """A model's name for whoever loads an adapter elsewhere."""
    if package := packaged(name):
        return PACKAGES[package].origin
    return f"src/assets/{name.removeprefix('embedded:')}" if name.startswith("embedded:") else name
