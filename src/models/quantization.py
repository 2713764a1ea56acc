"""Whether 4-bit weights work here. The only door to bitsandbytes itself."""

from __future__ import annotations

import importlib.util

import torch


def check_quantization(kind: str, device: str, dtype: torch.dtype) -> list[str]:
    """Try a product with a small quantized matrix on ``device``, forward and backward; says in words why it fails."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return [
            f"model.quantization={kind} needs the package bitsandbytes, which is not installed: "
            "`pip install bitsandbytes`, or model.quantization=null"
        ]
    try:
        import bitsandbytes
        from bitsandbytes.functional import quantize_4bit

        weight = torch.eye(64, device=device, dtype=dtype)
        packed, state = quantize_4bit(weight, quant_type=kind, compress_statistics=True)
        given = torch.ones(2, 64, device=device, dtype=dtype, requires_grad=True)
        torch.autograd.backward(bitsandbytes.matmul_4bit(given, packed.t(), quant_state=state).sum())
    except (ImportError, OSError, RuntimeError, AttributeError, NotImplementedError, ValueError) as error:
        return [
            f"model.quantization={kind}: bitsandbytes cannot compute on {device} here ({str(error).splitlines()[0]}); "
            "use model.quantization=null, or a device and a version that it supports"
        ]
    return []
