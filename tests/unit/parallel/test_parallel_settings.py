"""Numbers of replicas and shards, and what sharded weights do not work with."""

from __future__ import annotations

import pytest

from src.config import compose
from src.types import InputError


@pytest.fixture
def launched(monkeypatch):
    """Pretend that a launcher started this many processes."""

    def pretend(processes: int) -> None:
        for name, value in {"RANK": "0", "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}.items():
            monkeypatch.setenv(name, value)

    return pretend


def refusals(*overrides: str) -> str:
    with pytest.raises(InputError) as error:
        compose("train", list(overrides))
    return "\n".join(error.value.problems)


@pytest.mark.parametrize(
    ("processes", "overrides"),
    [
        (1, []),
        (2, []),
        (2, ["parallel=sharded"]),
        (4, ["parallel.shards=2"]),
        (6, ["parallel.replicas=3", "parallel.shards=2"]),
    ],
)
def test_replicas_times_shards_is_the_number_of_processes(launched, processes, overrides):
    launched(processes)
    compose("train", overrides)


@pytest.mark.parametrize(
    ("processes", "overrides", "message"),
    [
        (3, ["parallel.shards=2"], "parallel.shards=2 does not divide the number of processes"),
        (1, ["parallel=sharded"], "torchrun --nproc-per-node 2"),
        (2, ["parallel.shards=2", "parallel.replicas=2"], "parallel.replicas=2 x parallel.shards=2, but"),
        (2, ["parallel.shards=0"], "parallel.shards=0 must be"),
    ],
)
def test_other_numbers_of_processes_are_refused(launched, processes, overrides, message):
    launched(processes)
    assert message in refusals(*overrides)


def test_what_sharded_weights_do_not_work_with_is_refused_together(launched):
    launched(2)
    overrides = ["parallel=sharded", "model.lora=null", "optimizer=adamw-8bit", "algorithm.kl_beta=0.1", "rounds=2"]
    said = refusals(*overrides, "rounds.continuation=base")
    for words in (
        "an 8-bit optimizer",
        "algorithm.kl_beta above 0 and model.lora=null",
        "rounds.continuation=base and",
    ):
        assert words in said
    assert "model.quantization=nf4, whose packed weights" in refusals("parallel=sharded", "model.quantization=nf4")


def test_a_kl_term_with_a_fresh_adapter_is_accepted(launched):
    launched(2)
    compose("train", ["parallel=sharded", "algorithm.kl_beta=0.1"])
