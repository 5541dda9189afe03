"""A training whose loss is no number any more ends by its name, and what it saved before stays."""

import os

import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from torch import nn

from common.engine import steps
from common.engine.handlers import TrainingHandlers
from common.engine.progress import EVERY
from common.engine.steps import take_step
from tests.test_bundle_contract import TINY, flags, train_files
from tests.warm import on_ranks

BATCHES = 3


class Training:
    """Two epochs, in which the loss of the steps ``bad`` is no number."""

    def __init__(self, folder, bad, *, amp=False, batches=BATCHES):
        self.network, self.bad, self.batches, self.validated = nn.Linear(2, 1), bad, batches, 0
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        validation = SupervisedEvaluator(
            device=torch.device("cpu"), val_data_loader=[{}], network=self.network, iteration_update=self.validate
        )
        self.trainer = Engine(self.step)
        TrainingHandlers(
            evaluator=validation, dataset=[], state={"network": self.network, "optimizer": self.optimizer},
            schedule="epoch", folder=str(folder), weights=str(folder / "model.pt"), amp=amp,
        ).attach(self.trainer)  # fmt: skip

    def validate(self, *_):
        self.validated += 1

    def step(self, engine, batch):
        loss = self.network(batch).sum() * (float("nan") if engine.state.iteration in self.bad else 1.0)
        take_step(engine, loss, optimizer=self.optimizer)
        return [{"terms": {"report": loss.detach(), "local": torch.zeros(())}}]

    def run(self):
        self.trainer.run([torch.ones(1, 2)] * self.batches, max_epochs=2)


def lost(training):
    """The message that ``training`` ends with."""
    with pytest.raises(ValueError, match="loss: 'report' has become nan") as caught:
        training.run()
    return str(caught.value)


def test_nothing_of_such_an_epoch_is_validated_or_saved(tmp_path):
    training = Training(tmp_path, [BATCHES + 2])
    assert "--learning_rate" in lost(training) and training.validated == 1
    for file in ("model.pt", "checkpoint.pt"):
        state = torch.load(tmp_path / file, weights_only=True)
        assert state.get("network", state)["weight"].isfinite().all()
    assert not training.network.weight.isfinite().any()


def test_of_the_first_epoch_nothing_is_written(tmp_path):
    lost(Training(tmp_path, [2]))
    assert not [file.name for file in tmp_path.iterdir() if file.suffix == ".pt"]


def test_a_long_epoch_is_not_waited_for(tmp_path):
    training = Training(tmp_path, [2], batches=10 * EVERY)
    lost(training)
    assert training.trainer.state.iteration == EVERY


def test_in_float16_such_steps_are_left_to_the_scale(tmp_path):
    training = Training(tmp_path, [BATCHES + 2], amp="float16")
    training.run()
    assert training.validated == 2


def spoil_the_gradient_of_the_second_process():
    """In its second step; all processes take the mean of their gradients."""
    if os.environ["RANK"] == "1":
        step = steps.take_step

        def spoiled(engine, loss, **options):
            step(engine, loss * float("nan") if engine.state.iteration == 2 else loss, **options)

        steps.take_step = spoiled


def test_two_processes_end_together(tmp_path):
    tiny = TINY["akessfa"]
    options = {**tiny["train"], "batch_size": 2, "ckpt_dir": tmp_path / "models", "synthetic_dir": tmp_path / "drawn"}
    arguments = ["run", "--config_file", train_files("akessfa"), *flags(tiny["network"], tiny["data"], options)]
    for done in on_ranks(2, *arguments, before=spoil_the_gradient_of_the_second_process):
        assert done.returncode == 1 and "has become nan" in done.stderr, done.stderr[-2000:]
    assert not [file.name for file in (tmp_path / "models").glob("*.pt")]
