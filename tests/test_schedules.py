"""Learning rates over a training of any length."""

import math

import pytest
import torch

from common.engine.schedules import one_cycle


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 11, 20, 100])
def test_a_training_of_any_length_has_a_rate_at_each_step(steps):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = one_cycle(optimizer, epochs=steps, loader=[0])
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        if len(rates) < steps:
            schedule.step()
    assert all(math.isfinite(rate) and 0 < rate <= 1e-3 + 1e-12 for rate in rates)
    if steps > 2:
        assert max(rates) == pytest.approx(1e-3, rel=0.3) and rates[-1] < 1e-4
