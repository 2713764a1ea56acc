"""The most bytes of tensors that are alive together, counted exactly: resident memory depends on what ran before."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Alive(TorchDispatchMode):
    def __init__(self, before: Iterable[Tensor]) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self.known = {one.untyped_storage()._cdata for one in before}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        for one in tree_leaves(result):
            if isinstance(one, Tensor) and one.untyped_storage()._cdata not in self.known:
                self._count(one.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


def most_bytes(work: Callable[[], object], before: Iterable[Tensor]) -> int:
    """The most bytes of tensors that ``work`` makes and that are alive together; tensors of ``before`` do not count."""
    with _Alive(before) as alive:
        work()
    return alive.peak
