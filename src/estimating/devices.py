"""Devices for which time is estimated, from the makers' data sheets."""

from __future__ import annotations

from src.estimating.time import Device
from src.types import InputError

GIB = 2**30

DEVICES = (
    Device("RTX 4090", 24 * GIB, 165e12, 1.008e12),
    Device("H100 SXM", 80e9, 989e12, 3.35e12),
    Device("H200", 141e9, 989e12, 4.8e12),
)
"""Memory, dense bfloat16 operations per second and bytes per second."""


def device_named(name: str) -> Device:
    """The device with this name, in any case; a unique part of the name is enough.

    Raises:
        InputError: there is no such device, or several.
    """
    found = [device for device in DEVICES if name.lower() in device.name.lower()]
    if len(found) != 1:
        raise InputError(f"device={name}: name one of {', '.join(device.name for device in DEVICES)}")
    return found[0]
