"""Contrastive pre-training of the small CLIP: loss, retrieval, tokenizer, and the whole config for one epoch."""

import inspect
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from clip_tnseg import phrase_tokenizer
from clip_tnseg.data import TokenizePromptd, pair_transforms, read_prompts
from clip_tnseg.frozen_clip import FrozenClip
from clip_tnseg.pretraining.model import at_unit_scale, small_clip
from clip_tnseg.pretraining.retrieval import retrieval
from clip_tnseg.pretraining.steps import contrastive_loss
from transformers import AutoTokenizer

ROOT = Path(__file__).resolve().parents[1]


def test_the_tokenizer_survives_its_folder_and_adds_both_ends(tmp_path):
    tokenizer = phrase_tokenizer.fit(["an image of a round nodule", "左侧 低回声"])
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    ids = again("An image of a square nodule", padding="max_length", max_length=12)["input_ids"]
    assert ids == tokenizer("an image of a square nodule", padding="max_length", max_length=12)["input_ids"]
    assert ids[0] == 2 and ids[7] == 3 and ids[8:] == [0] * 4 and ids.count(1) == 1
    assert 1 not in again("低回声")["input_ids"] and len(again("侧左")["input_ids"]) == 4
    assert 1 not in again("侧左")["input_ids"]
    with pytest.raises(ValueError, match="prompts: no word"):
        phrase_tokenizer.fit([""])


def test_a_long_prompt_keeps_its_end_token():
    tokenizer = phrase_tokenizer.fit(["a b c d e f g h"])
    ids = TokenizePromptd(tokenizer, max_length=5)({"prompt": "a b c d e f g h"})["input_ids"]
    assert ids.shape == (5,) and ids[0] == 2 and ids[-1] == 3


def test_loss_is_clips_where_phrases_differ_and_shares_the_target_where_not():
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(4, 8), dim=1) for _ in range(2))
    scale, ids = torch.tensor(1.0), torch.arange(4)[:, None]
    logits = scale.exp() * image @ text.t()
    wanted = (F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.t(), torch.arange(4))) / 2
    torch.testing.assert_close(contrastive_loss(image, text, ids, scale), wanted)
    alike, same = image[:1].expand(4, -1), torch.zeros(4, 1, dtype=torch.int64)
    assert contrastive_loss(alike, alike, same, scale).item() == pytest.approx(math.log(4))


def test_retrieval_counts_distinct_phrases():
    text = torch.eye(4)[[0, 1, 2, 2]]
    ids = torch.tensor([[5], [6], [7], [7]])
    perfect = retrieval(text, text, ids, top=(1, 2))
    assert perfect == {"recall_at_1": 1.0, "chance_at_1": 1 / 3, "recall_at_2": 1.0, "chance_at_2": 2 / 3}
    assert retrieval(text[[1, 0, 2, 2]], text, ids, top=(1,))["recall_at_1"] == 0.5


def test_the_loss_reaches_both_towers_and_the_temperature():
    torch.manual_seed(0)
    clip = small_clip(vocab_size=20, image_size=32, width=64, layers=1, text_width=48, text_layers=1, embed_dim=16)
    image, ids = torch.randn(3, 3, 32, 32), torch.tensor([[2, 5, 3], [2, 6, 3], [2, 7, 3]])
    seen = F.normalize(clip.get_image_features(image).pooler_output, dim=1)
    read = F.normalize(clip.get_text_features(ids).pooler_output, dim=1)
    contrastive_loss(seen, read, ids, clip.logit_scale).backward()
    for part in (clip.vision_model, clip.text_model, clip.visual_projection, clip.text_projection):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    assert clip.logit_scale.grad.abs() > 0


def test_pairs_are_standardised_colour_images_rows_first(synthetic):
    cases = read_prompts(root=str(synthetic), split="train")
    tokenizer = phrase_tokenizer.fit(case["prompt"] for case in cases)
    plain, lit = (
        pair_transforms(tokenizer=tokenizer, size=32, max_length=24, highlighted=share, augment=False)(cases[0])
        for share in (0.0, 1.0)
    )
    assert plain["image"].shape == (3, 32, 32) and plain.keys() == {"image", "input_ids", "attention_mask"}
    grey = [plain["image"][c] * s + m for c, (s, m) in enumerate(((0.229, 0.485), (0.224, 0.456), (0.225, 0.406)))]
    torch.testing.assert_close(grey[0], grey[2], atol=1e-5, rtol=0)
    assert grey[0].min() >= -1e-5 and grey[0].max() <= 1 + 1e-5
    kept = lit["image"][0] == plain["image"][0]
    assert 0 < kept.float().mean() < 0.3  # the nodule alone
    assert (lit["image"][0] * 0.229 + 0.485)[~kept].max() < 0.11


