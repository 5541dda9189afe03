"""D2R-Net's training: every term moves the image side, an epoch lowers the loss, reports are written."""

from functools import partial

import pytest
import torch
from d2rnet.report.alignment import Alignment
from d2rnet.report.boxes import read_boxed_studies
from d2rnet.report.data import inference_transforms, training_transforms, validation_transforms
from d2rnet.report.network import D2RNet
from d2rnet.report.steps import TeacherForcing, generate_step, train_step
from d2rnet.report.visual import VisualEncoder
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer

from common.engine.stated_findings import StatedFindings
from common.synthetic.chest import ChestOptions, write_chests
from common.text.encoders import TransformerTextEncoder
from common.text.tokenizer import ReportTokenizer

SIZES = {"views": 1, "size": 64, "regions": 2, "region_size": 64, "coordinates": True}
WEIGHTS = {"report": 1.0, "global": 1.0, "local": 1.0, "findings": 1.0}
FINDINGS = 3


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("chest") / "set"
    write_chests(str(root), ChestOptions(studies=24, size=64, seed=2))
    return {split: read_boxed_studies(str(root), split) for split in ("train", "test")}


@pytest.fixture(scope="module")
def tokenizer(studies):
    return ReportTokenizer.fit([study["report"] for study in studies["train"]])


@pytest.fixture
def teaching(tokenizer):
    torch.manual_seed(0)
    visual = VisualEncoder(depth=18, resnet_width=8, region_channels=4, region_widths=(4, 8, 8, 8, 16))
    sizes = {"dim": 32, "hidden": 32, "heads": 4, "layers": 1, "slot_heads": 4, "max_length": 40}
    network = D2RNet(visual=visual, vocab_size=len(tokenizer), findings=FINDINGS, **sizes)
    encoder = TransformerTextEncoder(vocab_size=len(tokenizer), width=16, layers=1, heads=4)
    return TeacherForcing(network, Alignment(encoder, width=16))


@pytest.fixture
def loader(studies, tokenizer):
    common = {"tokenizer": tokenizer, "max_length": 40}
    stated = StatedFindings(studies=studies["train"], count=FINDINGS, **common)
    transforms = training_transforms(text_tokenizer=tokenizer, stated=stated, **common, **SIZES)
    return DataLoader(Dataset(studies["train"], transforms), batch_size=4, drop_last=True)


@pytest.mark.parametrize("term", ["global", "local"])
def test_each_alignment_moves_the_image_side(teaching, loader, term):
    batch = next(batch for batch in loader if batch["region_mask"].any(1).sum() > 1)
    _, terms = teaching(batch)
    terms[term].backward()
    part = teaching.network.visual.features if term == "global" else teaching.network.visual.regions
    assert any(p.grad is not None and (p.grad != 0).any() for p in part.parameters())
    assert teaching.network.report.decoder.logit.weight.grad is None


def trainer(teaching, loader, weights, epochs):
    return SupervisedTrainer(
        device=torch.device("cpu"), max_epochs=epochs, train_data_loader=loader, network=teaching.network,
        optimizer=torch.optim.Adam(teaching.parameters(), lr=3e-3), loss_function=torch.nn.Identity(), decollate=False,
        iteration_update=partial(train_step, trained=teaching, weights=weights, clip_value=0.1, amp=False),
    )  # fmt: skip


def test_training_lowers_the_loss_and_reports_are_written(teaching, loader, studies, tokenizer):
    engine, seen = trainer(teaching, loader, WEIGHTS, 8), []
    engine.add_event_handler("EPOCH_COMPLETED", lambda e: seen.append(e.state.output[0]["terms"]))
    engine.run()
    assert set(seen[0]) == set(WEIGHTS) and seen[-1]["report"] < 0.7 * seen[0]["report"]
    data = Dataset(studies["test"], validation_transforms(**SIZES))
    written = []
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=DataLoader(data, batch_size=2), network=teaching.network,
        iteration_update=partial(generate_step, tokenizer=tokenizer, amp=False), decollate=False,
    )  # fmt: skip
    evaluator.add_event_handler("ITERATION_COMPLETED", lambda e: written.extend(e.state.output["text"]))
    evaluator.run()
    assert len(written) == len(studies["test"]) and all(written)


def test_without_alignment_only_the_report_teaches(teaching, loader):
    alone = TeacherForcing(teaching.network, None)
    engine = trainer(alone, loader, {"report": 1.0, "findings": 1.0}, 1)
    engine.run()
    assert set(engine.state.output[0]["terms"]) == {"report", "findings"}


def test_inference_keeps_the_names_of_the_images(studies):
    study = inference_transforms(**SIZES, detector=None)(studies["test"][0])
    assert study["images"].endswith(".png") and study["regions"].shape == (2, 3, 64, 64)
