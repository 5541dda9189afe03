"""CLIP-TNseg's training: crops, visual prompts, mixing, cached conditions; its configs run in the contract test."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from clip_tnseg import phrase_tokenizer
from clip_tnseg.conditions import TextConditions, VisualConditions, mix_prompts
from clip_tnseg.data import (
    RandForegroundSquared,
    RandVisualPromptd,
    cached_training_transforms,
    read_prompts,
    training_transforms,
    validation_transforms,
    visual_transforms,
    whole_image,
)
from clip_tnseg.frozen_clip import FrozenClip
from clip_tnseg.metrics import two_classes
from clip_tnseg.network import CLIPTNseg
from clip_tnseg.pretraining.model import at_unit_scale, small_clip
from clip_tnseg.steps import FromFeatures, predict_step, train_step
from clip_tnseg.taps import TapFiles, write_taps
from monai.losses import DiceCELoss, DiceLoss
from monai.transforms import Compose, Resize

from common.images.masks import CropNoduled
from common.transforms.load import load_grey
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


@pytest.fixture(scope="module")
def tokens(cases):
    return {"tokenizer": phrase_tokenizer.fit(case["prompt"] for case in cases), "max_length": 16, "size": 32}


def test_a_visual_prompt_is_another_image_with_the_phrase(cases):
    choose = RandVisualPromptd(cases)
    for index, case in enumerate(cases):
        alike = [i for i, other in enumerate(cases) if other["phrase"] == case["phrase"] and i != index]
        drawn = {int(choose(case)["visual"]) for _ in range(30)}
        assert drawn == (set(alike) or {-1}) or (len(alike) > 5 and drawn < set(alike))
    two = [cases[0], {**cases[0], "label": "another mask"}]  # two polygon groups of one image
    assert RandVisualPromptd(two)(two[0])["visual"] == -1


def test_a_visual_prompt_shows_the_nodule_in_the_dark(cases):
    shown = visual_transforms(size=32)(cases[0])["image"]
    grey = shown[0] * 0.229 + 0.485
    assert shown.shape == (3, 32, 32) and 0 < grey[:2, :2].max() < 0.11  # a corner
    plain = load_grey(size=None, label=True, rows_first=True)
    wanted = CropNoduled(margin=0.1)(Compose(plain)(cases[0]))["image"]
    middle = Resize((32, 32), mode="bilinear", anti_aliasing=True)(wanted)[0, 14:18, 14:18]
    torch.testing.assert_close(grey[14:18, 14:18], middle, atol=0.05, rtol=0)


def test_a_fixed_phrase_is_everyones(synthetic):
    cases = read_prompts(root=str(synthetic), split="train", fixed_phrase="thyroid nodule")
    assert {case["prompt"] for case in cases} == {"an ultrasound image of a thyroid nodule"}


def test_training_items_are_complete(cases, tokens):
    item = training_transforms(**tokens, cases=cases)(cases[0])
    assert {key: tuple(value.shape) for key, value in item.items()} == {
        "image": (3, 32, 32), "label": (1, 32, 32), "visual": (), "input_ids": (16,), "attention_mask": (16,),
    }  # fmt: skip
    assert set(item["label"].unique().tolist()) <= {0.0, 1.0}


def test_prompts_are_mixed_where_there_is_a_visual_one():
    torch.manual_seed(0)
    text, visual = torch.zeros(64, 3), torch.ones(64, 3)
    has = torch.arange(64) % 2 > 0
    mixed = mix_prompts(text, visual, has)
    assert (mixed[~has] == 0).all()
    share = mixed[has][:, 0]
    assert 0 < share.min() < 0.2 < 0.8 < share.max() < 1 and torch.equal(mixed[:, 0], mixed[:, 2])


def test_each_phrase_is_encoded_once():
    network = make_network().eval()
    seen = []
    clip = SimpleNamespace(condition=lambda ids: seen.append(len(ids)) or network.clip.condition(ids))
    conditions = TextConditions(clip)
    ids = torch.tensor([[48, 5, END], [48, 6, END], [48, 5, END]])
    first = conditions(ids)
    torch.testing.assert_close(first, network.clip.condition(ids))
    assert torch.equal(conditions(ids[1:]), first[1:]) and seen == [1, 1]


def test_each_visual_prompt_is_encoded_once():
    network, prompts, seen = make_network(), [{"image": torch.randn(3, 32, 32)} for _ in range(5)], []
    clip = SimpleNamespace(image_embedding=lambda x: seen.append(len(x)) or network.clip.image_embedding(x))
    conditions = VisualConditions(clip, prompts, batch_size=2)
    found = conditions(torch.tensor([4, -1, 0]))
    assert torch.equal(found[1], torch.zeros_like(found[1])) and seen == [2, 2, 1]
    images = torch.stack([prompts[4]["image"], prompts[0]["image"]])
    torch.testing.assert_close(found[[0, 2]], network.clip.image_embedding(images))
    assert torch.equal(conditions(torch.tensor([0]))[0], found[2]) and len(seen) == 3


@pytest.fixture
def files(cases, tokens, tmp_path):
    files = TapFiles(folder=str(tmp_path / "taps"), size=32)
    write = {"cases": cases[:3], "load": whole_image(size=32), "batch_size": 2, "device": torch.device("cpu")}
    return files, lambda clip: write_taps(files=files, clip=clip, amp=False, **write)


def test_taps_on_disk_are_clips(cases, tokens, files):
    taps, write = files
    network = make_network().eval()
    with pytest.raises(RuntimeError, match="call write_taps first"):
        taps.read(cases[0]["image"])
    write(network.clip)
    item = validation_transforms(**tokens, taps=taps)(cases[0])
    own = torch.stack(network.clip(item["image"].as_tensor()[None]), dim=1)[0]
    assert item["taps"].dtype == torch.bfloat16
    torch.testing.assert_close(item["taps"].float(), own, rtol=1e-2, atol=1e-2)
    engine = engine_for(network)
    cached = predict_step(engine, as_batch(item), text_conditions=None, amp=False)["pred"]
    plain = predict_step(engine, as_batch(item, without="taps"), text_conditions=None, amp=False)["pred"]
    torch.testing.assert_close(cached, plain, atol=2e-2, rtol=0)
    assert not torch.equal(cached, plain)
    assert cached_training_transforms(**tokens, taps=taps, cases=cases)(cases[0])["taps"].shape == item["taps"].shape


def test_taps_are_named_by_weights_size_and_content(cases, tokens, files, tmp_path):
    taps, write = files
    network = make_network()
    write(network.clip)
    names = set(taps.folder.iterdir())
    stamps = {name: name.stat().st_mtime_ns for name in names}
    write(network.clip)
    assert {name: name.stat().st_mtime_ns for name in taps.folder.iterdir()} == stamps  # nothing is computed again
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(cases[0]["image"]).read_bytes())
    assert taps.path(str(copy)) == taps.path(cases[0]["image"]) != taps.path(cases[1]["image"])
    with pytest.raises(FileNotFoundError, match="features_dir: no taps of"):
        taps.read(cases[3]["image"])
    network.clip.image.tower.pre_layrnorm.weight.data += 1
    write(network.clip)
    assert len(set(taps.folder.iterdir())) == 2 * len(names)
    other = TapFiles(folder=str(taps.folder), size=64)
    other.use(network.clip)
    assert other.path(cases[0]["image"]) != taps.path(cases[0]["image"])


def as_batch(item, without=""):
    return {key: value[None] for key, value in item.items() if key not in (without, "case")}


def batch():
    torch.manual_seed(0)
    label = torch.zeros(2, 1, 32, 32)
    label[:, :, 8:24, 8:24] = 1
    return {
        "image": torch.randn(2, 3, 32, 32), "label": label, "visual": torch.tensor([0, -1]),
        "input_ids": torch.tensor([[48, 5, END], [48, 6, END]]),
    }  # fmt: skip


def engine_for(network):
    state = SimpleNamespace(device=torch.device("cpu"), output=None)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    loss = DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)
    return SimpleNamespace(
        state=state, network=network, optimizer=optimizer, loss_function=loss, fire_event=lambda _: None
    )


@pytest.mark.parametrize("options", [{}, {"visual_conditions": None}, {"text_conditions": None}])
def test_one_batch_is_learned_and_clip_stays_as_it_was(options):
    network = make_network()
    engine, before = engine_for(network), {k: v.clone() for k, v in network.clip.state_dict().items()}
    visual = VisualConditions(network.clip, [{"image": torch.randn(3, 32, 32)}])
    arguments = {
        "trained": FromFeatures(network), "text_conditions": TextConditions(network.clip),
        "visual_conditions": visual, "max_norm": 5.0, "amp": False, **options,
    }  # fmt: skip
    losses = [float(train_step(engine, batch(), **arguments)[0]["loss"]) for _ in range(12)]
    assert losses[-1] < losses[0] - 0.1 and 0 <= losses[-1] <= 1
    assert all(torch.equal(before[name], value) for name, value in network.clip.state_dict().items())


def test_prediction_follows_the_phrase_unless_there_is_no_condition():
    network = make_network()
    torch.nn.init.normal_(network.coarse.film.mul.weight)
    phrases = (batch()["input_ids"], batch()["input_ids"].flip(0))
    outputs = [
        [
            predict_step(engine_for(network), {**batch(), "input_ids": ids}, text_conditions=given, amp=False)["pred"]
            for given in (TextConditions(network.clip), None)
        ]
        for ids in phrases
    ]
    assert not torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[0][1], outputs[1][1])


def test_two_classes_are_background_and_nodule():
    mask = torch.tensor([[[1.0, 0.0]]])
    prediction, label = two_classes()([{"pred": mask, "label": 1 - mask}])
    assert prediction[0].tolist() == [[[0.0, 1.0]], [[1.0, 0.0]]] and label[0].tolist() == [[[1.0, 0.0]], [[0.0, 1.0]]]


def test_the_network_learns_to_read_its_phrase():
    """One image, two phrases, two masks. With taps nine times as large it learns the union of both masks alone."""
    torch.manual_seed(0)
    ids, image = torch.tensor([[2, 5, 3], [2, 6, 3]]), torch.randn(1, 3, 64, 64)
    sizes = {"width": 64, "layers": 3, "text_width": 48, "text_layers": 1, "embed_dim": 32, "max_length": 8}
    clip = at_unit_scale(small_clip(vocab_size=20, image_size=64, **sizes), image, ids)
    network = CLIPTNseg(clip=FrozenClip(weights=clip, taps=(0, 1, 2)), dim=32).train()
    label = torch.zeros(2, 1, 64, 64)
    label[0, :, 20:44, 4:28] = label[1, :, 20:44, 36:60] = 1
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer, loss = torch.optim.AdamW(parameters, lr=2e-3), DiceCELoss(sigmoid=True)
    for _ in range(50):
        optimizer.zero_grad()
        loss(network(image.repeat(2, 1, 1, 1), ids), label).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
    with torch.no_grad():
        found = network.eval()(image.repeat(2, 1, 1, 1), ids) > 0
    own, other = ((found & (mask > 0)).sum() / mask.sum() for mask in (label, label.flip(0)))
    assert own > 0.9 and other < 0.1
