"""Several small batches make the step of a large one; what a group has not finished is not saved."""

import signal
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from common.engine.handlers import TrainingHandlers
from common.engine.state import TrainingState
from common.engine.steps import clip_and_step, descend, position_in_group


def weights_after(sizes, *, accumulate, clip, by_value=False):
    """Two epochs over eight cases in batches of ``sizes``."""
    torch.manual_seed(0)
    network, cases = nn.Linear(3, 1), torch.randn(8, 3)
    batches = cases.split(sizes)

    def step(engine, batch):
        loss = network(batch).square().mean()
        if by_value:
            descend(engine, {"loss": loss}, weights={"loss": 1.0}, parameters=network.parameters(), clip_value=clip)
        else:
            clip_and_step(engine, loss, max_norm=clip)

    trainer = Engine(step)
    trainer.optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    trainer.state.accumulate = accumulate
    if by_value:
        from monai.engines.utils import IterationEvents

        trainer.register_events(*IterationEvents)
    trainer.run(batches, max_epochs=2)
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("by_value", [False, True])
def test_small_batches_make_the_step_of_a_large_one(by_value):
    large = weights_after(4, accumulate=1, clip=0.05, by_value=by_value)
    torch.testing.assert_close(weights_after(2, accumulate=2, clip=0.05, by_value=by_value), large)
    torch.testing.assert_close(weights_after(1, accumulate=4, clip=0.05, by_value=by_value), large)
    assert not torch.allclose(weights_after(2, accumulate=1, clip=0.05, by_value=by_value), large)


def test_a_group_that_an_epoch_cuts_is_a_mean_too():
    large, cut = (weights_after((4, 4), accumulate=1, clip=9.0), weights_after((2, 2, 2, 2), accumulate=2, clip=9.0))
    torch.testing.assert_close(cut, large)
    torch.testing.assert_close(weights_after((8,), accumulate=4, clip=9.0), weights_after((8,), accumulate=1, clip=9.0))


def test_an_epoch_ends_with_a_step():
    state = SimpleNamespace(accumulate=3, epoch_length=5, iteration=0)
    places = []
    for state.iteration in range(1, 11):
        places.append(position_in_group(SimpleNamespace(state=state)))
    assert [first for first, _ in places] == [True, False, False, True, False] * 2
    assert [last for _, last in places] == [False, False, True, False, True] * 2


def test_a_stopped_training_waits_for_its_group(tmp_path):
    network = nn.Linear(1, 1)
    evaluator, trainer = Engine(lambda *_: None), Engine(lambda *_: None)
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = 0.0, 1
    trainer.state.accumulate = 3
    state = TrainingState(
        path=str(tmp_path / "checkpoint.pt"), best_path=str(tmp_path / "model.pt"), objects={"network": network},
        evaluator=evaluator, network=network,
    )  # fmt: skip
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=4), lambda _: signal.raise_signal(signal.SIGTERM))
    state.attach(trainer)
    with pytest.raises(SystemExit) as ended:
        trainer.run(range(9), max_epochs=1)
    assert ended.value.code == 143 and trainer.state.iteration == 6
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["trainer"]["iteration"] == 6
    assert signal.getsignal(signal.SIGTERM) is not state.stop._receive


def test_no_batch_makes_no_step():
    with pytest.raises(ValueError, match="accumulate: 0 batches make no step"):
        TrainingHandlers(
            evaluator=None, dataset=None, state={}, schedule="epoch", folder="", weights=None, accumulate=0
        )
