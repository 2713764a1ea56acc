from __future__ import annotations

import io
import math

import pytest
import torch
from pydantic import ValidationError

from src.optimizers.adamw import AdamW
from src.optimizers.adamw_8bit import AdamW8bit
from tests.helpers.sections import mistakes, run_mistakes


def factors(steps: int, **settings) -> list[float]:
    return [AdamW(lr=1.0, **settings).factor(step, steps) for step in range(steps + 2)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("final", [0.0, 0.2])
def test_warm_up_rises_by_equal_steps(schedule, final):
    found = factors(20, warmup=0.25, schedule=schedule, final=final)
    assert found[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@pytest.mark.parametrize("warmup", [0.0, 0.01])
def test_no_warm_up_starts_at_the_full_rate(warmup):
    assert factors(10, warmup=warmup)[0] == 1.0


@pytest.mark.parametrize("final", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("warmup", [0.0, 0.2])
@pytest.mark.parametrize(
    ("schedule", "shape"),
    [
        ("cosine", lambda share: (1 + math.cos(math.pi * share)) / 2),
        ("linear", lambda share: 1 - share),
        ("constant", lambda share: 1.0),
    ],
)
def test_closed_forms(schedule, shape, warmup, final):
    steps = 40
    warm = round(warmup * steps)
    found = factors(steps, warmup=warmup, schedule=schedule, final=final)
    for step in range(warm, steps + 1):
        share = (step - warm) / (steps - warm)
        assert found[step] == pytest.approx(final + (1 - final) * shape(share), abs=1e-12)
    end = 1.0 if schedule == "constant" else final
    assert found[steps] == pytest.approx(end, abs=1e-12)
    assert found[steps + 1] == pytest.approx(end, abs=1e-12)  # stays there


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [0.5, 1.0, 1.0, 0.75, 0.25]),  # 1, then (1 + cos 60 deg) / 2, (1 + cos 120 deg) / 2
        ("linear", [0.5, 1.0, 1.0, 2 / 3, 1 / 3]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_factors_by_hand(schedule, expected):
    assert factors(5, warmup=0.4, schedule=schedule)[:5] == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
def test_short_runs_learn(steps, warmup):
    found = factors(steps, warmup=warmup)
    assert all(0 < factor <= 1 for factor in found[:steps])


def test_the_schedule_sets_the_rate_of_each_step():
    settings = AdamW(lr=0.3, warmup=0.2, final=0.1)
    optimizer, schedule = settings.build([torch.nn.Parameter(torch.zeros(1))], 10)
    for step in range(10):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3 * settings.factor(step, 10))
        assert schedule.get_last_lr() == [optimizer.param_groups[0]["lr"]]
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_by_hand(weight_decay):
    lr, betas, eps = 0.01, (0.8, 0.95), 1e-3
    settings = AdamW(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, warmup=0.0, schedule="constant")
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer, schedule = settings.build([parameter], 10)
    values, first, second = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for count, gradient in enumerate([(0.5, -0.25), (-1.0, 0.125)], start=1):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        schedule.step()
        for i, g in enumerate(gradient):
            first[i] = betas[0] * first[i] + (1 - betas[0]) * g
            second[i] = betas[1] * second[i] + (1 - betas[1]) * g * g
            mean, square = first[i] / (1 - betas[0] ** count), second[i] / (1 - betas[1] ** count)
            values[i] -= lr * weight_decay * values[i]
            values[i] -= lr * mean / (math.sqrt(square) + eps)
        assert parameter.tolist() == pytest.approx(values, rel=1e-12)


def test_good_settings_pass():
    assert mistakes(AdamW, "optimizer", lr=1e-4) == []
    limits = {"lr": 1.0, "betas": (0.0, 0.0), "weight_decay": 0.1, "warmup": 0.0, "final": 1.0}
    assert mistakes(AdamW, "optimizer", **limits) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "optimizer.lr=0.0 must be in (0, 1]"),
        ({"lr": -1.0}, "optimizer.lr=-1.0 must be in (0, 1]"),
        ({"betas": (0.9, 1.0)}, "optimizer.betas=[0.9, 1.0] must be two numbers in [0, 1)"),
        ({"betas": (-0.1, 0.9)}, "optimizer.betas=[-0.1, 0.9] must be two numbers in [0, 1)"),
        ({"betas": (0.9,)}, "optimizer.betas=[0.9] must be a list of numbers, 2 of them"),
        ({"weight_decay": -0.1}, "optimizer.weight_decay=-0.1 must be 0 or more"),
        ({"warmup": 1.0}, "optimizer.warmup=1.0 must be in [0, 1)"),
        ({"warmup": -0.1}, "optimizer.warmup=-0.1 must be in [0, 1)"),
    ],
)
def test_check_names_the_setting(settings, message):
    assert mistakes(AdamW, "optimizer", **{"lr": 1e-4, **settings}) == [message]
    with pytest.raises(ValidationError):
        AdamW(**{"lr": 1e-4, **settings})


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"final": -0.5}, "final"), ({"final": 1.5}, "final"), ({"eps": -1e-8}, "eps")],
)
def test_check_finds_values_that_cannot_train(settings, name):
    (error,) = mistakes(AdamW, "optimizer", **{"lr": 1e-4, **settings})
    assert error.startswith(f"optimizer.{name}=")


def test_check_tells_everything_at_once():
    errors = mistakes(AdamW, "optimizer", lr=0.0, betas=(1.0, 1.0), weight_decay=-1.0, warmup=2.0)
    assert [error.partition("=")[0] for error in errors] == [
        "optimizer.lr",
        "optimizer.weight_decay",
        "optimizer.warmup",
        "optimizer.betas",
    ]


def eight_bit_steps(parameter, optimizer, schedule, first, last):
    for step in range(first, last):
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        optimizer.step()
        schedule.step()


def test_moments_in_8_bits_take_nearly_the_steps_of_the_exact_ones():
    pytest.importorskip("bitsandbytes")
    ends = []
    for kind in (AdamW, AdamW8bit):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 8192))
        settings = kind(lr=0.01, weight_decay=0.1, warmup=0.0, schedule="constant")
        optimizer, schedule = settings.build([parameter], 20)
        eight_bit_steps(parameter, optimizer, schedule, 0, 20)
        ends.append(parameter.detach())
    moved = (ends[0] - torch.linspace(-1, 1, 8192)).norm()
    assert 0 < float((ends[1] - ends[0]).norm() / moved) < 0.05
    state = optimizer.state[parameter]
    assert {state[name].dtype for name in ("state1", "state2")} == {torch.uint8}


def test_moments_in_8_bits_resume_exactly():
    pytest.importorskip("bitsandbytes")
    settings = AdamW8bit(lr=0.01)
    whole, part = (torch.nn.Parameter(torch.linspace(-1, 1, 8192)) for _ in range(2))
    eight_bit_steps(whole, *settings.build([whole], 10), 0, 10)
    optimizer, schedule = settings.build([part], 10)
    eight_bit_steps(part, optimizer, schedule, 0, 4)
    content = io.BytesIO()
    torch.save((part, optimizer.state_dict(), schedule.state_dict()), content)
    content.seek(0)
    part, *states = torch.load(content, weights_only=True)
    again = settings.build([part], 10)
    for thing, state in zip(again, states, strict=True):
        thing.load_state_dict(state)
    eight_bit_steps(part, *again, 4, 10)
    assert torch.equal(part, whole)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (error,) = run_mistakes(AdamW8bit(lr=1e-4))
    assert "pip install bitsandbytes" in error
