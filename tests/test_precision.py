"""Half floats that ``amp`` names; in float16 small gradients do not vanish, and an overflow takes no step."""

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.engines import SupervisedEvaluator
from torch import nn

from common.cli.typed_values import typed_values
from common.engine.handlers import TrainingHandlers
from common.engine.precision import ScaledLoss, autocast, half_of, scaled_loss
from common.engine.steps import clip_and_step

CONFIGS = list((Path(__file__).resolve().parents[1] / "bundles").glob("*/configs/*.json"))


def test_the_words_of_amp():
    assert [half_of(amp) for amp in (False, True, "bfloat16", "float16")] == [
        None, torch.bfloat16, torch.bfloat16, torch.float16,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="amp: 'half' is none of true, false, bfloat16, float16"):
        half_of("half")
    product = nn.Linear(2, 2)
    for amp, dtype in ((False, torch.float32), (True, torch.bfloat16), ("float16", torch.float16)):
        with autocast("cpu", amp):
            assert product(torch.rand(1, 2)).dtype == dtype
    assert scaled_loss("cpu", True) is None and scaled_loss("cpu", "float16").scaler.is_enabled()


def test_words_on_the_command_line():
    parser = ConfigParser({"amp": {"_target_": "common.engine.distributed.bfloat16_is_fast", "device": "cpu"}})
    for given, expected in {"float16": "float16", "BFloat16": "bfloat16", "true": True, "0": False}.items():
        assert typed_values({"amp": given}, parser) == {"amp": expected}
    with pytest.raises(SystemExit, match="--amp: 'fp8' is none of true, false, bfloat16, float16"):
        typed_values({"amp": "fp8"}, parser)


def scaled(scale=2.0**16):
    loss = ScaledLoss("cpu")
    loss.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return loss


def trained(scaling, losses, *, clip=1e9, start=1.0, accumulate=1):
    """Weights after a step down each of ``losses``, functions of the network; ``start``: how large they begin."""
    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(start)

    def step(engine, loss):
        clip_and_step(engine, loss(network), max_norm=clip)

    trainer = Engine(step)
    trainer.optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    trainer.state.accumulate = accumulate
    if scaling is not None:
        scaling.attach(trainer)
    trainer.run(losses, max_epochs=1)
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def plain(network):
    return network(torch.tensor([[1.0, 2.0, 3.0]])).square().sum()


def overflow(network):
    return network(torch.ones(1, 3)).sum() * float("inf")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_scaled_step_is_the_plain_one_clipped_at_its_true_norm(accumulate):
    for clip in (1e9, 0.1):
        options = {"clip": clip, "accumulate": accumulate}
        torch.testing.assert_close(trained(scaled(), [plain] * 5, **options), trained(None, [plain] * 5, **options))


def test_small_gradients_do_not_vanish():
    def loss(network):
        with autocast("cpu", "float16"):
            logits = network(torch.ones(1, 3))
        return 1e-9 * logits.float().sum()

    assert not trained(None, [loss], start=0.0).any()  # each gradient is below float16's least number
    assert trained(scaled(), [loss], start=0.0).tolist() == pytest.approx([-1e-10] * 4, rel=0.01)


def test_an_overflow_takes_no_step_and_the_next_one_is_taken(caplog):
    caplog.set_level("INFO")
    scaling, before = scaled(2.0**10), trained(None, [lambda network: 0.0 * plain(network)])
    assert torch.equal(trained(scaling, [overflow]), before) and scaling.scaler.get_scale() == 2.0**9
    assert "float16: steps whose gradients overflowed were left out; the loss is now scaled by 512" in caplog.text
    torch.testing.assert_close(trained(scaled(2.0**10), [overflow, plain]), trained(None, [plain]))
    with pytest.raises(ValueError, match="amp: 'float16' gives no finite gradient; pass --amp false"):
        trained(scaled(2.0**-19), [overflow] * 3)


def test_two_optimizers_of_a_step_share_one_scale():
    """As in akessfa's game: the first one's overflow changes the scale, under which the second has gathered already."""

    def seconds_weights(scaling, broken):
        torch.manual_seed(0)
        first, second = nn.Linear(3, 1), nn.Linear(3, 1)
        optimizers = [torch.optim.SGD(network.parameters(), lr=0.1) for network in (first, second)]

        def step(engine, number):
            clip_and_step(engine, (overflow if broken and number else plain)(first), max_norm=1e9,
                          optimizer=optimizers[0])  # fmt: skip
            clip_and_step(engine, plain(second), max_norm=1e9, optimizer=optimizers[1])

        trainer = Engine(step)
        trainer.state.accumulate = 2
        if scaling is not None:
            scaling.attach(trainer)
        trainer.run([0, 1, 2, 3], max_epochs=1)
        return second.weight.detach()

    expected = seconds_weights(None, False)
    torch.testing.assert_close(seconds_weights(scaled(), False), expected)
    torch.testing.assert_close(seconds_weights(scaled(), True), expected)


def test_the_scale_is_part_of_the_state(tmp_path):
    network = nn.Linear(2, 1)
    evaluator = SupervisedEvaluator(device=torch.device("cpu"), val_data_loader=[], network=network)
    options = {"evaluator": evaluator, "dataset": [], "schedule": "epoch", "folder": str(tmp_path)}
    for amp, expected in (("float16", True), (True, False)):
        handlers = TrainingHandlers(**options, state={"network": network}, weights=str(tmp_path / "model.pt"), amp=amp)
        state = next(item for item in handlers.handlers if hasattr(item, "objects"))
        assert ("scaler" in state.objects) == expected


def test_every_training_hands_amp_over():
    handlers = "common.engine.handlers.TrainingHandlers"
    texts = [file.read_text() for file in CONFIGS if handlers in file.read_text()]
    assert len(texts) >= 7
    for text in texts:
        items = [item for item in json.loads(text)["train"]["handlers"] if item["_target_"] == handlers]
        assert [item["amp"] for item in items] == ["@amp"]
