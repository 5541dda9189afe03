"""The moving average of the weights is what is validated, and the network itself goes on as if it were not there."""

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from common.engine.averaging import AveragedWeights
from common.engine.state import TrainingState


def train(decay, steps=6):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    validated, path = [], []

    def step(engine, _):
        optimizer.zero_grad()
        network(torch.randn(8, 2)).pow(4).mean().backward()
        optimizer.step()
        path.append(network[0].weight.detach().clone())

    evaluator = Engine(lambda engine, _: validated.append(network[0].weight.detach().clone()))
    trainer = Engine(step)
    if decay:
        handler = AveragedWeights(network=network, evaluator=evaluator, decay=decay)
        handler.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
    trainer.run(range(steps // 2), max_epochs=2)
    return network, handler.averaged if decay else None, validated, path


def test_the_average_is_validated_and_the_training_does_not_notice():
    plain, _, _, path = train(0)
    network, averaged, validated, same_path = train(0.5)
    assert all(torch.equal(a, b) for a, b in zip(path, same_path, strict=True))
    assert all(
        torch.equal(a, b) for a, b in zip(plain.state_dict().values(), network.state_dict().values(), strict=True)
    )
    expected = path[0]
    for step, weight in enumerate(path[1:], start=1):
        share = min(0.5, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * weight
    torch.testing.assert_close(averaged.module[0].weight, expected)
    torch.testing.assert_close(validated[-1], expected)
    assert not torch.equal(averaged.module[1].running_mean, network[1].running_mean)


def test_a_decay_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"ema_decay: 1\.5 is not between 0 and 1"):
        AveragedWeights(network=nn.Linear(1, 1), evaluator=Engine(lambda *_: None), decay=1.5)


def test_a_training_begun_without_an_average_is_not_resumed_with_one(tmp_path):
    network = nn.Linear(1, 1)
    options = {"path": str(tmp_path / "c.pt"), "best_path": str(tmp_path / "m.pt"), "network": network}
    evaluator, trainer = Engine(lambda *_: None), Engine(lambda *_: None)
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = 0.0, 1
    TrainingState(objects={"network": network}, evaluator=evaluator, **options).attach(trainer)
    trainer.run([0], max_epochs=1)
    objects = {
        "network": network,
        "averaged": AveragedWeights(network=network, evaluator=evaluator, decay=0.9).averaged,
    }
    again = Engine(lambda *_: None)
    again.state.device = torch.device("cpu")
    TrainingState(objects=objects, evaluator=evaluator, resume=True, **options).attach(again)
    with pytest.raises(ValueError, match="holds no 'averaged'"):
        again.run([0], max_epochs=2)
