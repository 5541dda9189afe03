"""HFCN: the crops, the fusion, the losses and the data; its configs run in the contract test."""

import json

import numpy as np
import pytest
import torch
from clip_tnseg.data import read_prompts
from hfcn.data import inference_transforms, list_cases, validation_transforms
from hfcn.loss import branch_losses, inverse_frequency
from hfcn.mask_branch import FitMaskBranch
from hfcn.network import HFCN, Branches, BranchesAndFusion, average, inside_and_outside
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import Dataset, MetaTensor
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from torch import nn

from akessfa.data import read_cases
from common.cli import model_file
from common.datasets.malignancy import malignancy, read_malignancy
from common.images.masks import CropNoduled
from common.metrics.classification import best_threshold, calibration_error, classification_metrics, pool_cases


@pytest.fixture
def network():
    torch.manual_seed(0)
    return HFCN(depth=18, width=8).eval()


def test_crops_are_slices_of_the_map_upsampled(network):
    features = torch.rand(2, 3, 14, 14)
    windows = network.choose_windows(features)
    assert windows[0].tolist() == [[0, 0], [0, 3], [2, 2], [3, 0], [3, 3]]  # 11 of 14: corners and centre
    crops = network.crop(features, windows).unflatten(0, [2, 5])
    for index, (top, left) in enumerate(windows[1].tolist()):
        cut = features[1:, :, top : top + 11, left : left + 11]
        wanted = nn.functional.interpolate(cut, size=(14, 14), mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(crops[1, index], wanted)


def test_windows_are_random_in_training_alone_and_reach_every_place(network):
    features = torch.zeros(200, 1, 8, 8)  # a crop of 6: places 0, 1, 2
    assert torch.equal(network.choose_windows(features), network.choose_windows(features))
    drawn = network.train().choose_windows(features)
    assert {tuple(place) for place in drawn.flatten(0, 1).tolist()} == {(y, x) for y in range(3) for x in range(3)}
    fixed = HFCN(depth=18, width=8, random_crops=False).train().choose_windows(features)
    assert (fixed == fixed[0]).all()


@pytest.mark.parametrize(("crops", "centre"), [(1, [[1, 1]]), (9, [[1, 1]])])
def test_other_numbers_of_crops(crops, centre):
    network = HFCN(depth=18, width=8, crops=crops).eval()
    windows = network.choose_windows(torch.zeros(1, 1, 8, 8))[0].tolist()
    assert len(windows) == crops and centre[0] in windows
    assert network(torch.rand(2, 1, 64, 64)).shape == (2, 2)


def test_refused_arguments():
    with pytest.raises(ValueError, match=r"crops: 4 is none of \[1, 5, 9\]"):
        HFCN(crops=4)
    with pytest.raises(ValueError, match=r"ratio: 1\.5"):
        HFCN(ratio=1.5)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_probabilities_are_fused_as_stated(network, weight):
    network.global_weight = weight
    image = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        branches = network.branches(image)
        fused = network(image).exp()
    crops = branches.crops.exp().mean(1)
    torch.testing.assert_close(fused, weight * branches.whole.exp() + (1 - weight) * crops)
    torch.testing.assert_close(fused.sum(1), torch.ones(3))
    torch.testing.assert_close(average(branches.crops).exp(), crops)


def test_a_batch_equals_its_items(network):
    image = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image), torch.cat([network(one[None]) for one in image]))


def test_activation_is_what_the_global_logits_are_the_mean_of(network):
    with torch.no_grad():
        branches = network.branches(torch.rand(2, 1, 64, 64))
        bias = network.whole.linear.bias
    difference = branches.whole[:, 1] - branches.whole[:, 0]
    torch.testing.assert_close(branches.activation.mean((1, 2)) + bias[1] - bias[0], difference, atol=1e-5, rtol=1e-4)


