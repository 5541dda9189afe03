"""The detector's configs: trained, resumed, evaluated, its boxes written into studies, exported."""

import json

import numpy as np
import pytest
import torch
from d2rnet.detector.network import LesionDetector
from monai.bundle import ConfigParser, ConfigWorkflow

from common.datasets.annotation import annotation_file, load_annotation
from common.nn.efficientnet import lite0_of_views
from common.synthetic.chest import ChestOptions, write_chests
from tests.test_bundle_contract import ROOT, flags
from tests.test_bundle_contract import TINY as TINY_BUNDLES
from tests.warm import monai_bundle

CONFIGS = ROOT / "bundles" / "d2rnet" / "configs"
TINY = {"image_size": 64, "encoder_weights": None, "synthetic#studies": 24, "synthetic#size": 64}
BACKBONE = {f"network_def#backbone#{name}_factor": 0.25 for name in ("width", "depth")}
NETWORK = {**BACKBONE, "network_def#width": 8, "network_def#layers": 1}


def execute(names, kind="train", run_id="run", **options):
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / f"{name}.json") for name in names], workflow_type=kind, logging_file=False,
        run_id=run_id, **options,
    )  # fmt: skip
    workflow.initialize()
    workflow.run()
    return workflow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a tiny detector, and the options of its training."""
    folder = tmp_path_factory.mktemp("detector")
    places = {"ckpt_dir": str(folder / "models"), "output_dir": str(folder / "eval")}
    options = {**places, **TINY, **NETWORK, "synthetic_dir": str(folder / "set"), "bundle_root": str(CONFIGS.parent)}
    options |= {"epochs": 2, "batch_size": 4, "labelled_share": 0.5, "burn_in_share": 0.4, "threshold": 0.02}
    execute(["train_detector"], **options)
    return folder, options


def test_the_teacher_and_its_labels_are_saved(trained):
    folder, _ = trained
    state = torch.load(folder / "models" / "detector.pt", weights_only=True)
    encoder = lite0_of_views(width_factor=0.25, depth_factor=0.25)
    LesionDetector(classes=22, backbone=encoder, levels=(0, 1, 2, 3), width=8, layers=1).load_state_dict(state)
    settings = json.loads((folder / "models" / "detector_settings.json").read_text())
    assert settings["labels"][3] == "Cardiomegaly" and settings["image_size"] == 64


@pytest.mark.parametrize("name", ["train_detector", "pseudo_label"])
def test_weights_of_0_1_load_with_the_config_of_its_resnet(name):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{file}.json") for file in (name, "resnet_detector")])
    parser["num_classes"] = 22
    state = LesionDetector(depth=18, resnet_width=16, levels=(0, 1, 2, 3), width=32, layers=2).state_dict()
    parser.get_parsed_content("network_def").load_state_dict(state)


def test_interrupted_and_resumed_equals_uninterrupted(trained, tmp_path):
    folder, options = trained
    options = {**options, "ckpt_dir": str(tmp_path)}
    execute(["train_detector"], **options, **{"train#trainer#max_epochs": 1})
    execute(["train_detector"], **options, resume=True)
    states = [
        torch.load(path / "detector_checkpoint.pt", weights_only=True)["network"]
        for path in (folder / "models", tmp_path)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_supervised_only_never_sees_the_unlabelled(trained, tmp_path):
    _, options = trained
    workflow = execute(["train_detector", "supervised_only"], **{**options, "ckpt_dir": str(tmp_path), "epochs": 1})
    trainer = workflow.parser.get_parsed_content("train#trainer")
    assert set(trainer.state.output[0]["terms"]) == {"class", "box", "centerness"}
    assert trainer.state.epoch_length == workflow.parser.get_parsed_content("train#dataset#count") // 4


def test_evaluation_measures_boxes(trained):
    folder, options = trained
    execute(["train_detector", "evaluate_detector"], **options)
    metrics = json.loads((folder / "eval" / "metrics.json").read_text())
    assert {"map", "ap50", "ar", "froc"} <= set(metrics) and all(0 <= value <= 1 for value in metrics.values())
    rows = (folder / "eval" / "per_case.csv").read_text().splitlines()
    images = json.loads((folder / "set" / "coco_test.json").read_text())["images"]
    assert rows[0] == "case,targets,detected,false_positives" and len(rows) == 1 + len(images)


@pytest.fixture
def labelling(trained, tmp_path):
    """Options of pseudo_label.json over studies without boxes."""
    folder, _ = trained
    root = tmp_path / "studies"
    write_chests(str(root), ChestOptions(studies=20, size=80, seed=5))
    content = load_annotation(root / "annotation.json")
    for entry in (entry for split in content.values() for entry in split):
        del entry["boxes"], entry["scores"], entry["box_labels"]
    (root / "annotation.json").write_text(json.dumps(content))
    options = {**NETWORK, "dataset_dir": str(root), "ckpt_dir": str(folder / "models"), "slots": 5}
    options |= {"output_dir": str(tmp_path / "pages"), "score": 0.01, "bundle_root": str(CONFIGS.parent), "pages": 2}
    return root, options


def test_pseudo_labels_are_added_and_nothing_else_changes(labelling):
    root, options = labelling
    original = (root / "annotation.json").read_bytes()
    before = load_annotation(root / "annotation.json")
    execute(["pseudo_label"], "infer", **options)
    assert (root / "annotation.json").read_bytes() == original
    after = load_annotation(root / "annotation_with_boxes.json")
    assert annotation_file(root) == root / "annotation_with_boxes.json"
    for old, new in ((a, b) for split in before for a, b in zip(before[split], after[split], strict=True)):
        assert {key: new[key] for key in old} == old and set(new) - set(old) == {"boxes", "scores", "box_labels"}
        assert len(new["boxes"]) == len(new["scores"]) == len(new["box_labels"]) == 5
        there = np.array([box for box in new["boxes"] if box != [-1] * 4]).reshape(-1, 4)
        assert (there >= 0).all() and (there[:, :2] + there[:, 2:] <= 80.1).all()
    assert any(score > 0 for split in after.values() for entry in split for score in entry["scores"])
    assert (
        not list(root.glob("*.jsonl"))
        and "data:image/jpeg" in (root.parent / "pages" / "pseudo_labels.html").read_text()
    )
    for name in (None, "annotation.json"):
        with pytest.raises(RuntimeError) as caught:
            execute(["pseudo_label"], "infer", **options, annotation=name)
        assert "annotation_with_boxes.json' is there already" in str(caught.value.__cause__)
    assert load_annotation(root / "annotation_with_boxes.json") == after
    before["train"][0]["report"] = "The heart is enlarged."
    (root / "annotation.json").write_text(json.dumps(before))
    execute(["pseudo_label"], "infer", **options, overwrite=True)
    assert not list(root.glob("*boxes_with*")) and load_annotation(root / "annotation.json") == before
    assert load_annotation(root / "annotation_with_boxes.json")["train"][0]["report"] == "The heart is enlarged."
    (root / "annotation.json").unlink()
    with pytest.raises(RuntimeError) as caught:
        execute(["pseudo_label"], "infer", **options, overwrite=True)
    assert "'annotation.json', of which it would be made, is not beside it" in str(caught.value.__cause__)


def test_an_interrupted_labelling_goes_on(labelling, monkeypatch):
    root, options = labelling
    whole = {**options, "output": str(root / "whole.json")}
    execute(["pseudo_label"], "infer", **whole)
    part = {**options, "output": str(root / "part.json"), "batch_size": 4, "annotation": "annotation.json"}
    calls = []

    def fail_late(finder, paths, real):
        calls.append(len(paths))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(finder, paths)

    from d2rnet.detector.finder import TrainedDetector

    real = TrainedDetector.__call__
    with monkeypatch.context() as patch:
        patch.setattr(TrainedDetector, "__call__", lambda self, paths: fail_late(self, paths, real))
        with pytest.raises(KeyboardInterrupt):
            execute(["pseudo_label"], "infer", **part)
    assert not (root / "part.json").exists()
    file = root / "part.json.partial.jsonl"
    file.write_text(file.read_text() + '["cut')
    monkeypatch.setattr(TrainedDetector, "__call__", lambda self, paths: calls.append(len(paths)) or real(self, paths))
    calls.clear()
    execute(["pseudo_label"], "infer", **part)
    assert sum(calls) == 20 - 8
    assert load_annotation(root / "part.json") == load_annotation(root / "whole.json")


def test_both_forms_of_export_agree(trained):
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, _ = trained
    options = {"ckpt_dir": str(folder / "models"), **NETWORK, "bundle_root": str(CONFIGS.parent)}
    workflow = execute(["pseudo_label"], "infer", "export_onnx", **options, onnx=str(folder / "detector.onnx"))
    detector = workflow.parser.get_parsed_content("network_def").eval()
    image = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        dense = detector.dense(image)
        boxes, scores = onnxruntime.InferenceSession(folder / "detector.onnx").run(None, {"image": image.numpy()})
        scripted = torch.jit.script(detector)(image)
        for found, wanted in zip(scripted, detector(image), strict=True):
            torch.testing.assert_close(found, wanted)
    assert boxes.shape[1] == scores.shape[1] == dense.positions.shape[0]
    best = scripted.scores[:, 0].numpy()
    np.testing.assert_allclose(scores.max((1, 2)), best, atol=1e-5)


def test_a_trained_detector_knows_its_sizes(tmp_path):
    tiny = {**TINY_BUNDLES["d2rnet"]["also"]["train_detector"], **NETWORK, "epochs": 1}
    places = {"ckpt_dir": tmp_path / "models", "synthetic_dir": tmp_path / "set", "output_dir": tmp_path / "eval"}
    common = flags(TINY_BUNDLES["d2rnet"]["data"], places)
    done = monai_bundle("run", "--config_file", CONFIGS / "train_detector.json", *common, *flags(tiny))
    assert done.returncode == 0, done.stderr[-500:]
    labelling = ["run", "--config_file", CONFIGS / "pseudo_label.json", *common, "--output", tmp_path / "boxes.json"]
    done = monai_bundle(*labelling, "--overwrite", "true")
    assert done.returncode == 0 and (tmp_path / "boxes.json").is_file(), done.stderr[-500:]
    done = monai_bundle(*labelling, "--overwrite", "true", "--network_def#width", "16")
    assert done.returncode == 1 and "was trained with 8" in done.stderr
