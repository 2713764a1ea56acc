"""Several processes of a run: sharing work, collecting results, summing gradients, and failing together."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from src.parallel.dealing import deal
from src.parallel.lifeline import LOST
from src.rounds.growing import Item, Result, World
from src.utils.signals import Stopped

if TYPE_CHECKING:
    from torch.nn import Parameter

BUCKET = 2**26
"""Number of gradients that are summed at a time (256 MB): a LoRA adapter takes one sum, a whole model several."""


class LostProcess(SystemExit):
    """Another process of the run ended unexpectedly, so this one ends with exit code 1 and a message."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"{LOST} ({(str(cause).splitlines() or [''])[0]})")


@dataclass(frozen=True)
class Call:
    """What process 0 sends to the others to begin a job."""

    job: Any


class Superseded(Exception):  # noqa: N818 (not an error of this process)
    """Process 0 has left the job of this process and calls for another one."""

    def __init__(self, call: Call) -> None:
        super().__init__("process 0 has left this job")
        self.call = call


@dataclass
class Processes(World):
    """``size`` processes connected by ``torch.distributed``, of which this one is number ``rank``."""

    rank: int
    size: int
    raised: Exception | None = None  # the last error of this job that all processes raised together
    summing: bool = False  # whether this process is inside a sum of gradients, or failed there
    sent: int = 0  # bytes that this process has contributed to exchanges

    def gather(self, value: Any) -> list[Any]:
        """Collect the value of every process, by rank. Values are pickled.

        Raises:
            LostProcess: another process has ended.
        """
        import torch.distributed as dist

        packed, values = pickle.dumps(value), [b""] * self.size
        self.sent += len(packed)
        try:
            dist.all_gather_object(values, packed)
        except RuntimeError as error:
            raise LostProcess(error) from error
        return [pickle.loads(one) for one in values]

    def call(self, job: Any) -> None:
        """Begin a job: ``wait`` returns ``job`` in the other processes. Those still at an earlier job leave it."""
        self.gather(Call(job))

    def wait(self, ended: Exception) -> Call:
        """Wait until process 0 calls for a job. Processes that are still at the job before raise ``ended``."""
        while not isinstance(message := self.gather((None, ended))[0], Call):
            pass  # process 0 was at the job before
        return message

    def agree(self, function: Callable[[], Result]) -> list[Result]:
        """Call ``function`` in every process and return all results, by rank.

        An error in one process is raised in all of them: the first error by rank, or else the first ``Stopped``.

        Raises:
            Superseded: process 0 has left this job.
        """
        result: Result | None = None
        failure: Exception | None = None
        try:
            result = function()
        except Exception as error:
            failure = error
        outcomes: list[Any] = self.gather((result, failure and sendable(failure, self.rank)))
        if isinstance(outcomes[0], Call):
            raise Superseded(outcomes[0])
        failures = [(rank, failed) for rank, (_, failed) in enumerate(outcomes) if failed is not None]
        if failures:
            rank, failed = min(failures, key=lambda one: (isinstance(one[1], Stopped), one[0]))
            self.raised = failure if failure is not None and rank == self.rank else failed
            raise self.raised
        return [value for value, _ in outcomes]

    def together(self, function: Callable[[], Result]) -> Result:
        """Call ``function`` in every process; return this process's result. An error in one is raised in all."""
        own: list[Result] = []
        self.agree(lambda: own.append(function()))
        return own[0]

    def lead(self, function: Callable[[], Result]) -> Result:
        """Call ``function`` in process 0 only, while the others wait; all get its result or its error."""
        results: list[Result] = self.agree(function if self.leads else _nothing)
        return results[0]

    def share(
        self, items: Sequence[Item], costs: Sequence[float], function: Callable[[Sequence[Item]], Sequence[Result]]
    ) -> list[Result]:
        """Apply ``function`` to all items, some in each process, and return all results in the order of ``items``.

        ``function`` maps a list of items to a list of results. It is not called without items.
        """
        dealt = deal(costs, self.size)
        own = [items[index] for index in dealt[self.rank]]
        results: dict[int, Result] = {}
        for indices, part in zip(dealt, self.agree(lambda: function(own) if own else []), strict=True):
            results |= dict(zip(indices, part, strict=True))
        return [results[index] for index in range(len(items))]

    def own(self, items: Sequence[Item], costs: Sequence[float]) -> list[Item]:
        """The items that are this process's to work on."""
        return [items[index] for index in deal(costs, self.size)[self.rank]]

    def accumulate(self, parameters: Sequence[Parameter], backward: Callable[[], None]) -> None:
        """Call ``backward`` in every process, then replace each gradient by its sum over the processes.

        Half-precision gradients are summed in float32. A parameter without a gradient in every process keeps none.
        """
        import torch
        import torch.distributed as dist

        def present() -> list[bool]:
            backward()
            return [parameter.grad is not None for parameter in parameters]

        some = [any(flags) for flags in zip(*self.agree(present), strict=True)]
        self.summing = True
        gradients = []
        for parameter, used in zip(parameters, some, strict=True):
            if used and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            dtype = torch.promote_types(bucket[0].dtype, torch.float32)
            flat = torch.cat([gradient.reshape(-1).to(dtype) for gradient in bucket])
            self.sent += flat.nbytes
            try:
                dist.all_reduce(flat)
            except RuntimeError as error:
                raise LostProcess(error) from error
            for gradient, total in zip(bucket, torch.split(flat, [one.numel() for one in bucket]), strict=True):
                gradient.copy_(total.view_as(gradient))
        self.summing = False


def _buckets(tensors: Sequence[Any]) -> Iterator[list[Any]]:
    """Split tensors, in order, into lists of one dtype with at most ``BUCKET`` elements (a larger tensor is alone)."""
    bucket: list[Any] = []
    for tensor in tensors:
        full = sum(one.numel() for one in bucket) + tensor.numel() > BUCKET
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def sendable(error: Exception, rank: int) -> Exception:
    """Return ``error`` with its traceback as a note; as a ``RuntimeError`` if it cannot be pickled."""
    if not isinstance(error, Stopped):
        error.add_note(f"in process {rank}:\n{''.join(traceback.format_tb(error.__traceback__))}")
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception as unsendable:
        error.add_note(f"(cannot be sent as it is: {unsendable})")
    copy = RuntimeError(f"{type(error).__name__}: {error}")
    for note in getattr(error, "__notes__", []):
        copy.add_note(note)
    return copy


def _nothing() -> Any:
    return None
