"""Loading a model: its tokenizer, weights and LoRA adapter."""

from __future__ import annotations

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedTokenizerBase

from src.models.architecture import check_architecture, check_vocabulary
from src.models.gradient_checkpointing import recompute
from src.models.lora import untie
from src.models.policy import Policy
from src.models.settings import ModelSettings, adapter_folder, location, origin, refuse_pickled_adapter
from src.models.tokenizer import TokenizerCodec
from src.models.weights import adapter_weights, weights_hash
from src.types import InputError

transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # inside peft


def load_codec(config: ModelSettings) -> TokenizerCodec:
    """Load the model's tokenizer without its weights.

    Raises:
        InputError: the tokenizer cannot be loaded, or has no chat template.
    """
    tokenizer = _from_pretrained(AutoTokenizer, config)
    if config.template is not None:
        tokenizer.chat_template = Path(config.template).read_text(encoding="utf-8")
    if tokenizer.chat_template is None:
        raise InputError(
            f"model.name={config.name}: its tokenizer has no chat template, so no prompt can be formatted; choose an "
            "instruction-tuned model (their names often end in -Instruct), or pass a template: model.template=<file>"
        )
    return TokenizerCodec(tokenizer)


def _from_pretrained(kind: Any, config: ModelSettings, **options: Any) -> Any:
    try:
        return kind.from_pretrained(
            location(config.name), revision=config.revision or "main", trust_remote_code=False, **options
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError, UnpicklingError) as error:
        said = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        raise InputError(
            f"model.name={config.name}: cannot be loaded ({said}). Valid: embedded:tiny, a folder with a checkpoint, "
            "or a name on the Hugging Face hub if this machine can reach it."
        ) from error


def _load_model(config: ModelSettings) -> Any:
    """Load the causal LM onto its device."""
    if config.quantization is None:
        return _weights(config).to(config.placed)
    quantized = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=config.precision,
    )
    model = _weights(config, quantization_config=quantized, device_map={"": config.placed})
    # bitsandbytes' AVX-512 path re-quantizes the weights with coarser scales and is not differentiable.
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def _weights(config: ModelSettings, **options: Any) -> Any:
    """The causal LM with all of its weights.

    Raises:
        InputError: the checkpoint lacks tensors, which transformers would fill with random numbers.
    """
    if not config.pickled:
        refuse_pickles(config.name)
        options["use_safetensors"] = True
    model, report = _from_pretrained(
        AutoModelForCausalLM, config, dtype=config.precision, output_loading_info=True, **options
    )
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"model.name={config.name}: the checkpoint lacks {len(missing)} tensors of {type(model).__name__}, e.g. "
            f"{missing[0]}; download or save it again"
        )
    return model


def refuse_pickles(name: str) -> None:
    """Refuse a folder whose weights are pickles only.

    Raises:
        InputError: it has no safetensors.
    """
    folder = Path(location(name))
    if folder.is_dir() and not list(folder.glob("*.safetensors")) and (pickles := sorted(folder.glob("*.bin"))):
        raise InputError(
            f"model.name={name}: its weights are pickles ({pickles[0].name}), which can run code; save them as "
            "safetensors, or load them all the same with +model.pickled=true"
        )


def blueprint(config: ModelSettings) -> Any:
    """The causal LM without weights: modules on the meta device, with names, shapes and dtypes.

    Raises:
        InputError: the model's configuration cannot be loaded.
    """
    settings = _from_pretrained(AutoConfig, config)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(settings, dtype=config.precision)


def load_policy(
    config: ModelSettings,
    seed: int,
    saved: Path | None = None,
    codec: TokenizerCodec | None = None,
    keep_start: bool = False,
) -> Policy:
    """Load the policy as at the start of a run, or with the trained weights of the checkpoint ``saved``.

    The adapter is ``model.adapter``, or else a fresh one initialised from ``seed``. If all weights are trained,
    ``keep_start`` keeps a copy of the starting weights, so that the base can still be used (KL reference, turns written
    by the base); the copy takes the memory of the weights once more.

    Raises:
        InputError: the model cannot be loaded, or the adapter or checkpoint does not fit it.
    """
    codec = codec or load_codec(config)
    architecture = _from_pretrained(AutoConfig, config)
    check_architecture(config, architecture)
    check_vocabulary(config, architecture, codec.tokenizer)
    model = _load_model(config)
    if config.gradient_checkpointing:
        recompute(model)
    torch.manual_seed(seed)
    if config.lora is None:
        policy = Policy(model, codec, weights_hash(model.named_parameters()))
        keep = keep_start
    elif config.adapter is not None:
        model = _adapt(model, adapter_folder(config.adapter), config)
        policy, keep = Policy(model, codec, weights_hash(model.named_parameters())), True
    else:
        base_hash = weights_hash(model.named_parameters())
        lora = LoraConfig(
            r=config.lora.r,
            lora_alpha=config.lora.alpha,
            target_modules=config.lora.targets if config.lora.targets == "all-linear" else list(config.lora.targets),
            task_type="CAUSAL_LM",
        )
        try:
            adapted = get_peft_model(model, lora)
        except ValueError as error:
            raise InputError(f"model.lora.targets: PEFT cannot adapt {type(model).__name__}: {error}") from error
        policy, keep = Policy(adapted, codec, base_hash), False
    if policy.adapted:
        policy.model.peft_config["default"].base_model_name_or_path = origin(config.name)
    if keep:
        policy.start = [parameter.detach().clone() for parameter in policy.parameters()]
    if saved is not None:
        policy.load(saved)
    return policy


def load_merged(config: ModelSettings, saved: Path, dtype: str | None = None) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model of a checkpoint without adapter modules, and its tokenizer.

    An adapter is merged into the weights (dequantized, if they are 4-bit) in float32 or float64. ``dtype`` is the dtype
    of the result, by default the one that the run computed in.

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
        adapted = _adapt(model, saved / "adapter", config)
        untie(adapted.get_base_model())
        model = adapted.merge_and_unload()
    return model.to(getattr(torch, dtype) if dtype else config.precision), codec.tokenizer


def _adapt(model: Any, folder: Path, config: ModelSettings) -> Any:
    """The model with the adapter in ``folder``, trainable."""
    try:
        refuse_pickled_adapter(folder)
        adapted = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
        adapter_weights(adapted, folder)
        return adapted
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"the adapter in {folder} cannot be loaded into model.name={config.name}: {error}") from error
