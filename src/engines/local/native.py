"""Compile and call ``native.cpp``, the CPU kernels of a decoding step."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from src.utils.checkpoints import checksum
from src.utils.environment import cpu_features

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
DTYPES = (torch.float32, torch.bfloat16)
WIDTH = 32
"""Output features per block of packed weights; the same constant as in ``native.cpp``."""


class NativeError(RuntimeError):
    """The kernels could not be compiled or loaded; the message says why."""


def compiled() -> Path:
    """Path of the shared library of ``native.cpp``, compiled for this processor unless the user's cache has it.

    Compilation takes seconds. ``torch.utils.cpp_extension.load`` is not used for two reasons: if it is killed while it
    compiles, it leaves a lock file that blocks every later run; and in a cache shared by several machines it would
    load a library compiled for another machine's instruction set.

    Raises:
        NativeError: no compiler was found, or compilation failed.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NativeError("no C++ compiler was found (searched for $CXX, c++, g++ and clang++)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "motif-lab"
    try:
        # The compiler's verbose output names its version and the processor that -march=native resolves to.
        probe = [compiler, *FLAGS, "-E", "-v", "-x", "c++", os.devnull]
        version = subprocess.run(probe, capture_output=True, check=True).stderr
        library = cache / f"native-{hashlib.sha256(version + SOURCE.read_bytes()).hexdigest()[:16]}.so"
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        _own(cache)
        if not _intact(library):
            with tempfile.TemporaryDirectory(dir=cache) as folder:  # other processes may compile at the same time
                built = Path(folder) / "native.so"
                subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(built)], capture_output=True, check=True)
                # Either may be missing after a kill in between; the library is then compiled again.
                checked = Path(folder) / "checksum"
                checked.write_text(checksum(built), encoding="ascii")
                checked.replace(_checksum_file(library))
                built.replace(library)
    except subprocess.CalledProcessError as error:
        output = error.stderr.decode(errors="replace").strip().splitlines()
        raise NativeError(f"{compiler} failed: {output[0] if output else error}") from error
    except OSError as error:
        raise NativeError(str(error)) from error
    return library


