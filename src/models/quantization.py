"""Check whether bitsandbytes can compute with 4-bit weights on this device. The only module that imports it."""

from __future__ import annotations

import importlib.util

import torch


def check_quantization(kind: str, device: str, dtype: torch.dtype) -> list[str]:
    """Try a small 4-bit matrix product on ``device``, forward and backward. Returns the errors."""
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
        inputs = torch.ones(2, 64, device=device, dtype=dtype, requires_grad=True)
        torch.autograd.backward(bitsandbytes.matmul_4bit(inputs, packed.t(), quant_state=state).sum())
    except (ImportError, OSError, RuntimeError, AttributeError, NotImplementedError, ValueError) as error:
        return [
            f"model.quantization={kind}: bitsandbytes cannot compute on {device} here ({str(error).splitlines()[0]}); "
            "use model.quantization=null, or a device and a version that it supports"
        ]
    return []