def test_shared_and_separate_classifiers():
    shared, separate = HFCN(depth=18, width=8, share_classifier=True), HFCN(depth=18, width=8)
    assert shared.local is shared.whole and separate.local is not separate.whole
    assert sum(p.numel() for p in shared.parameters()) < sum(p.numel() for p in separate.parameters())


def test_scripted_equals_eager(network):
    scripted = torch.jit.script(network)
    for rows, size in ((1, 64), (3, 96)):
        image = torch.rand(rows, 1, size, size)
        with torch.no_grad():
            torch.testing.assert_close(scripted(image), network(image))


@pytest.mark.parametrize("term", ["global", "crops", "hybrid"])
def test_every_loss_term_gives_a_gradient_to_its_branch(network, term):
    branches, fused = BranchesAndFusion(network.train())(torch.rand(2, 1, 64, 64))
    branch_losses(branches, fused, torch.tensor([0, 1]))[term].backward()
    seen = {name for name, part in (("whole", network.whole), ("local", network.local)) if _has_gradient(part)}
    assert seen == {"global": {"whole"}, "crops": {"local"}, "hybrid": {"whole", "local"}}[term]
    assert _has_gradient(network.trunk)


def _has_gradient(module):
    return any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_losses_on_known_probabilities():
    whole = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    crops = torch.tensor([[[0.2, 0.8], [0.6, 0.4]], [[0.9, 0.1], [0.7, 0.3]]]).log()
    nothing = torch.zeros(1)
    losses = branch_losses(Branches(whole, crops, nothing, nothing, nothing, nothing), whole, torch.tensor([1, 0]))
    assert losses["global"].item() == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2, abs=1e-6)
    assert losses["crops"].item() == pytest.approx(-(np.log(0.6) + np.log(0.8)) / 2, abs=1e-6)
    balanced = branch_losses(
        Branches(whole, crops, nothing, nothing, nothing, nothing), whole, torch.tensor([1, 0]), torch.tensor([3.0, 1])
    )
    assert balanced["global"].item() == pytest.approx(-(np.log(0.75) + 3 * np.log(0.5)) / 4, abs=1e-6)


def test_inverse_frequency_gives_both_classes_one_share():
    weights = inverse_frequency([{"malignancy": value} for value in (0, 1, 1, 1)])
    assert weights == [2.0, pytest.approx(2 / 3)]
    with pytest.raises(ValueError, match="0 benign and 2 malignant"):
        inverse_frequency([{"malignancy": 1}] * 2)


def test_one_batch_is_learned(network):
    network.train()
    image, label = torch.rand(8, 1, 64, 64), torch.tensor([0, 1] * 4)
    image[label == 1] *= 0.5
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(25):
        branches, fused = BranchesAndFusion(network)(image)
        loss = sum(branch_losses(branches, fused, label).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.6


def test_metrics_on_known_numbers():
    label, prob = np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.6, 0.4, 0.7, 0.9])
    metrics = classification_metrics(label, prob, 0.5)
    assert metrics["accuracy"] == 0.6 and metrics["recall"] == pytest.approx(2 / 3) and metrics["specificity"] == 0.5
    assert metrics["roc_auc"] == roc_auc_score(label, prob)
    of_one_class = classification_metrics(np.ones(3, int), prob[:3], 0.5)
    assert np.isnan([of_one_class[name] for name in ("roc_auc", "average_precision", "specificity")]).all()


def test_calibration_error():
    assert calibration_error(np.array([0, 1]), np.array([0.25, 0.95])) == pytest.approx((0.25 + 0.05) / 2)
    assert calibration_error(np.array([0, 1, 1, 1]), np.full(4, 0.75)) == 0
    assert calibration_error(np.array([1]), np.array([1.0])) == 0


def test_threshold_of_the_largest_youden_index():
    label, prob = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.35, 0.8])
    threshold = best_threshold(label, prob)
    assert ((prob >= threshold) == label).all()
    assert best_threshold(np.zeros(2, int), prob[:2]) == 0.5


