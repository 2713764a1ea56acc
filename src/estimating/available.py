"""Available memory of a CPU or GPU."""

from __future__ import annotations

import re
from pathlib import Path

import torch


def available(device: str, lent: float = 0.0, root: Path = Path("/")) -> float | None:
    """Bytes that this process can still allocate on ``cpu`` or ``cuda``; ``None`` if the system does not report them.

    GPU: free memory plus unused memory in PyTorch's cache, minus the share ``lent`` of the total, which an engine takes
    for itself. CPU: Linux's MemAvailable plus free swap space, or less if the limits of the process's control groups
    leave less; page cache counts as available. ``root`` is the root of the file system, for tests.
    """
    if device == "cuda":
        idle = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        free, total = torch.cuda.mem_get_info()
        return float(free + idle - lent * total)
    file = root / "proc/meminfo"
    if not file.is_file():
        return None
    sizes = {name: 1024 * int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", file.read_text("utf-8"))}
    if "MemAvailable" not in sizes:
        return None
    return float(min([sizes["MemAvailable"] + sizes.get("SwapFree", 0), *_groups(root)]))


def _groups(root: Path) -> list[int]:
    """Bytes left under the memory limit of each control group of this process."""
    left = []
    own = root / "proc/self/cgroup"
    lines = own.read_text("utf-8").splitlines() if own.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / "sys/fs/cgroup" / controllers
        place = top / path.strip("/")
        names = (
            ("memory.max", "memory.current", "file")
            if not controllers
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")
        )
        for folder in (place, *place.parents):
            if folder.is_relative_to(top):
                left += _left(folder, *names)
    return left


def _left(folder: Path, limit: str, used: str, cache: str) -> list[int]:
    texts = [(folder / name).read_text("utf-8") for name in (limit, used, "memory.stat") if (folder / name).is_file()]
    if len(texts) < 3 or not texts[0].strip().isdigit():  # no limit: "max"
        return []
    cached = dict(line.split() for line in texts[2].splitlines()).get(cache, 0)
    return [int(texts[0]) - int(texts[1]) + int(cached)]
