"""The iteration functions and the phases: who learns in which step, and when the game starts."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset

from akessfa.data import KeywordTruthd, list_cases, read_cases, training_transforms, validation_transforms
from akessfa.keyword_metrics import KeywordCase, keyword_mask_metrics, keyword_metrics
from akessfa.phases import Phase, PhaseSchedule
from akessfa.steps import evaluate_step, highest, infer_step, train_step, validate_step
from common.nn.losses import segmentation_loss
from common.text.tokenizer import ReportTokenizer
from common.transforms.load import check_size
from tests.test_akessfa_network import make_network

ERASURE = {"sentences": 4, "words": 2, "margin": 0.1, "temperature": 0.2, "share": 0.25}


@pytest.fixture(scope="module")
def batch(synthetic):
    cases = read_cases(root=str(synthetic), split="train")[:4]
    tokenizer = ReportTokenizer.fit([case["report"] for case in cases], max_size=60)
    dataset = Dataset(cases, validation_transforms(tokenizer=tokenizer, size=64, max_length=128))
    return next(iter(DataLoader(dataset, batch_size=4)))


def engine_for(network, rate=1e-2):
    state = SimpleNamespace(device=torch.device("cpu"), output=None)
    optimizer = torch.optim.AdamW(network.segmenter.parameters(), lr=rate)
    return SimpleNamespace(
        state=state, network=network, optimizer=optimizer, loss_function=segmentation_loss, fire_event=lambda _: None
    )


def step(network, batch, phase, rate=1e-2, **changes):
    generator_optimizer = torch.optim.AdamW(network.generator.parameters(), lr=1e-2)
    arguments = {
        "segmenter": network.segmenter, "generator": network.generator, "generator_optimizer": generator_optimizer,
        "phases": SimpleNamespace(phase=phase), "weights": {"dropped": 0.5}, "erasure": ERASURE,
        "max_norm": 5.0, "amp": False, **changes,
    }  # fmt: skip
    return train_step(engine_for(network, rate), batch, **arguments)


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(before[name], value)}


@pytest.mark.parametrize(
    ("phase", "terms"),
    [
        (Phase.IMAGE_ONLY, {"image_only", "alignment"}),
        (Phase.FULL_REPORT, {"full", "alignment"}),
        (Phase.DROPOUT, {"full", "dropped", "alignment"}),
        (Phase.GAME, {"full", "dropped", "keywords", "alignment", "generator", "generator_word"}),
    ],
)
def test_each_phase_has_its_terms_and_only_the_game_teaches_the_generator(batch, phase, terms):
    network = make_network()
    generator, segmenter = snapshot(network.generator), snapshot(network.segmenter)
    assert step(network, batch, phase)[0]["terms"].keys() == terms
    assert bool(changed(generator, network.generator)) == (phase == Phase.GAME)
    assert changed(segmenter, network.segmenter)


def test_without_alignment_its_term_is_gone_and_the_image_alone_is_segmented_once(batch):
    terms = step(make_network(), batch, Phase.IMAGE_ONLY, weights={"alignment": 0.0})[0]["terms"]
    assert terms.keys() == {"image_only"}


def test_the_generators_step_leaves_segmenter_and_batch_norm(batch):
    network = make_network()
    before, generator = snapshot(network.segmenter), snapshot(network.generator)
    seen = {}

    class Spy(torch.nn.Module):  # the segmenter's own step begins after the generator's
        def forward(self, *arguments):
            seen.update(snapshot(network.segmenter))
            assert changed(generator, network.generator)
            return network.segmenter(*arguments)

    step(network, batch, Phase.GAME, segmenter=Spy())
    assert seen and all(torch.equal(before[name], value) for name, value in seen.items())


def test_the_segmenters_step_leaves_the_generator(batch):
    network = make_network()
    before = snapshot(network.generator)
    frozen = torch.optim.SGD(network.generator.parameters(), lr=0.0)
    step(network, batch, Phase.GAME, generator_optimizer=frozen)
    assert not changed(before, network.generator)


def test_keywords_never_depend_on_the_truth(batch):
    network = make_network().eval()
    blank = {**batch, "label": torch.zeros_like(batch["label"])}
    outputs = [infer_step(engine_for(network), data, amp=False)["keywords"] for data in (batch, blank)]
    assert torch.equal(*outputs)


def test_one_batch_is_learned_and_the_loss_is_in_float32(batch):
    network = make_network()
    engine = engine_for(network)
    arguments = {
        "segmenter": network.segmenter, "generator": network.generator,
        "generator_optimizer": torch.optim.AdamW(network.generator.parameters()),
        "phases": SimpleNamespace(phase=Phase.FULL_REPORT), "weights": {}, "erasure": ERASURE, "max_norm": 5.0,
    }  # fmt: skip
    losses = [float(train_step(engine, batch, **arguments, amp=False)[0]["loss"]) for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]
    train_step(engine, batch, **arguments, amp=True)
    assert engine.state.output[0]["pred"].dtype == engine.state.output[0]["loss"].dtype == torch.float32


def test_validation_segments_with_and_without_report(batch):
    network = make_network().eval()
    output = validate_step(engine_for(network), batch, amp=False)
    assert output["pred"].shape == output["pred_without_report"].shape == (4, 1, 64, 64)
    with torch.no_grad():
        alone = network(batch["image"].as_tensor())
    torch.testing.assert_close(output["pred_without_report"], alone, atol=1e-5, rtol=1e-4)


def test_evaluation_erases_words_and_scores_them(batch):
    network = make_network().eval()
    output = evaluate_step(engine_for(network), batch, amp=False, top_k=3)
    for name in ("pred", "pred_without_report", "pred_without_keywords", "pred_without_others"):
        assert output[name].shape == (4, 1, 64, 64)
    assert not torch.equal(output["pred"], output["pred_without_keywords"])
    for name in ("generator", "attention_mass", "leave_one_out"):
        scores = output[f"score_{name}"]
        assert scores.shape == (4, 128) and (scores[output["is_word"] == 0] == 0).all() and scores.std() > 0


def test_highest_marks_only_allowed_words():
    scores, allowed = torch.tensor([[0.1, 0.9, 0.5, 0.7]]), torch.tensor([[1.0, 0, 1, 1]])
    assert highest(scores, allowed, 2).tolist() == [[0, 0, 1, 1]]
    assert highest(scores, torch.tensor([[1.0, 0, 0, 0]]), 3).tolist() == [[1, 0, 0, 0]]


def test_word_truth_marks_own_sentences_and_attribute_words(synthetic):
    case = read_cases(root=str(synthetic), split="train")[0]
    tokenizer = ReportTokenizer.fit([case["report"]])
    truth = KeywordTruthd(tokenizer, max_length=200)(case)
    tokens = [case["report"][t.start : t.end] for t in tokenizer.encode(case["report"])]
    own = next(s for s in case["sentences"] if s["about_image"])
    marked = [
        w for w, flag, mine in zip(tokens, truth["attribute"], truth["about_image"], strict=False) if flag and mine
    ]
    assert sorted(marked) == sorted(own["attributes"])
    assert truth["about_nodule"].sum() > truth["about_image"].sum() > 0


def make_words(scores, case="a"):
    flags = {"about_image": [1, 1, 0, 0, 0], "about_nodule": [1, 1, 1, 1, 0], "attribute": [0, 1, 0, 1, 0]}
    arrays = {name: np.array(values, dtype=bool) for name, values in flags.items()}
    return KeywordCase(case, np.array([0, 0, 1, 1, 2]), **arrays, scores={"generator": np.array(scores)})


def test_keyword_metrics_on_known_cases():
    right, wrong = make_words([0.8, 0.9, 0.1, 0.2, 1.0]), make_words([0.1, 0.2, 0.9, 0.8, 0.0])
    perfect = dict.fromkeys(("hit", "auc_sentence", "auc_content", "auc_word"), 1.0) | {"chance": 0.5}
    assert keyword_metrics([right], "generator") == perfect
    assert keyword_metrics([wrong, wrong], "generator")["same"] == 1.0
    mixed = keyword_metrics([right, wrong], "generator")
    assert mixed["hit"] == 0.5 and mixed["same"] == 0.0
    assert keyword_metrics([], "generator") == {}
    assert keyword_mask_metrics([right])["mean_keyword"] == pytest.approx(0.6)


def run_phases(metrics, *, every=1, **options):
    evaluator, trainer = Engine(lambda *_: None), Engine(lambda *_: None)
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = 0.5, 1
    phases = PhaseSchedule(evaluator=evaluator, **options)
    seen = []
    for epoch, (dice, without) in enumerate(metrics, start=1):
        trainer.state.epoch = epoch
        phases.advance(trainer)
        seen.append(int(phases.phase))
        if epoch % every == 0:
            evaluator.state.metrics = {"dice": dice, "dice_without_report": without}
            phases.observe(evaluator)
    return seen, phases, evaluator


def test_phases_follow_their_epochs():
    rising = [(0.1 * i, 0.0) for i in range(1, 9)]
    seen, _, evaluator = run_phases(rising, image_only=1, full_report=3, dropout=2, gate=0.1)
    assert seen == [0, 1, 1, 1, 2, 2, 3, 3]
    assert evaluator.state.best_metric == -1  # chosen anew after the game has settled


@pytest.mark.parametrize("every", [1, 2, 3])
def test_phases_have_their_epochs_however_often_is_validated(every):
    rising = [(0.1 * i, 0.0) for i in range(1, 13)]
    seen, _, _ = run_phases(rising, every=every, image_only=1, full_report=4, dropout=3, patience=9, gate=0.1)
    assert seen == [0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3]


def test_the_full_report_phase_ends_when_dice_levels_off():
    seen, _, _ = run_phases([(0.5, 0.1)] * 6, image_only=1, full_report=20, dropout=1, patience=2, gate=0.1)
    assert seen == [0, 1, 1, 2, 3, 3]


def test_the_gate_holds_the_game_back_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        seen, _, _ = run_phases([(0.5, 0.45)] * 6, image_only=1, full_report=1, dropout=1, gate=0.1)
    assert seen == [0, 1, 2, 2, 2, 2]
    assert "gain on validation is 0.050, not above gate=0.100" in caplog.text


def test_an_ablation_stays_in_its_phase_and_state_is_kept():
    seen, phases, _ = run_phases([(0.5, 0.1)] * 5, image_only=1, full_report=1, dropout=1, last=1)
    assert seen == [0, 1, 1, 1, 1]
    other = PhaseSchedule(evaluator=phases.evaluator)
    other.load_state_dict(phases.state_dict())
    assert other.state_dict() == phases.state_dict()
    assert PhaseSchedule(evaluator=phases.evaluator, image_only=0).phase == Phase.FULL_REPORT
    with pytest.raises(ValueError, match="dropout: -1 epochs"):
        PhaseSchedule(evaluator=phases.evaluator, dropout=-1)


def test_wrong_and_empty_reports(synthetic):
    own, wrong, empty = (read_cases(root=str(synthetic), split="train", reports=r) for r in ("own", "wrong", "empty"))
    assert all(a["report"] != b["report"] for a, b in zip(own, wrong, strict=True))
    assert {case["report"] for case in wrong} <= {case["report"] for case in own}
    assert all(case["report"] == "" for case in empty)
    with pytest.raises(ValueError, match="reports: 'none' is none of"):
        read_cases(root=str(synthetic), split="train", reports="none")


def test_affine_moves_image_and_mask_alike_and_words_stay(synthetic):
    cases = read_cases(root=str(synthetic), split="train")[:4]
    tokenizer = ReportTokenizer.fit(case["report"] for case in cases)
    for case in cases:
        still, moving = (
            training_transforms(tokenizer=tokenizer, size=64, max_length=64, affine=affine) for affine in (0.0, 0.2)
        )
        case = {**case, "image": case["label"]}  # the image is the mask, so both must stay equal
        moved = [moving.set_random_state(seed)(case) for seed in range(6)]
        for data in moved:
            assert ((data["image"] > 0.5) == (data["label"] > 0.5)).float().mean() > 0.97
            assert set(data["label"].unique().tolist()) <= {0.0, 1.0} and data["image"].shape == (1, 64, 64)
        plain = still.set_random_state(0)(case)
        assert any(not torch.equal(data["label"], plain["label"]) for data in moved)


def test_cases_of_inference(tmp_path, synthetic):
    image = str(next((synthetic / "images").iterdir()))
    (tmp_path / "report.txt").write_text("A nodule.")
    assert list_cases(image=image, report=str(tmp_path / "report.txt"), data_dir=None) == [
        {"image": image, "report": "A nodule."}
    ]
    assert list_cases(image=image, report=None, data_dir=None)[0]["report"] == ""
    assert all(case["report"] for case in list_cases(image=None, report=None, data_dir=str(synthetic)))
    with pytest.raises(FileNotFoundError, match=r"report: no file 'none.txt'"):
        list_cases(image=image, report="none.txt", data_dir=None)
    with pytest.raises(ValueError, match="image_size: 60 is no multiple of 32"):
        check_size(60)