def test_cases_are_pooled_by_mean_or_maximum():
    arguments = (["a", "b", "a"], np.array([0, 1, 0]), np.array([0.2, 0.5, 0.6]))
    label, mean = pool_cases(*arguments, "mean")
    assert label.tolist() == [0, 1] and mean.tolist() == pytest.approx([0.4, 0.5])
    assert pool_cases(*arguments, "max")[1].tolist() == [0.6, 0.5]


@pytest.mark.parametrize(
    ("box", "side", "first"),
    [
        ((20, 30, 18, 38), 24, (13, 16)),  # 20 wide and 10 % more on either side; centred
        ((0, 10, 0, 10), 12, (0, 0)),  # moved into the image
        ((30, 40, 50, 60), 12, (28, 48)),
    ],
)
def test_the_crop_is_the_square_around_the_mask(box, side, first):
    image, label = torch.arange(2400.0).reshape(1, 40, 60), torch.zeros(1, 40, 60)
    label[:, box[0] : box[1], box[2] : box[3]] = 1
    cropped = CropNoduled(margin=0.1)({"image": image, "label": label})["image"]
    wanted = image[:, first[0] : first[0] + side, first[1] : first[1] + side]
    assert torch.equal(cropped, wanted)


def test_a_nodule_larger_than_the_image_is_padded_and_an_empty_mask_leaves_the_image():
    image = torch.ones(1, 10, 30)
    wide = CropNoduled(margin=0.0)({"image": image, "label": image})["image"]
    assert wide.shape == (1, 30, 30) and wide.sum() == 300 and wide[0, 10:20].all()
    assert CropNoduled(margin=0.1)({"image": image, "label": 0 * image})["image"] is image
    assert CropNoduled(margin=-1)({"image": image, "label": image})["image"] is image


@pytest.mark.parametrize(
    ("case", "label"),
    [
        ({"tirads": "3"}, 0),
        ({"tirads": "4A"}, 1),
        ({"malignant": "0", "tirads": "5"}, 0),
        ({"tirads": ""}, None),
        ({}, None),
    ],
)
def test_labels_by_the_documented_map(case, label):
    assert malignancy({"image": "a.png", **case}) == label


def test_unknown_levels_are_refused():
    with pytest.raises(ValueError, match=r"tirads: '7' of 'a\.png'"):
        malignancy({"image": "a.png", "tirads": "7"})
    with pytest.raises(ValueError, match=r"malignant: 'yes' of 'a\.png'"):
        malignancy({"image": "a.png", "malignant": "yes"})


def test_synthetic_labels_are_those_of_the_nodule(synthetic):
    truth = {
        nodule["image"]: nodule["malignant"]
        for report in json.loads((synthetic / "reports.json").read_text())
        for nodule in report["nodules"]
    }
    cases = read_malignancy(str(synthetic), "test")
    assert cases and all(truth[case["image"].split("/")[-1]] == case["malignancy"] for case in cases)


@pytest.mark.parametrize(
    "read",
    [
        read_malignancy,
        lambda root, split, test_fold: read_cases(root=root, split=split, test_fold=test_fold),
        lambda root, split, test_fold: read_prompts(root=root, split=split, test_fold=test_fold),
    ],
    ids=["hfcn", "akessfa", "clip_tnseg"],
)
def test_folds_are_apart_and_complete(synthetic, read):
    tested = []
    for fold in range(5):
        try:
            tested += [case["image"] for case in read(str(synthetic), "test", test_fold=fold)]
        except ValueError:  # twelve patients: a fold may be empty
            continue
    assert len(tested) == len(set(tested)) == len(list((synthetic / "images").iterdir()))
    with pytest.raises(ValueError, match="test_fold: 5"):
        read(str(synthetic), "test", test_fold=5)