def _checksum_file(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _intact(library: Path) -> bool:
    """Whether a cached library is the user's own file with the content that was compiled."""
    recorded = _checksum_file(library)
    if not (library.exists() and recorded.is_file()):
        return False
    state = library.lstat()
    own = stat.S_ISREG(state.st_mode) and state.st_uid == os.getuid() and not state.st_mode & 0o022
    return own and recorded.read_text(encoding="ascii", errors="replace") == checksum(library)


def _own(cache: Path) -> None:
    """Check that a folder of compiled code belongs to the user, and close it to all others.

    Raises:
        NativeError: another user owns the folder, or others could write to it, so it may hold their code.
    """
    state = cache.stat()
    if state.st_uid != os.getuid():
        raise NativeError(f"{cache} belongs to another user, so its compiled code is not loaded; set XDG_CACHE_HOME")
    if state.st_mode & 0o022:
        raise NativeError(
            f"{cache} can be written by other users, so its compiled code is not loaded; "
            f"remove the folder, or set XDG_CACHE_HOME"
        )
    cache.chmod(0o700)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


class Kernels:
    """Python bindings of the compiled kernels; tensors are passed as pointers and must be contiguous."""

    def __init__(self) -> None:
        path = str(compiled())
        try:
            library = ctypes.CDLL(path)
        except OSError as error:  # e.g. the cache is on a file system mounted with noexec
            raise NativeError(f"{path} cannot be loaded: {error}") from error
        names = ("norm", "swiglu", "low_rank", "attend", "draw")
        self._functions = {
            (name, dtype): library[f"{name}_{str(dtype).removeprefix('torch.')}"] for name in names for dtype in DTYPES
        }
        self._multiplies = hasattr(library, "multiply_bfloat16") and "amx_bf16" not in cpu_features()
        for name in ("pack", "multiply", "read") if self._multiplies else ():
            self._functions[name, torch.bfloat16] = library[f"{name}_bfloat16"]
        for function in self._functions.values():
            function.restype = None

    def norm(self, delta: Tensor | None, x: Tensor, weight: Tensor, epsilon: float, out: Tensor) -> Tensor:
        """Residual add and RMSNorm: adds ``delta`` to ``x`` (float32 ``[rows, size]``) in place, and writes the
        RMSNorm of the sum to ``out``."""
        function = self._functions["norm", out.dtype]
        rows, size = x.shape
        function(
            _pointer(delta),
            _pointer(x),
            _pointer(weight),
            _pointer(out),
            rows,
            size,
            ctypes.c_float(epsilon),
            _threads(),
        )
        return out

    def swiglu(self, gate_up: Tensor, out: Tensor) -> Tensor:
        """SwiGLU: ``gate_up`` ``[rows, 2 size]`` holds the gate and up projections side by side; ``out`` is
        ``[rows, size]``."""
        rows, size = out.shape
        self._functions["swiglu", out.dtype](_pointer(gate_up), _pointer(out), rows, size, _threads())
        return out

    def multiplies(self, weight: Tensor) -> bool:
        """Whether ``multiply`` supports this weight and is the fastest way to multiply by it.

        It is with AVX512-BF16 instructions. With AMX (bfloat16 tiles), torch's own library is faster.
        """
        rows, columns = weight.shape
        return self._multiplies and weight.dtype == torch.bfloat16 and rows % WIDTH == 0 and columns % 2 == 0

    def packed(self, weight: Tensor) -> Tensor:
        """Reorder a weight ``[outputs, inputs]`` for ``multiply``: ``[blocks of outputs, pairs of inputs, WIDTH]``."""
        weight = weight.contiguous()
        outputs, pairs = weight.shape[0], weight.shape[1] // 2
        packed = torch.empty(outputs // WIDTH, pairs, WIDTH, dtype=torch.int32)
        self._functions["pack", weight.dtype](_pointer(weight), _pointer(packed), pairs, outputs, _threads())
        return packed

    def multiply(self, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        """Linear layer with a packed weight: ``x`` is ``[rows, inputs]``, the result ``[rows, outputs]``. Sums are
        accumulated in float32."""
        blocks, pairs, _ = packed.shape
        x = x.contiguous()
        out = x.new_empty(len(x), blocks * WIDTH)
        pointers = map(_pointer, (x, packed, bias, out))
        self._functions["multiply", x.dtype](*pointers, len(x), pairs, out.shape[1], _threads())
        return out

    def low_rank(self, x: Tensor, down: Tensor, up: Tensor, sizes: Tensor, out: Tensor) -> Tensor:
        """Add several LoRA products of the same input ``x`` to ``out`` in place, side by side.

        ``sizes`` ``[2, products]`` (int64) holds the rank and the output width of each product. ``down`` is
        ``[size, sum of ranks]``; ``up`` holds the ``[rank, width]`` matrices of all products, concatenated.
        """
        rows, size = x.shape
        pointers = map(_pointer, (x, down, up, out, sizes[0], sizes[1]))
        self._functions["low_rank", out.dtype](*pointers, sizes.shape[1], rows, size, _threads())
        return out

    def attend(
        self,
        qkv: Tensor,
        angles: tuple[Tensor, Tensor],
        positions: Tensor,
        keys: Tensor,
        values: Tensor,
        column: int,
        out: Tensor,
    ) -> Tensor:
        """Decoding attention of one layer: apply rotary positions, write the new keys and values into ``column`` of
        the cache, and attend to all tokens of each row up to its position.

        ``qkv`` is ``[rows, heads + 2 groups, head size]``. ``keys`` and ``values`` are one layer of a ``Cache`` with
        transposed keys. ``angles`` are float32 cosines and signed sines, indexed by position.
        """
        rows, heads, size = out.shape
        _, groups, width, _ = values.shape
        pointers = map(_pointer, (qkv, *angles, positions, keys, values, out))
        self._functions["attend", out.dtype](*pointers, rows, heads, groups, size, width, column, _threads())
        return out

    def reads(self, dtype: torch.dtype, size: int) -> bool:
        """Whether ``read`` supports this head size and is the fastest way to prefill (see ``multiplies``)."""
        return self._multiplies and dtype == torch.bfloat16 and size % (2 * WIDTH) == 0

    def read(
        self,
        qkv: Tensor,
        angles: tuple[Tensor, Tensor],
        lengths: Tensor,
        known: Tensor,
        keys: Tensor,
        values: Tensor,
        out: Tensor,
    ) -> Tensor:
        """Prefill attention of one layer: causal attention inside each of several concatenated prompts.

        ``lengths`` (int64) are the prompts' lengths. The first ``known`` (int64) tokens of each prompt are a cached
        prefix: their keys and values are already in ``keys`` and ``values`` ``[all tokens, groups, size]``. ``qkv``
        and ``out`` hold only the remaining, new tokens, whose keys and values are written. ``angles`` as in ``attend``.
        """
        _, heads, size = out.shape
        pointers = map(_pointer, (qkv, *angles, lengths, known, keys, values, out))
        self._functions["read", out.dtype](*pointers, len(lengths), heads, keys.shape[1], size, _threads())
        return out

    def draw(
        self, logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same as ``sampling.draw``; the last three arguments must be float64."""
        rows, size = logits.shape
        tokens = torch.empty(rows, dtype=torch.int64)
        logprobs, at_one = (torch.empty(rows, dtype=torch.float64) for _ in range(2))
        tensors = (logits.contiguous(), temperature, top_p, uniform, tokens, logprobs, at_one)
        self._functions["draw", logits.dtype](*map(_pointer, tensors), rows, size, _threads())
        return tokens, logprobs, at_one


def _threads() -> int:
    return torch.get_num_threads()
