"""Compiling and calling ``native.cpp``: a decoding step's work on the CPU."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from src.utils.environment import cpu_features

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
DTYPES = (torch.float32, torch.bfloat16)
WIDTH = 32
"""Outputs of a block of packed weights, as in ``native.cpp``."""


class NativeError(RuntimeError):
    """There is no compiled code, and why."""


def compiled() -> Path:
    """The shared library of ``native.cpp``, from the user's cache, or compiled now (seconds) for this processor.

    Not by ``torch.utils.cpp_extension.load``: killed while it compiles, it leaves a lock that the next run waits on for
    ever, and a cache that several machines share would serve one machine's instructions to another.

    Raises:
        NativeError: no compiler was found, or it failed.
    """
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NativeError("no C++ compiler was found (c++, g++, clang++, or the one that CXX names)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "motif-lab"
    try:
        # What the compiler says of itself holds its version, and the processor that -march=native stands for.
        ask = [compiler, *FLAGS, "-E", "-v", "-x", "c++", os.devnull]
        about = subprocess.run(ask, capture_output=True, check=True).stderr
        library = cache / f"native-{hashlib.sha256(about + SOURCE.read_bytes()).hexdigest()[:16]}.so"
        if not library.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as folder:  # others may compile at the same time
                built = Path(folder) / "native.so"
                subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(built)], capture_output=True, check=True)
                built.replace(library)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise NativeError(f"{compiler} failed: {said[0] if said else error}") from error
    except OSError as error:
        raise NativeError(str(error)) from error
    return library


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


class Kernels:
    """The compiled functions, which read and write the memory of contiguous tensors (see ``native.cpp``)."""

    def __init__(self) -> None:
        path = str(compiled())
        try:
            library = ctypes.CDLL(path)
        except OSError as error:  # e.g. a folder from which nothing may be run
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
        """``x`` (float32 ``[rows, size]``) becomes ``x + delta``; returns its RMSNorm in ``out``."""
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
        """SwiGLU of rows that hold gate and up side by side."""
        rows, size = out.shape
        self._functions["swiglu", out.dtype](_pointer(gate_up), _pointer(out), rows, size, _threads())
        return out

    def multiplies(self, weight: Tensor) -> bool:
        """Whether ``multiply`` takes this weight, and is the fastest: where there are instructions for bfloat16, but
        not those for whole tiles of it (AMX), which torch's own library makes better use of."""
        rows, columns = weight.shape
        return self._multiplies and weight.dtype == torch.bfloat16 and rows % WIDTH == 0 and columns % 2 == 0

    def packed(self, weight: Tensor) -> Tensor:
        """A weight ``[outputs, inputs]`` as ``multiply`` reads it: blocks of outputs, in them pairs of inputs."""
        weight = weight.contiguous()
        outputs, pairs = weight.shape[0], weight.shape[1] // 2
        packed = torch.empty(outputs // WIDTH, pairs, WIDTH, dtype=torch.int32)
        self._functions["pack", weight.dtype](_pointer(weight), _pointer(packed), pairs, outputs, _threads())
        return packed

    def multiply(self, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
        """``x`` ``[rows, inputs]`` times a packed weight, plus a bias; ``[rows, outputs]``, summed in float32."""
        blocks, pairs, _ = packed.shape
        x = x.contiguous()
        out = x.new_empty(len(x), blocks * WIDTH)
        pointers = map(_pointer, (x, packed, bias, out))
        self._functions["multiply", x.dtype](*pointers, len(x), pairs, out.shape[1], _threads())
        return out

    def low_rank(self, x: Tensor, down: Tensor, up: Tensor, sizes: Tensor, out: Tensor) -> Tensor:
        """Adds several low-rank products of ``x`` to ``out``, side by side; ``sizes`` ``[2, products]`` (int64) are
        their ranks and widths, ``down`` is ``[size, ranks]``, ``up`` the ``[rank, width]`` of each, laid end to end.
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
        """Turn by position, write keys and values into ``column``, and attend to each row's last columns.

        ``qkv`` is ``[rows, heads + 2 groups, head size]``, ``keys`` and ``values`` one layer of a cache with its keys
        transposed, ``angles`` float32 cosines and signed sines by position.
        """
        rows, heads, size = out.shape
        _, groups, width, _ = values.shape
        pointers = map(_pointer, (qkv, *angles, positions, keys, values, out))
        self._functions["attend", out.dtype](*pointers, rows, heads, groups, size, width, column, _threads())
        return out

    def reads(self, dtype: torch.dtype, size: int) -> bool:
        """Whether ``read`` takes heads of this size, and is the fastest, as ``multiplies``."""
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
        """Causal attention inside prompts of some ``lengths`` (int64), one after another, as ``attend``.

        Of each, ``known`` tokens have been read before: ``keys`` and ``values`` ``[all tokens, groups, size]`` hold
        theirs, and get those of the others, which alone are in ``qkv`` and in ``out``.
        """
        _, heads, size = out.shape
        pointers = map(_pointer, (qkv, *angles, lengths, known, keys, values, out))
        self._functions["read", out.dtype](*pointers, len(lengths), heads, keys.shape[1], size, _threads())
        return out

    def draw(
        self, logits: Tensor, temperature: Tensor, top_p: Tensor, uniform: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What ``sampling.draw`` does; its last three arguments are float64."""
        rows, size = logits.shape
        tokens = torch.empty(rows, dtype=torch.int64)
        logprobs, at_one = (torch.empty(rows, dtype=torch.float64) for _ in range(2))
        tensors = (logits.contiguous(), temperature, top_p, uniform, tokens, logprobs, at_one)
        self._functions["draw", logits.dtype](*map(_pointer, tensors), rows, size, _threads())
        return tokens, logprobs, at_one


def _threads() -> int:
    return torch.get_num_threads()
