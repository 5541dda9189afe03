"""Data sets travel to workers that are started anew (spawn), as on macOS and Windows, and beside a GPU."""

import multiprocessing
import pickle

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import DataLoader

from common.text.tokenizer import ReportTokenizer
from common.transforms.reports import TokenizeReportd
from tests.test_bundle_contract import BUNDLES, PLACES, ROOT, TINY

CONFIGS = [*((bundle, "train") for bundle in BUNDLES), ("d2rnet", "train_detector"), ("clip_tnseg", "pretrain_clip")]
CHINESE = "甲状腺左叶见一个低回声结节，大小约_2DS_。右叶未见异常。"


def test_a_tokenizer_that_has_seen_chinese_pickles(tmp_path):
    (tmp_path / "words.txt").write_text("低回声结节 100 n\n", encoding="utf-8")
    tokenizer = ReportTokenizer.fit([CHINESE], user_dictionary=str(tmp_path / "words.txt"))
    transform = TokenizeReportd(tokenizer, max_length=32)
    expected = transform({"report": CHINESE})
    again = pickle.loads(pickle.dumps(transform))({"report": CHINESE})  # noqa: S301
    assert torch.equal(expected["input_ids"], again["input_ids"]) and expected["input_ids"].any()


@pytest.fixture
def workflow_of(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)

    def build(bundle, name, **changes):
        quick = {"epochs": 1, "batch_size": 2}
        options = {**TINY[bundle]["network"], **TINY[bundle]["data"], **TINY[bundle]["train"], **quick, **changes}
        if name == "train_detector":
            options = {**TINY[bundle]["data"], "batch_size": 2, "image_size": 64, **changes}
        if name == "pretrain_clip":
            options = {**TINY[bundle]["data"], "batch_size": 8, "image_size": 64, **changes}
        places = {key: str(tmp_path / place) for key, place in PLACES.items() if key != "ckpt_dir" or name == "train"}
        if name == "pretrain_clip":
            places = {"synthetic_dir": str(tmp_path / "synthetic"), "clip_dir": str(tmp_path / "clip")}
        if name == "train_detector":
            places["ckpt_dir"] = str(tmp_path / "models")
        workflow = ConfigWorkflow(config_file=f"bundles/{bundle}/configs/{name}.json", workflow_type="train",
                                  logging_file=False, **places, **options)  # fmt: skip
        workflow.initialize()
        return workflow.parser

    return build


@pytest.mark.parametrize(("bundle", "name"), CONFIGS)
def test_every_training_set_travels_to_spawned_workers(workflow_of, bundle, name):
    parser = workflow_of(bundle, name)
    dataset = parser.get_parsed_content("train#dataset")
    before = dataset[0]
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert type(again[0]) is type(before)
    validation = parser.get_parsed_content("validate#dataset")
    assert pickle.loads(pickle.dumps(validation))[0].keys() == validation[0].keys()  # noqa: S301


def test_spawned_workers_give_the_batches_of_one_process(workflow_of):
    multiprocessing.get_context("spawn")
    dataset = workflow_of("akessfa", "train").get_parsed_content("validate#dataset")
    alone, spawned = (
        next(iter(DataLoader(dataset, batch_size=2, num_workers=count, **context)))
        for count, context in ((0, {}), (1, {"multiprocessing_context": "spawn"}))
    )
    assert torch.equal(alone["input_ids"], spawned["input_ids"])
    assert torch.equal(alone["image"].as_tensor(), spawned["image"].as_tensor())
