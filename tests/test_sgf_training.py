"""SGF's data, losses, one step of training and of writing, metrics, pictures, and the distiller's run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image
from sgf.data import (
    inference_transforms,
    labelled,
    save_labels,
    saved_distiller,
    training_transforms,
    validation_transforms,
)
from sgf.distillation.run import distill, read_annotation, texts_of, training_reports
from sgf.loss import cluster_loss, losses
from sgf.network import SGF, TeacherForcing
from sgf.predictions import draw
from sgf.semantic_space import SemanticSpace
from sgf.steps import generate_step
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from torch.utils.data import default_collate
from transformers import BertConfig, BertModel, BertTokenizerFast

from common.datasets.annotation import load_annotation
from common.datasets.studies import list_studies, read_studies
from common.engine.stated_findings import StatedFindings
from common.engine.steps import report_loss, trim
from common.metrics.reports import Bleu4
from common.synthetic.studies import KINDS, StudyOptions, studies_or_synthetic, write_studies
from common.text.distiller import Distiller
from common.text.sentences import sentences_of
from common.text.tokenizer import ReportTokenizer
from common.transforms.reports import TokenizeTargetd
from common.transforms.views import LoadViewsd

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = 2
SIZES = {"vocab_size": 128, "clusters": 3, "depth": 18, "width": 8, "dim": 16, "hidden": 16, "heads": 4, "layers": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "set"
    write_studies(str(folder), StudyOptions(studies=40, size=64, seed=1))
    return folder


@pytest.fixture(scope="module")
def studies(root):
    return read_studies(str(root), "train")


@pytest.fixture(scope="module")
def tokenizer(studies):
    return ReportTokenizer.fit(study["report"] for study in studies)


@pytest.fixture(scope="module")
def space(studies, tokenizer):
    return SemanticSpace(tokenizer=tokenizer, studies=studies, vocab_size=128, dims=8)


def make_distiller(clusters=3):
    reducer, clusterer = TruncatedSVD(4, random_state=0), KMeans(clusters, n_init=3, random_state=0)
    return Distiller(vectorizer=CountVectorizer(), reducer=reducer, clusterer=clusterer)


@pytest.fixture(scope="module")
def batch(studies, tokenizer, space):
    stated = StatedFindings(studies=studies, count=FINDINGS, tokenizer=tokenizer, max_length=96)
    known = labelled(studies=studies[:4], distiller=make_distiller(), clusters=3, fit=True)
    options = {"views": 2, "size": 64, "max_length": 96, "mirror": 0.0}
    transforms = training_transforms(tokenizer=tokenizer, stated=stated, **options)
    return default_collate([transforms(study) for study in space.with_embeddings(known)])


def test_synthetic_studies_say_what_their_kind_is(root):
    content = load_annotation(root / "thyroid.json")
    entries = [entry for split in content.values() for entry in split]
    assert len(entries) == 40 and {entry["kind"] for entry in entries} == set(KINDS)
    for entry in entries:
        assert ("nodule in" in entry["finding"] or "nodule, " in entry["finding"]) == (entry["kind"] != "normal")
        assert ("calcification" in entry["finding"]) == (entry["kind"] == "calcified")
    again = studies_or_synthetic(
        dataset_dir=None, synthetic_dir=str(root), options={"studies": 40, "size": 64, "seed": 1}
    )
    assert again == str(root)
    with pytest.raises(ValueError, match=r"was made with .'studies': 40.; remove the folder"):
        studies_or_synthetic(dataset_dir=None, synthetic_dir=str(root), options={"studies": 9, "size": 64, "seed": 1})


@pytest.mark.parametrize("term", ["report", "cluster", "comparison", "findings"])
def test_each_term_moves_the_visual_extractor(term, batch, space):
    network = SGF(**SIZES, findings=FINDINGS, max_length=96)
    data = trim(batch, pad_id=0)
    forced = TeacherForcing(network)(data["image"], data["input_ids"], data["view_mask"], data["stated"])
    losses(forced, data, space=space, pad_id=0)[term].backward()
    gradients = [p.grad for p in network.visual.features.parameters() if p.grad is not None]
    assert gradients and sum(float(g.abs().sum()) for g in gradients) > 0


def test_a_certain_distribution_has_the_reports_own_vector(studies, tokenizer, space):
    text = studies[0]["report"]
    ids = torch.tensor([[token.id for token in tokenizer.encode(text)]])
    certain = F.one_hot(ids, 128).float().clamp(min=1e-30).log()
    vector = F.normalize(space(certain, torch.ones_like(ids, dtype=torch.bool)), dim=1)
    torch.testing.assert_close(vector, space.embed([text]), atol=1e-4, rtol=1e-3)
    assert float(vector @ space.embed([studies[0]["report"]]).T) == pytest.approx(1, abs=1e-3)


def test_report_loss_is_the_mean_over_tokens_and_padding_changes_nothing(batch):
    log_probs = torch.randn(4, 96, 128).log_softmax(2)
    target = batch["target_ids"]
    wanted = F.nll_loss(log_probs.flatten(0, 1), target.flatten(), ignore_index=0)
    torch.testing.assert_close(report_loss(log_probs, target, target != 0), wanted)
    data = trim(batch, pad_id=0)
    length = data["target_ids"].shape[1]
    assert length < 96 and (data["target_ids"] != 0).any(0).all()
    torch.testing.assert_close(report_loss(log_probs[:, :length], data["target_ids"], data["target_ids"] != 0), wanted)


def test_studies_without_a_cluster_count_nothing():
    logits, label = torch.randn(3, 5), torch.tensor([2, -1, 4])
    torch.testing.assert_close(cluster_loss(logits, label), F.cross_entropy(logits[[0, 2]], label[[0, 2]]))
    assert cluster_loss(logits, torch.full((3,), -1)) == 0


@pytest.mark.parametrize("further", [[], ["published"]])
def test_the_cluster_head_learns_as_fast_as_the_encoder(further):
    parser = ConfigParser()
    parser.read_config([str(ROOT / f"bundles/sgf/configs/{name}.json") for name in ("train", *further)])
    network = SGF(**SIZES)
    parser["network_def"] = parser["network"] = network
    groups = parser.get_parsed_content("optimizer").param_groups
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in network.parameters())
    assert [group["lr"] for group in groups] == [5e-5 if further else 2e-4, 1e-3]
    assert any(p is network.cluster_head[1].weight for p in groups[0]["params"])


def test_deep_images_are_scaled_and_not_clipped(tmp_path):
    ramp = np.linspace(0, 1, 64).reshape(8, 8)
    Image.fromarray((ramp * 60000).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray((ramp * 255).astype(np.uint8)).save(tmp_path / "flat.png")
    load = LoadViewsd(views=1, side=32)
    deep, flat = (load({"images": [str(tmp_path / f"{name}.png")]})["image"].float() for name in ("deep", "flat"))
    assert (deep - flat).abs().max() <= 2


def test_inference_takes_studies_of_one_and_two_views_in_a_batch(tmp_path):
    names = [str(tmp_path / f"{index}.png") for index in range(2)]
    for name in names:
        Image.new("L", (8, 8)).save(name)
    transform = inference_transforms(views=2, size=32)
    batch = default_collate(
        [transform({"study": "a", "images": names}), transform({"study": "b", "images": names[:1]})]
    )
    assert batch["images"] == ["\n".join(names), names[0]]


def test_a_cut_report_ends_after_a_sentence(tokenizer, caplog):
    text = "The thyroid is normal in size. No enlarged lymph node is seen. CDFI shows no increased flow."
    data = TokenizeTargetd(tokenizer, max_length=18)({"report": text})
    written = data["target_ids"][data["target_ids"] != 0]
    assert tokenizer.decode(written.tolist()).endswith("lymph node is seen.") and written[-1] == 3
    assert data["input_ids"][0] == 2 and torch.equal(data["input_ids"][1 : len(written)], written[:-1])
    assert "report longer than max_length=18 tokens: cut before ' CDFI shows" in caplog.text
    unseen = TokenizeTargetd(tokenizer, max_length=18)({"report": "Zygote."})
    assert unseen["target_ids"][:3].tolist()[0] == 1


@pytest.mark.parametrize("count", [1, 2, 6])
def test_one_or_six_images(count, tmp_path):
    names = [str(tmp_path / f"{index}.png") for index in range(count)]
    for index, name in enumerate(names):
        Image.new("L", (30 + index, 20), 40 * index).save(name)
    data = LoadViewsd(views=2, side=32)({"images": names})
    assert data["image"].shape == (2, 3, 32, 32) and data["view_mask"].tolist() == [True, count > 1]
    assert data["image"][1].unique().tolist() == [40 if count > 1 else 0]
    with pytest.raises(ValueError, match=r"image_size: 50 is no multiple of 32"):
        validation_transforms(views=2, size=50)


def test_what_inference_runs_over(tmp_path, caplog):
    for study in ("a", "b"):
        (tmp_path / "many" / study).mkdir(parents=True)
        for index in range(3):
            Image.new("L", (8, 8)).save(tmp_path / "many" / study / f"{index}.png")
    found = list_studies(image=str(tmp_path / "many"), data_dir=None, views=2)
    assert [(s["study"], len(s["images"])) for s in found] == [("a", 2), ("b", 2)]
    assert "3 images, the first 2 are read" in caplog.text
    (single,) = list_studies(image=str(tmp_path / "many" / "a" / "1.png"), data_dir=None, views=2)
    assert single["study"] == "1" and len(single["images"]) == 1
    (tmp_path / "many" / "1.2.840.1").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "many" / "1.2.840.1" / "x.png")
    dotted = list_studies(image=str(tmp_path / "many"), data_dir=None, views=2)
    assert dotted[0]["study"] == "1.2.840.1"
    (tmp_path / "many" / "a" / "masks").mkdir()
    assert len(list_studies(image=str(tmp_path / "many" / "a"), data_dir=None, views=2)[0]["images"]) == 2
    with pytest.raises(FileNotFoundError, match="image: no file or folder"):
        list_studies(image=str(tmp_path / "nothing"), data_dir=None, views=2)


def test_labels_are_the_data_sets_own_or_found(studies, tmp_path):
    own = [{**study, "label": index % 2} for index, study in enumerate(studies)]
    assert [s["label"] for s in labelled(studies=own, distiller=None, clusters=2, fit=True)][:3] == [0, 1, 0]
    with pytest.raises(ValueError, match=r"clusters: 1 must be above the largest label, 1; pass --clusters"):
        labelled(studies=own, distiller=None, clusters=1, fit=True)
    with pytest.raises(ValueError, match="the training studies have their own"):
        labelled(studies=studies, distiller=make_distiller(), clusters=2, fit=False)
    with pytest.raises(ValueError, match="labels: 2 training reports cannot be clustered"):
        labelled(studies=studies[:2], distiller=make_distiller(), clusters=3, fit=True)
    with pytest.raises(ValueError, match=r"labels: 1 of \d+ studies have one"):
        labelled(studies=[own[0], *studies[1:]], distiller=None, clusters=2, fit=True)
    distiller = make_distiller()
    found = labelled(studies=studies, distiller=distiller, clusters=3, fit=True)
    again = labelled(studies=studies[:5], distiller=distiller, clusters=3, fit=False)
    assert [s["label"] for s in again] == [s["label"] for s in found[:5]]
    save_labels(folder=str(tmp_path), distiller=distiller, studies=found, analyzer=str.split)
    loaded = saved_distiller(folder=str(tmp_path), vectorizer=CountVectorizer())
    assert [s["label"] for s in labelled(studies=studies[:5], distiller=loaded, clusters=3, fit=False)] == [
        s["label"] for s in again
    ]
    assert len(json.loads((tmp_path / "topics.json").read_text())) == 3
    save_labels(folder=str(tmp_path), distiller=make_distiller(), studies=own, analyzer=str.split)
    assert saved_distiller(folder=str(tmp_path), vectorizer=CountVectorizer()) is None  # the other one is gone
    assert saved_distiller(folder=str(tmp_path / "none"), vectorizer=CountVectorizer()) is None
    assert {s["label"] for s in labelled(studies=studies, distiller=None, clusters=2, fit=False)} == {-1}


def write(network, data, tokenizer):
    engine = SimpleNamespace(
        state=SimpleNamespace(device=torch.device("cpu")), network=network, fire_event=lambda _: None
    )
    return generate_step(engine, data, tokenizer=tokenizer, amp=False, explain=True)


def test_writing_tells_where_each_token_looks(batch, tokenizer):
    network = SGF(**SIZES, max_length=12)
    data = {"image": batch["image"], "view_mask": torch.tensor([[True, True], [True, False]] * 2)}
    output = write(network, data, tokenizer)
    attention = output["attention"]
    assert attention.shape == (4, 12, 2, 2, 2) and attention[1, :, 1].abs().max() == 0
    torch.testing.assert_close(attention.sum((2, 3, 4)), torch.ones(4, 12))
    hypotheses = network.eval().generate(data["image"], data["view_mask"])
    assert torch.equal(output["ids"], hypotheses.ids[:, 0])
    assert output["text"] == [tokenizer.decode(row) for row in hypotheses.ids[:, 0].tolist()]


def test_a_token_looks_where_its_value_matters():
    torch.manual_seed(3)
    network = SGF(**SIZES, max_length=6).eval()
    memory, visible, *_ = network.encode(torch.randn(1, 2, 3, 64, 64))
    ids = torch.tensor([[4, 5, 6]])
    weights = network.attention(ids, memory, visible, torch.zeros(1, 2, 3, 64, 64)).flatten(2)
    layer = network.report.decoder.layers[-1].cross_attention
    recorded = []
    layer.register_forward_hook(lambda module, inputs, _: recorded.append(module.weights(*inputs).mean(1)))
    network.report.decoder.hidden(torch.tensor([[2, 4, 5]]), memory, visible)
    torch.testing.assert_close(weights, recorded[0])


def test_sentences_and_their_picture(tokenizer, tmp_path):
    text = "No focal lesion is seen in the left lobe. The right lobe shows no focal lesion."
    ids = [token.id for token in tokenizer.encode(text)]
    item = {
        "ids": torch.tensor([*ids, 0, 0]),
        "log_probs": torch.tensor([-0.5] * len(ids) + [0.0, 0.0]),
        "attention": torch.ones(len(ids) + 2, 2, 3, 3),
    }
    item["attention"][0, 0, 1, 1] = 40.0  # a token of the first sentence looks there; the second looks everywhere
    sentences = sentences_of(item, tokenizer)
    assert [s.text for s in sentences] == [t.lower() + "." for t in text[:-1].split(". ")]
    assert sentences[0].probability == pytest.approx(np.exp(-0.5))
    Image.new("L", (40, 30), 90).save(tmp_path / "a.png")
    assert draw([str(tmp_path / "a.png")], sentences).size[1] == 160 + 28 + 28
    empty = {
        "ids": torch.zeros(3, dtype=torch.int64),
        "log_probs": torch.zeros(3),
        "attention": torch.zeros(3, 2, 1, 1),
    }
    assert sentences_of(empty, tokenizer) == []


def test_bleu_of_all_reports_together():
    metric = Bleu4(output_transform=lambda output: output)
    metric.update((["the left lobe is normal"], ["the left lobe is normal"]))
    metric.update((["x"], ["no flow is seen"]))
    assert 0 < metric.compute() < 1
    metric.reset()
    metric.update((["the left lobe is normal"], ["the left lobe is normal"]))
    assert metric.compute() == pytest.approx(1)


def test_the_distiller_finds_the_kinds_and_writes_labels(root, tmp_path):
    file = tmp_path / "reports.json"
    content = load_annotation(root / "thyroid.json")
    numbers = {kind: index for index, kind in enumerate(KINDS)}
    for split in content.values():
        for entry in split:
            entry["labels"] = numbers[entry["kind"]]
    content["val"][0]["finding"] = ""
    file.write_text(json.dumps(content), encoding="utf-8-sig")
    options = {
        "annotation": str(file), "data_dir": None, "vectorizer": TfidfVectorizer(), "dims": [2, 6], "sizes": [2, 6],
        "reducer": lambda n_components: TruncatedSVD(n_components, random_state=0),
        "clusterer": lambda n_clusters: KMeans(n_clusters, n_init=5, random_state=0),
        "size_name": "n_clusters", "analyzer": str.split,
    }  # fmt: skip
    distill(**options, output_dir=str(tmp_path / "out"))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["nmi_train"] > 0.4 and "nmi_test" in metrics
    written = load_annotation(tmp_path / "out" / "reports.json")
    assert "labels" not in written["val"][0] and {e["labels"] for e in written["train"]} <= set(range(6))
    assert [e["uid"] for e in written["test"]] == [e["uid"] for e in content["test"]]
    assert "://" not in (tmp_path / "out" / "index.html").read_text()
    with pytest.raises(ValueError, match="holds the annotation file itself"):
        distill(**options, output_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"sizes: \[40\] must be below 28"):
        distill(**{**options, "sizes": [40]}, output_dir=str(tmp_path / "few"))
    density = {**options, "size_name": "min_cluster_size", "sizes": [3, 4]}
    density["clusterer"] = lambda min_cluster_size: HDBSCAN(min_cluster_size=min_cluster_size, copy=True)
    distill(**density, output_dir=str(tmp_path / "density"))
    assert (tmp_path / "density" / "silhouette.png").is_file()


def test_a_broken_user_dictionary_is_one_clear_line(tmp_path):
    (tmp_path / "words.txt").write_bytes(b"\x81\xff\x00")
    with pytest.raises(ValueError, match=r"user_dictionary: .*words.txt' is no text in UTF-8.*save it as UTF-8"):
        ReportTokenizer.untrained(user_dictionary=str(tmp_path / "words.txt"))


def test_the_distiller_reads_reports_and_finds_files_as_a_training_does(tmp_path):
    texts = [None, "", "nan", "null", " None ", float("nan"), "A cyst.", 12]
    entries = [{"uid": number, "finding": text, "image_path": ["0.png"]} for number, text in enumerate(texts)]
    assert texts_of(entries) == ["", "", "", "", "", "", "A cyst.", "12"]
    content = {"train": entries, "val": [], "test": [{**entries[0], "finding": ["A cyst."]}]}
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(content))
    assert read_annotation(annotation="b.json", data_dir=str(tmp_path))[0] == tmp_path / "b.json"
    with pytest.raises(FileNotFoundError, match=r"annotation: no file 'c\.json', nor in"):
        read_annotation(annotation="c.json", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"finding of study 0 of .*b\.json' is \['A cyst\.'\], no text"):
        training_reports(content, tmp_path / "b.json")


@pytest.mark.parametrize("kind", ["tf_idf", "characters", "sentences", "svd", "hdbscan"])
def test_every_distiller_config_runs(kind, root, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    changes = {"dataset_dir": str(root), "output_dir": str(tmp_path / "out"), "dims": [2], "sizes": [3]}
    if kind == "svd":
        changes["annotation"] = "thyroid.json"
    if kind == "sentences":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        BertModel(BertConfig(vocab_size=40, **sizes)).save_pretrained(tmp_path / "bert")
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "thyroid", "lobe", "nodule", "lesion", "cystic", "solid"]
        (tmp_path / "bert" / "vocab.txt").write_text("\n".join(words))
        BertTokenizerFast(str(tmp_path / "bert" / "vocab.txt")).save_pretrained(tmp_path / "bert")
        changes["encoder"] = str(tmp_path / "bert")
    if kind != "svd":  # UMAP takes half a minute to load; its own run is the benchmark's and the first test's
        changes["reducer"] = {"_target_": "sklearn.decomposition.PCA", "_mode_": "callable", "random_state": 0}
        if kind in ("tf_idf", "characters", "hdbscan"):
            changes["reducer"]["_target_"] = "sklearn.decomposition.TruncatedSVD"
    workflow = ConfigWorkflow(
        config_file=["bundles/sgf/configs/distill.json", f"bundles/sgf/configs/distill/{kind}.json"],
        workflow_type="train", logging_file=False, **changes,
    )  # fmt: skip
    workflow.initialize()
    workflow.run()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["clusters"] >= 2 and (tmp_path / "out" / "thyroid.json").is_file()


@pytest.mark.slow
def test_the_distillers_own_config_runs_with_umap(root, tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundles/sgf/configs/distill.json"]
    flags = ["--dataset_dir", str(root), "--output_dir", str(tmp_path), "--sizes", "[2,6]", "--dims", "[2]"]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}  # of umap: compiling takes longer than these few reports
    subprocess.run([*command, *flags], cwd=ROOT, env=environment, check=True, timeout=280)
    assert (tmp_path / "index.html").is_file() and (tmp_path / "distiller.npz").is_file()