def test_unit_scale_changes_no_cosine():
    torch.manual_seed(0)
    clip = small_clip(vocab_size=20, image_size=32, width=64, layers=2, text_width=48, text_layers=1, embed_dim=16)
    with torch.no_grad():
        for part in (clip.vision_model.pre_layrnorm, clip.vision_model.encoder.layers[1].mlp.fc2):
            part.weight.mul_(7).add_(1)
    image, ids = torch.randn(6, 3, 32, 32), torch.randint(4, 20, (6, 5))
    scaled = at_unit_scale(clip.eval(), image, ids)
    with torch.no_grad():
        before, after = (
            (m.get_image_features(image).pooler_output, m.get_text_features(ids).pooler_output) for m in (clip, scaled)
        )
        tokens = [m.vision_model(image).last_hidden_state for m in (clip, scaled)]
    assert tokens[0].std() > 5 and tokens[1].square().mean().item() == pytest.approx(1, abs=1e-3)
    for old, new in zip(before, after, strict=True):
        assert new.square().mean().item() == pytest.approx(1, abs=1e-3)
        torch.testing.assert_close(F.normalize(new, dim=1), F.normalize(old, dim=1), atol=1e-3, rtol=0)


def test_a_tokenizer_is_extended_and_its_words_keep_their_ids(tmp_path):
    cases = [{"phrase": "round nodule"}, {"phrase": "round nodule"}, {"image": "a.png"}]
    first = phrase_tokenizer.of_cases(cases, max_size=64)
    phrase_tokenizer.save(tokenizer=first, path=str(tmp_path / "a" / "tokenizer.json"))
    new = [{"phrase": "calcified nodule"}]
    second = phrase_tokenizer.fit_or_load(
        path=str(tmp_path / "b" / "tokenizer.json"), cases=new, max_size=64, fit=True, pretrained=str(tmp_path / "a")
    )
    before, after = first.get_vocab(), second.get_vocab()
    assert before.items() <= after.items() and after.keys() - before.keys() == {"calcified"}
    assert (tmp_path / "b" / "tokenizer.json").is_file()
    untold = phrase_tokenizer.fit_or_load(
        path=str(tmp_path / "a" / "tokenizer.json"), cases=[{"image": "a.png"}], max_size=64, fit=True
    )
    assert untold.get_vocab() == before
    ids = second("an ultrasound image of a calcified lesion")["input_ids"]
    assert ids[0] == 2 and ids[-1] == 3 and ids[-2] == 1 and ids[-3] == after["calcified"]


def test_the_small_clips_configs_agree_on_their_sizes():
    configs = ROOT / "bundles" / "clip_tnseg" / "configs"
    made, used = (json.loads((configs / f"{name}.json").read_text()) for name in ("pretrain_clip", "small_clip"))
    assert made["image_size"] == used["image_size"]
    defaults = inspect.signature(small_clip).parameters
    assert used["clip_size"] == {name: defaults[name].default for name in used["clip_size"]}


def test_default_clip_is_small():
    assert 5e6 < sum(p.numel() for p in small_clip(vocab_size=200, image_size=128).parameters()) < 10e6


def test_the_config_trains_and_its_folder_loads(tmp_path):
    sizes = {
        "synthetic_dir": tmp_path / "data", "synthetic#reports": 10, "synthetic#size": 64, "image_size": 64,
        "epochs": 1, "batch_size": 8, "clip_dir": tmp_path / "clip", "network_def#layers": 2,
        "network_def#width": 64, "network_def#text_layers": 1,
    }  # fmt: skip
    flags = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        "bundles/clip_tnseg/configs/pretrain_clip.json",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *flags], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "recall_at_5" in done.stdout and (tmp_path / "clip" / "model.safetensors").is_file()
    clip = FrozenClip(weights=str(tmp_path / "clip"), taps=(0, 1))
    ids = AutoTokenizer.from_pretrained(tmp_path / "clip")("an ultrasound image of a nodule", return_tensors="pt")
    assert clip.condition(ids["input_ids"]).shape == (1, 256) and not list(tmp_path.glob("*.part"))