def test_inference_lists_images_with_masks(tmp_path, synthetic):
    image = synthetic / "images" / "P0000_0.png"
    (case,) = list_cases(image=str(image), mask=str(synthetic / "masks" / "P0000_0.png"), data_dir=None)
    assert case["label"].endswith("masks/P0000_0.png")
    with pytest.raises(FileNotFoundError, match=r"has no file named .*; \d+ files are without a partner"):
        list_cases(image=str(image), mask=str(synthetic / "masks"), data_dir=None)


def test_the_crop_shows_the_nodule(synthetic):
    case = read_malignancy(str(synthetic), "train")[0]
    image, mask = (np.asarray(Image.open(case[key])) for key in ("image", "label"))
    crop = CropNoduled(margin=0.0)({"image": torch.tensor(image)[None], "label": torch.tensor(mask)[None]})["image"]
    (box,) = ndimage.find_objects((mask > 0).astype(int))
    assert crop.shape[1] == max(s.stop - s.start for s in box)


def test_rows_come_first(tmp_path):
    pixels = np.zeros((40, 80), np.uint8)
    pixels[:20] = 200  # bright above
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = inference_transforms(size=32, margin=0.1)({"image": str(tmp_path / "a.png")})["image"]
    assert image.shape == (2, 32, 32) and image[0, 4].mean() > 0.7 and image[0, -4].mean() < 0.01
    assert image[1].min() == 1  # no mask is known


def test_the_mask_is_cut_with_its_nodule(synthetic):
    case = read_malignancy(str(synthetic), "train")[0]
    image = validation_transforms(size=64, margin=0.3)(case)["image"]
    rows, columns = np.nonzero(image[1].numpy())
    assert set(np.unique(image[1])) == {0, 1} and max(np.ptp(rows), np.ptp(columns)) in range(36, 44)  # 64 / 1.6


def with_masks(image, count=2):
    """``image`` (B, 1, H, W) with a disc as the mask of the first ``count``, and none for the others."""
    mask = torch.ones_like(image)
    axis = torch.linspace(-1, 1, image.shape[2])
    mask[:count] = (axis[:, None] ** 2 + axis[None] ** 2 < 0.3).float()
    return torch.cat([image, mask], dim=1)


def test_the_mask_branch_is_asked_only_where_there_is_a_mask():
    network = HFCN(depth=18, width=8, mask_weight=0.7, train_trunk=False).eval()
    image = with_masks(torch.rand(3, 1, 64, 64))
    with torch.no_grad():
        assert not network.branches(image).asks_mask.any()  # it was never fitted
        network.mask_branch.fitted.fill_(True)
        branches = network.branches(image)
        fused, published = network.fuse(branches).exp(), network.fuse_published(branches).exp()
    assert branches.asks_mask.tolist() == [True, True, False]
    torch.testing.assert_close(fused[:2], 0.7 * branches.mask[:2].exp() + 0.3 * published[:2])
    torch.testing.assert_close(fused[2], published[2])
    torch.testing.assert_close(network(image[:, :1])[2], published[2].log())


def test_features_inside_and_outside_are_those_of_masked_positions():
    maps, mask = torch.randn(2, 5, 8, 8), torch.zeros(2, 1, 64, 64)
    mask[:, :, 16:32, 8:40] = 1
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:4, 1:5] = True
    wanted = [maps[:, :, inside].mean(2), maps[:, :, inside].std(2, correction=0), maps[:, :, ~inside].mean(2)]
    torch.testing.assert_close(inside_and_outside(maps, mask), torch.cat(wanted, 1))


def test_the_fitted_branch_tells_apart_what_only_the_mask_shows():
    """Bright inside and dark outside against the reverse: the whole images are alike."""
    torch.manual_seed(0)
    network = HFCN(depth=18, width=8, mask_weight=0.7, train_trunk=False).eval()
    cases = []
    for label in (0, 1) * 6:
        image = with_masks(0.1 * torch.rand(1, 1, 64, 64), 1)
        image[:, 0] += torch.where(image[:, 1] == label, 0.8, 0.2)
        cases.append({"image": MetaTensor(image[0]), "malignancy": label, "case": str(len(cases))})
    trainer = Engine(lambda *_: None)
    FitMaskBranch(network=network, dataset=Dataset(cases)).attach(trainer)
    trainer.run([0])
    with torch.no_grad():
        prob = network.branches(torch.stack([case["image"].as_tensor() for case in cases])).mask[:, 1].exp()
    assert bool(network.mask_branch.fitted) and ((prob > 0.5).long().tolist() == [0, 1] * 6)


