"""CLIP-TNseg's training: crops, visual prompts, mixing, cached conditions; its configs run in the contract test."""

from types import SimpleNamespace

import pytest
import torch
from clip_tnseg.data import RandForegroundSquared, VisualPromptd, read_prompts, training_transforms
from clip_tnseg.iteration import Conditions, FromFeatures, mix_prompts, predict_step, train_step
from clip_tnseg.metrics import two_classes
from clip_tnseg.pretrain import fit_tokenizer
from monai.losses import DiceLoss

from tests.test_clip_tnseg import END, make_network


def test_the_square_holds_nodule_and_both_are_cut_alike():
    label = torch.zeros(1, 20, 80)
    label[:, 5:15, 60:70] = 1
    crop = RandForegroundSquared(share=0.2)
    for seed in range(8):
        cut = crop.set_random_state(seed)({"image": label * 2, "label": label})
        assert cut["label"].shape == (1, 20, 20) and cut["label"].mean() > 0.2
        assert torch.equal(cut["image"], cut["label"] * 2)
    empty = crop({"image": label, "label": 0 * label})
    assert empty["image"].shape == (1, 20, 20)


@pytest.fixture(scope="module")
def cases(synthetic):
    cases = read_prompts(root=str(synthetic), split="train")
    cases[1]["phrase"] = cases[0]["phrase"]
    return cases


def test_a_visual_prompt_is_another_image_with_the_phrase(cases):
    alone = next(case for case in cases if sum(c["phrase"] == case["phrase"] for c in cases) == 1)
    prompts = VisualPromptd(cases, size=32)
    assert prompts(alone)["has_visual"] == 0 and prompts(alone)["visual"].abs().sum() == 0
    shown = prompts(cases[0])
    assert shown["has_visual"] == 1 and shown["visual"].shape == (3, 32, 32)
    again = VisualPromptd([cases[1]], size=32)({**cases[0]})["visual"]
    if [c["phrase"] for c in cases].count(cases[0]["phrase"]) == 2:
        torch.testing.assert_close(shown["visual"], again)
    bright = shown["visual"][0] * 0.229 + 0.485
    assert bright.min() < 0.2  # the background is darkened


def test_training_items_are_complete(cases):
    tokenizer = fit_tokenizer(case["prompt"] for case in cases)
    item = training_transforms(tokenizer=tokenizer, size=32, max_length=16, cases=cases)(cases[0])
    assert {key: tuple(value.shape) for key, value in item.items()} == {
        "image": (3, 32, 32), "label": (1, 32, 32), "visual": (3, 32, 32), "has_visual": (),
        "input_ids": (16,), "attention_mask": (16,),
    }  # fmt: skip
    assert set(item["label"].unique().tolist()) <= {0.0, 1.0}


def test_prompts_are_mixed_where_there_is_a_visual_one():
    torch.manual_seed(0)
    text, visual = torch.zeros(64, 3), torch.ones(64, 3)
    has = torch.arange(64) % 2
    mixed = mix_prompts(text, visual, has.float())
    assert (mixed[has == 0] == 0).all()
    share = mixed[has == 1][:, 0]
    assert 0 < share.min() < 0.2 < 0.8 < share.max() < 1 and torch.equal(mixed[:, 0], mixed[:, 2])


def test_each_phrase_is_encoded_once():
    network = make_network().eval()
    seen = []
    clip = SimpleNamespace(condition=lambda ids: seen.append(len(ids)) or network.clip.condition(ids))
    conditions = Conditions(clip)
    ids = torch.tensor([[48, 5, END], [48, 6, END], [48, 5, END]])
    first = conditions(ids)
    torch.testing.assert_close(first, network.clip.condition(ids))
    assert torch.equal(conditions(ids[1:]), first[1:]) and seen == [2]


def batch():
    torch.manual_seed(0)
    label = torch.zeros(2, 1, 32, 32)
    label[:, :, 8:24, 8:24] = 1
    return {
        "image": torch.randn(2, 3, 32, 32), "label": label, "visual": torch.randn(2, 3, 32, 32),
        "has_visual": torch.tensor([1.0, 0.0]), "input_ids": torch.tensor([[48, 5, END], [48, 6, END]]),
    }  # fmt: skip


def engine_for(network):
    state = SimpleNamespace(device=torch.device("cpu"), output=None)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    loss = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    return SimpleNamespace(
        state=state, network=network, optimizer=optimizer, loss_function=loss, fire_event=lambda _: None
    )


@pytest.mark.parametrize("options", [{}, {"visual_prompts": False}, {"fixed_condition": True}])
def test_one_batch_is_learned_and_clip_stays_as_it_was(options):
    network = make_network()
    engine, before = engine_for(network), {k: v.clone() for k, v in network.clip.state_dict().items()}
    arguments = {
        "trained": FromFeatures(network), "conditions": Conditions(network.clip), "visual_prompts": True,
        "fixed_condition": False, "clip": 5.0, "amp": False, **options,
    }  # fmt: skip
    losses = [float(train_step(engine, batch(), **arguments)["loss"]) for _ in range(12)]
    assert losses[-1] < losses[0] - 0.1 and 0 <= losses[-1] <= 1
    assert all(torch.equal(before[name], value) for name, value in network.clip.state_dict().items())


def test_prediction_follows_the_phrase_unless_the_condition_is_fixed():
    network = make_network()
    torch.nn.init.normal_(network.coarse.film.mul.weight)
    phrases = (batch()["input_ids"], batch()["input_ids"].flip(0))
    outputs = [
        [
            predict_step(engine_for(network), {**batch(), "input_ids": ids}, fixed_condition=fixed, amp=False)["pred"]
            for fixed in (False, True)
        ]
        for ids in phrases
    ]
    assert not torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])


def test_two_classes_are_background_and_nodule():
    mask = torch.tensor([[[1.0, 0.0]]])
    prediction, label = two_classes()([{"pred": mask, "label": 1 - mask}])
    assert prediction[0].tolist() == [[[0.0, 1.0]], [[1.0, 0.0]]] and label[0].tolist() == [[[1.0, 0.0]], [[0.0, 1.0]]]
