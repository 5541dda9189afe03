"""Contrastive pre-training of a small CLIP on pairs of image and phrase, for where no published CLIP can be had.

Radford et al. 2021, with one difference: pairs of a batch that share a phrase are all counted as matches.
"""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from common.distributed import gather
from common.folders import folder_beside, replace_folder, require_own
from common.steps import as_tensor, emit, emit_training

from .frozen_clip import FrozenClip

logger = logging.getLogger(__name__)
SPECIAL = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")  # ids 0 to 3
HISTORY = "history.csv"


def fit_tokenizer(prompts: Iterable[str], *, max_size: int = 512) -> PreTrainedTokenizerFast:
    """Word-level tokenizer of ``prompts`` (each Chinese character is a word) that adds begin and end tokens.

    ``AutoTokenizer`` loads what its ``save_pretrained`` writes, as it loads the published CLIP's tokenizer.

    Raises:
        ValueError: no prompt holds a word.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    trainer = trainers.WordLevelTrainer(vocab_size=max_size, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(prompts, trainer=trainer)
    if tokenizer.get_vocab_size() == len(SPECIAL):
        raise ValueError("prompts: no word in any of them, so there is no vocabulary to fit; check the phrases")
    ends = [(name, SPECIAL.index(name)) for name in SPECIAL[2:]]
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)  # type: ignore[assignment]
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tokenizer_of(cases: Iterable[Mapping], *, max_size: int) -> PreTrainedTokenizerFast:
    """:func:`fit_tokenizer` on each distinct ``prompt`` of ``cases``."""
    return fit_tokenizer(dict.fromkeys(case["prompt"] for case in cases), max_size=max_size)


def tokenizer_or_pretrain(
    *, folder: str, bundle_root: str, data_dir: str, overrides: Mapping[str, object]
) -> PreTrainedTokenizerBase:
    """The tokenizer of the CLIP in ``folder``; where there is none, ``configs/pretrain_clip.json`` makes it first.

    Raises:
        RuntimeError: the pre-training failed; its own message stands above.
    """
    if not os.path.isfile(os.path.join(folder, "config.json")) and idist.get_rank() == 0:
        logger.info("no CLIP in %s: pre-training a small one on the images and phrases of %s", folder, data_dir)
        values = {**overrides, "clip_dir": folder, "bundle_root": bundle_root, "dataset_dir": data_dir}
        _run_pretraining(os.path.join(bundle_root, "configs", "pretrain_clip.json"), values)
    idist.barrier()
    return AutoTokenizer.from_pretrained(folder)


def _run_pretraining(config: str, overrides: Mapping[str, object]) -> None:
    """Run ``config`` in a process of its own, and alone even where this one is one of several ranks."""
    flags = [f"--{name}={value}" for name, value in overrides.items() if value is not None]
    ranks = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in ranks}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, *flags]
    if subprocess.run(command, env=environment, check=False).returncode != 0:
        raise RuntimeError(f"clip_dir: pre-training a CLIP into {overrides['clip_dir']!r} failed; its message is above")


def load_clip(*, clip: FrozenClip, folder: str) -> None:
    """Load the weights that ``save_pretrained`` wrote to ``folder`` into ``clip``.

    Raises:
        FileNotFoundError: no CLIP in ``folder``.
        ValueError: another architecture.
    """
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise FileNotFoundError(f"clip_dir: no CLIP in {folder!r}; run pretrain_clip.json, or pass a folder with one")
    try:
        clip.load_state_dict(FrozenClip(weights=folder, taps=clip.taps).state_dict())
    except RuntimeError as error:
        raise ValueError(f"clip_dir: the CLIP in {folder!r} has other sizes than network_def#clip: {error}") from error


def small_clip(
    *,
    vocab_size: int,
    image_size: int,
    width: int = 256,
    layers: int = 6,
    text_width: int = 192,
    text_layers: int = 3,
    embed_dim: int = 256,
    max_length: int = 77,
) -> CLIPModel:
    """A CLIP with patch 16, from scratch: the published class with a smaller configuration, 7 M parameters."""
    text = {
        "vocab_size": vocab_size, "hidden_size": text_width, "intermediate_size": 4 * text_width,
        "num_hidden_layers": text_layers, "num_attention_heads": text_width // 48,
        "max_position_embeddings": max_length, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip
    vision = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": width // 64, "image_size": image_size, "patch_size": 16,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=embed_dim))


def embeddings(clip: CLIPModel, batch: Mapping, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors (B, E) of the images and of the phrases of a batch."""
    seen = clip.get_image_features(as_tensor(batch["image"]).to(device), interpolate_pos_encoding=True).pooler_output
    read = clip.get_text_features(batch["input_ids"].to(device)).pooler_output
    return F.normalize(seen.float(), dim=1), F.normalize(read.float(), dim=1)


