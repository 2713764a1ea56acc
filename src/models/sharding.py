"""Sharded weights (FSDP2, arXiv 2304.11277): every process stores a part of each weight.

A pass of the model gathers one decoder layer at a time; its backward pass sums the gradients and leaves each process
its part. ``DTensor`` is torch's tensor of which a process holds a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from src.types import InputError


class Shards:
    """The sharded weights of ``model``: each decoder layer of its causal LM is one unit, all other weights another.

    ``replicas`` x ``shards`` processes: ``shards`` consecutive ones hold the weights together.

    Raises:
        InputError: the model has no decoder layers of the kind that transformers marks.
    """

    def __init__(self, model: Any, causal: Any, replicas: int, shards: int) -> None:
        self.model, self.causal = model, causal
        self.layers: list[Any] = [one for one in causal.modules() if isinstance(one, GradientCheckpointingLayer)]
        if not self.layers:
            raise InputError(
                f"parallel.shards={shards}: the decoder layers of {type(causal).__name__} cannot be found; "
                "use parallel.shards=1"
            )
        self._names = list(model.state_dict())
        self._open = False
        mesh = init_device_mesh(causal.device.type, (replicas, shards), mesh_dim_names=("replicate", "shard"))
        for unit in (*self.layers, causal):
            fully_shard(unit, mesh=mesh, reshard_after_forward=unit is not causal)
            # A row's loss share is relative to the rows of all processes, so gradients are summed, not averaged.
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)
        with self.gathered():  # FSDP creates its whole parameters here, before an adapter is disabled for the base
            pass

    def entered(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function that calls parts of the causal LM, so that the weights outside its layers are gathered."""
        self.causal.sharded_forward = forward
        register_fsdp_forward_method(self.causal, "sharded_forward")

        def whole_pass(*inputs: Any) -> Any:
            result = self.causal.sharded_forward(*inputs)
            if not torch.is_grad_enabled():
                self.reset()
            return result

        return whole_pass

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Hold all weights as plain tensors until the context closes; passes of the model then exchange nothing.

        All processes enter it together, except inside another such context.
        """
        if self._open:
            yield
            return
        self.causal.set_reshard_after_forward(False)
        for unit in (self.causal, *self.layers):  # the causal LM first: FSDP takes the first unit for the root
            unit.unshard()
        self._open = True
        try:
            yield
        finally:
            self._open = False
            for unit in (self.causal, *self.layers):
                unit.reshard()
            for layer in self.layers:
                layer.set_reshard_after_forward(True, recurse=False)

    def reset(self) -> None:
        """Free the weights that a pass without a backward pass gathered. Does nothing inside ``gathered``."""
        if not self._open:
            self.causal.reset_iter_state()
            self.causal.reshard()

    def state(self) -> dict[str, Tensor]:
        """The whole weights by name, inside ``gathered``. (FSDP's own ``state_dict`` would give parts.)"""
        tensors = {
            **dict(self.model.named_parameters(remove_duplicate=False)),
            **dict(self.model.named_buffers(remove_duplicate=False)),
        }
        return {name: tensors[name].detach() for name in self._names}


def whole_norm(norm: Tensor) -> float:
    """The value of a norm that ``clip_grad_norm_`` returned: of all parts, if the gradients are sharded."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def own_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: all of it, if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(values: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, which every process has, sharded like the targets of the same names."""
    return {name: _like(value, targets[name]) if name in targets else value for name, value in values.items()}


def whole_state(state: dict[str, Any], keep: bool) -> dict[str, Any]:
    """An optimizer's ``state_dict`` with whole tensors, or with None in their place. All processes call it together."""

    def whole(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        gathered = value.full_tensor()
        return gathered if keep else None

    entries = {index: {name: whole(value) for name, value in one.items()} for index, one in state["state"].items()}
    return {**state, "state": entries}


def sharded_state(state: dict[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """An optimizer's ``state_dict`` of whole tensors, sharded like ``parameters``."""
    entries = {
        index: {
            name: _like(value, parameters[index])
            if isinstance(value, Tensor) and value.shape == parameters[index].shape
            else value
            for name, value in one.items()
        }
        for index, one in state["state"].items()
    }
    return {**state, "state": entries}


def _like(value: Tensor, target: Tensor) -> Tensor:
    if not isinstance(target, DTensor):
        return value
    place = target.device_mesh, target.placements
    return distribute_tensor(value.to(target.device), *place, src_data_rank=None)
