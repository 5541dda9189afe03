"""The weights that bundles come with: whole, small, without code, and they answer at once, as they should."""

import hashlib
import json

import numpy as np
import pytest
import torch
from monai.data.box_utils import box_iou
from PIL import Image

from common.datasets.annotation import load_annotation
from common.datasets.studies import read_studies
from common.synthetic.chest import ChestOptions, write_chests
from common.synthetic.studies import StudyOptions, write_studies
from tests.test_bundle_contract import BUNDLES, checked, flags
from tests.warm import ROOT, monai_bundle

NETWORKS = sorted(
    f"{path.parents[1].name}/{path.stem}"
    for name in ("model", "detector")
    for path in ROOT.glob(f"bundles/*/models/{name}.json")
)
LARGEST = 16 * 2**20  # bytes a bundle


def test_every_bundle_has_some():
    assert {name.partition("/")[0] for name in NETWORKS} == set(BUNDLES) and "d2rnet/detector" in NETWORKS


@pytest.mark.parametrize("name", NETWORKS)
def test_they_are_whole_and_hold_no_code(name):
    bundle, _, network = name.partition("/")
    models = ROOT / "bundles" / bundle / "models"
    content = json.loads((models / f"{network}.json").read_text())
    for file, digests in content["files"].items():
        assert hashlib.sha256((models / file).read_bytes()).hexdigest() in digests, file
    state = torch.load(models / f"{network}.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())


@pytest.mark.parametrize("bundle", BUNDLES)
def test_they_are_small(bundle):
    committed = ROOT.glob(f"bundles/{bundle}/models/*.pt")
    assert sum(path.stat().st_size for path in committed if path.stem in ("model", "detector")) <= LARGEST


def infer(bundle, out, **options):
    """Inference with the weights that come along: its entries, and the folder of its results."""
    config = f"bundles/{bundle}/configs/inference.json"
    done = checked(monai_bundle("run", "--config_file", config, *flags(options, output_dir=out)), 0)
    assert "Traceback" not in done.stderr
    return json.loads((out / "predictions.json").read_text())


def lobe(size=200):
    """Speckle with a dark ellipse right of the middle, and its mask."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    inside = ((x - 0.6) / 0.16) ** 2 + ((y - 0.45) / 0.13) ** 2 < 1
    level = np.where(inside, 40, 110) * generator.rayleigh(0.8, (size, size))
    return np.clip(level, 0, 255).astype(np.uint8), inside


TEXTS = [
    ("akessfa", {"report": ""}),
    ("akessfa", {"report": "A medium-sized round nodule lies in the central part. The isthmus is normal."}),
    ("clip_tnseg", {}),
    ("clip_tnseg", {"phrase": "medium-sized round nodule in the middle part"}),
]


@pytest.mark.parametrize(("bundle", "text"), TEXTS)
def test_a_nodule_is_segmented_at_once(bundle, text, tmp_path):
    image, inside = lobe()
    Image.fromarray(image).save(tmp_path / "lobe.png")
    (entry,) = infer(bundle, tmp_path / "out", image=tmp_path / "lobe.png", **text)
    mask = np.asarray(Image.open(tmp_path / "out" / entry["mask"])) > 0
    dice = 2 * (mask & inside).sum() / (mask.sum() + inside.sum())
    assert dice > 0.6, dice


def test_a_nodule_is_classified_with_and_without_its_mask(tmp_path):
    image, inside = lobe()
    Image.fromarray(image).save(tmp_path / "lobe.png")
    Image.fromarray((inside * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    (masked,) = infer("hfcn", tmp_path / "masked", image=tmp_path / "lobe.png", mask=tmp_path / "mask.png")
    (plain,) = infer("hfcn", tmp_path / "plain", image=tmp_path / "lobe.png")
    assert 0 < masked["prob_mask"] < 1 and plain["prob_mask"] is None
    assert {masked["class"], plain["class"]} <= {"benign", "malignant"}


def shared_words(one, other):
    """Share of the distinct words of both texts that stand in both."""
    first, second = ({word.strip(".,").lower() for word in text.split()} for text in (one, other))
    return len(first & second) / len(first | second)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Synthetic studies of each kind that the networks were trained on, drawn from another seed."""
    folder = tmp_path_factory.mktemp("drawn")
    write_studies(str(folder / "sgf"), StudyOptions(studies=12, size=128, seed=77))
    write_chests(str(folder / "d2rnet"), ChestOptions(studies=12, size=128, seed=77))
    return folder


@pytest.mark.parametrize("bundle", ["sgf", "d2rnet"])
def test_reports_fit_their_studies_better_than_others(bundle, drawn, tmp_path):
    entries = infer(bundle, tmp_path, dataset_dir=drawn / bundle)
    assert len(entries) >= 2
    references = {study["study"]: study["report"] for study in read_studies(root=str(drawn / bundle), split="test")}
    own = [shared_words(entry["report"], references[entry["study"]]) for entry in entries]
    others = [
        shared_words(entry["report"], report)
        for entry in entries
        for study, report in references.items()
        if study != entry["study"]
    ]
    assert np.mean(own) > np.mean(others) and np.mean(own) > 0.5, (own, others)


def test_lesions_are_found_at_once(drawn, tmp_path):
    """The boxes of a drawn X-ray are found where they are, under their names."""
    studies = load_annotation(drawn / "d2rnet" / "annotation.json")["train"]
    study = max(studies, key=lambda study: len(study["boxes"]))
    (entry,) = infer("d2rnet", tmp_path, image=drawn / "d2rnet" / "images" / study["image_path"][0])
    found = {box["label"]: box["box"] for box in reversed(entry["boxes"])}  # the surest of a label last
    assert set(study["box_labels"]) <= set(found)
    true = torch.tensor(study["boxes"])
    own = torch.tensor([found[label] for label in study["box_labels"]])
    corners = [torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1) for boxes in (true, own)]
    assert box_iou(*corners).diagonal().min() > 0.4
