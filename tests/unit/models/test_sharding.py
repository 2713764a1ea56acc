"""Sharded weights: two processes that hold one copy together make the updates of one process."""

from __future__ import annotations

import pytest

from tests.helpers.processes import finish, start
from tests.helpers.tiny_models import save_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny"), tie_word_embeddings=True)


def test_updates_equal_those_of_one_process(folder):
    results = finish(start(["-m", "tests.helpers.sharded_updates", str(folder)]))
    assert [code for code, _, _ in results] == [0, 0], results


@pytest.mark.slow
@pytest.mark.parametrize("setter", ["set_gradient_divide_factor", "set_force_sum_reduction_for_comms"])
def test_without_either_setter_updates_differ(folder, setter):
    results = finish(start(["-m", "tests.helpers.sharded_updates", str(folder), setter]))
    assert any(code != 0 for code, _, _ in results), results