def contrastive_loss(
    image: torch.Tensor, text: torch.Tensor, input_ids: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Symmetric InfoNCE of unit vectors (B, E); pairs with equal ``input_ids`` (B, L) share the target.

    ``scale``: logarithm of the inverse temperature, kept below ln 100.
    """
    logits = scale.clamp(max=4.6052).exp() * image @ text.t()
    equal = (input_ids[:, None] == input_ids[None]).all(2).float()
    target = equal / equal.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


def pretrain_step(engine: SupervisedTrainer, batch: dict, *, amp: bool) -> list[dict]:
    """One step of contrastive training."""
    device, clip = engine.state.device, engine.network.train()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        image, text = embeddings(clip, batch, device)  # type: ignore[arg-type]
    loss = contrastive_loss(image, text, batch["input_ids"].to(device), clip.logit_scale)  # type: ignore[arg-type]
    engine.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
    engine.optimizer.step()
    return emit_training(engine, {"loss": loss.detach()}, {"contrast": loss})


def embed_step(engine: SupervisedEvaluator, batch: dict, *, amp: bool) -> dict:
    """Embeddings of a validation batch."""
    device, clip = engine.state.device, engine.network.eval()
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        image, text = embeddings(clip, batch, device)  # type: ignore[arg-type]
    return emit(engine, {"image_embedding": image, "text_embedding": text, "input_ids": batch["input_ids"].to(device)})


def retrieval(
    image: torch.Tensor, text: torch.Tensor, input_ids: torch.Tensor, *, top: tuple[int, ...] = (1, 5)
) -> dict:
    """Recall@k of an image's own phrase among the distinct phrases, beside chance, k / number of phrases.

    Args:
        image, text: unit vectors (N, E).
        input_ids: (N, L), tells which phrases are equal.
    """
    _, own = torch.unique(input_ids, dim=0, return_inverse=True)
    first = torch.stack([(own == index).nonzero()[0, 0] for index in range(int(own.max()) + 1)])
    ranked = (image @ text[first].t()).argsort(dim=1, descending=True)
    metrics = {}
    for k in top:
        metrics[f"recall_at_{k}"] = float((ranked[:, :k] == own[:, None]).any(1).float().mean())
        metrics[f"chance_at_{k}"] = min(1.0, k / len(first))
    return metrics


@torch.no_grad()
def at_unit_scale(clip: CLIPModel, image: torch.Tensor, input_ids: torch.Tensor) -> CLIPModel:
    """A copy of ``clip`` that compares alike, but whose last image tokens and both embeddings have RMS 1 on a batch.

    Contrastive training leaves these scales open: embeddings are compared by their cosines, and each block normalises
    what it reads, so a factor on all that enters the image tower's sum changes no cosine. They matter to what reads
    the taps: left at 5 to 9, as training ends, they drown the condition, and the coarse branch never learns to read it.

    Args:
        image: (B, 3, H, W), standardised.
        input_ids: (B, L).
    """
    scaled: CLIPModel = copy.deepcopy(clip).eval()
    tower = scaled.vision_model
    seen = tower(image, interpolate_pos_encoding=True)
    written = [part for block in tower.encoder.layers for part in (block.self_attn.out_proj, block.mlp.fc2)]
    for part in (tower.pre_layrnorm, *written):
        part.weight.div_(_rms(seen.last_hidden_state))
        part.bias.div_(_rms(seen.last_hidden_state))
    scaled.visual_projection.weight.div_(_rms(scaled.visual_projection(seen.pooler_output)))
    scaled.text_projection.weight.div_(_rms(scaled.text_projection(scaled.text_model(input_ids).pooler_output)))
    return scaled


def _rms(values: torch.Tensor) -> torch.Tensor:
    return values.square().mean().sqrt()


class Retrieval:
    """Handler of the validation: :func:`retrieval` over all its pairs; recall@5 decides which CLIP is the best.

    Args:
        folder: where ``save_pretrained`` writes the best CLIP, :func:`at_unit_scale`, and its tokenizer, whole or not
            at all.

    Raises:
        ValueError: ``folder`` holds what an earlier pre-training did not write.
    """

    def __init__(self, *, clip: CLIPModel, tokenizer: PreTrainedTokenizerFast, folder: str) -> None:
        require_own(folder, id="clip_dir")
        self.clip, self.tokenizer, self.folder = clip, tokenizer, folder
        self.parts: dict[str, list[torch.Tensor]] = {}
        self.pairs: list[dict] = []
        self.best = -1.0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.parts.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _collect(self, engine: Engine) -> None:
        self.pairs = engine.state.batch  # type: ignore[assignment]
        for item in engine.state.output:  # type: ignore[union-attr]
            for name in ("image_embedding", "text_embedding", "input_ids"):
                self.parts.setdefault(name, []).append(item[name].cpu())

    def _finish(self, engine: Engine) -> None:
        stacked = {name: torch.stack(gather(values)) for name, values in self.parts.items()}
        engine.state.metrics.update(retrieval(*stacked.values()))
        if engine.state.metrics["recall_at_5"] > self.best and idist.get_rank() == 0:
            self.best = engine.state.metrics["recall_at_5"]
            self._save()

    def _save(self) -> None:
        part = folder_beside(self.folder)
        image, ids = (torch.stack([as_tensor(pair[key]) for pair in self.pairs]) for key in ("image", "input_ids"))
        scaled = at_unit_scale(self.clip, image.to(self.clip.device), ids.to(self.clip.device))
        scaled.save_pretrained(part)  # safetensors
        self.tokenizer.save_pretrained(part)
        history = Path(self.folder) / HISTORY
        (part / HISTORY).write_bytes(history.read_bytes() if history.is_file() else b"")
        replace_folder(part, self.folder, id="clip_dir")