def test_a_fitted_branch_stays_where_nothing_can_be_fitted():
    network = HFCN(depth=18, width=8, mask_weight=0.7, train_trunk=False).eval()
    network.mask_branch.fitted.fill_(True)
    before = network.mask_branch.linear.weight.clone()
    cases = [{"image": MetaTensor(torch.ones(2, 64, 64)), "malignancy": label, "case": "1"} for label in (0, 1)]
    trainer = Engine(lambda *_: None)
    FitMaskBranch(network=network, dataset=Dataset(cases)).attach(trainer)
    trainer.run([0])
    assert bool(network.mask_branch.fitted) and torch.equal(network.mask_branch.linear.weight, before)


@pytest.mark.parametrize("tells", [True, False])
def test_a_cross_fitted_probability_knows_no_image_of_the_patient(tells):
    """Three images a patient that are alike: a branch that saw one would know the others, whatever they show."""
    torch.manual_seed(0)
    network = HFCN(depth=18, width=8, mask_weight=0.9, train_trunk=False).eval()
    cases = []
    for patient, label in enumerate(torch.randperm(40).remainder(2).tolist()):
        image = with_masks(torch.rand(1, 1, 64, 64), 1)
        image[:, 0] += 0.5 * label * tells * image[:, 1]
        cases += 3 * [{"image": MetaTensor(image[0]), "malignancy": label, "case": str(patient)}]
    cases.insert(1, {"image": MetaTensor(torch.ones(2, 64, 64)), "malignancy": 0, "case": "no mask"})
    branch, trainer = FitMaskBranch(network=network, dataset=Dataset(cases), strength=1.0), Engine(lambda *_: None)
    branch.attach(trainer)
    trainer.run([0])
    label, prob = branch.cross_fitted(network)
    seen = torch.cat([network(case["image"].as_tensor()[None])[:, 1].exp() for case in cases if case["case"].isdigit()])
    area, seen_area = roc_auc_score(label, prob), roc_auc_score(label, seen.detach().numpy())
    assert len(label) == 120 and seen_area > 0.95
    assert area > 0.95 if tells else 0.25 < area < 0.75
    branch.dataset = Dataset(cases[:10])
    assert not len(branch.cross_fitted(network)[0])  # three patients cannot be parted
    branch.dataset, network.mask_weight = Dataset(cases), 0.5
    assert not len(branch.cross_fitted(network)[0])  # the published branches, which know these images, say half of it


def test_a_mask_branch_needs_features_that_stay():
    with pytest.raises(ValueError, match="train_trunk"):
        HFCN(depth=18, width=8, mask_weight=0.5)
    network = HFCN(depth=18, width=8, train_trunk=False).train()
    assert not network.trunk.training and not any(p.requires_grad for p in network.trunk.parameters())


def test_a_fold_that_differs_from_the_trainings_is_told(tmp_path, caplog):
    weights = tmp_path / "model.pt"
    torch.save({}, weights)
    config = {"network_def": {"_target_": "x"}, "dataset_dir": "data", "test_fold": 2}
    trained = ConfigParser(config)
    model_file.write(weights, model_file.settings_of(trained), files={})
    model_file.adopt(trained, {}, weights=str(weights))
    assert not caplog.records
    model_file.adopt(ConfigParser({**config, "test_fold": None}), {}, weights=str(weights))
    assert "test_fold: the model was trained with 2, this runs with None" in caplog.text
