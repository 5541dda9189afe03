"""The bundle contract, over every bundle: each command from the root, the bundle's folder and the unpacked zip."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow
from PIL import Image

from common.nn import recomputation
from common.pack import CLIP, pack
from tests.dicom_files import SECRETS, dicom_file, read
from tests.warm import alone, monai_bundle, on_ranks

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = sorted(path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json"))
TINY = json.loads((ROOT / "tests" / "tiny.json").read_text())
ABLATIONS = sorted(ROOT.glob("bundles/*/configs/ablations/*.json"))
VARIANTS = [
    *(f"{path.parents[2].name}/ablations/{path.stem}" for path in ABLATIONS if path.stem != "visual_prompts"),
    "clip_tnseg/cache_features",
    *(f"{bundle}/resnet" for bundle in ("akessfa", "d2rnet", "hfcn", "sgf")),
]
TRAINED = {f"models/{name}" for name in ("model.pt", "model.json", "model.ts", "report_tokenizer.json",
                                            "tokenizer.json", "detector.pt", "detector.json")} | {
    "models/detector_settings.json", "models/calibration.json", *(f"models/clip/{name}" for name in CLIP)}  # fmt: skip
PLACES = {"ckpt_dir": "models", "output_dir": "eval", "synthetic_dir": "synthetic"}
SCHEMA = Path(os.environ.get("MONAI_BUNDLE_SCHEMA", ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json"))


@pytest.fixture(params=BUNDLES, scope="session")
def bundle(request):
    return request.param


def flags(*groups, **more):
    return [part for group in (*groups, more) for name, value in group.items() for part in (f"--{name}", str(value))]


def execute(command, cwd, expect=0):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280)
    return checked(done, expect)


def checked(done, expect):
    assert (done.returncode == 0) == (expect == 0), done.stdout[-3000:] + done.stderr[-3000:]
    return done


def monai(command, *arguments, cwd=ROOT, expect=0):
    """Run MONAI's command line in a fork of this process."""
    return checked(monai_bundle(command, *arguments, cwd=cwd), expect)


def train_files(bundle, *names):
    return str([f"bundles/{bundle}/configs/{name}.json" for name in ("train", *names)])


def smallest(bundle):
    """Config to merge last, and sizes, of the network that takes the fewest steps: a ResNet where there is one."""
    names = ["resnet"] if "resnet" in TINY[bundle] else []
    return names, TINY[bundle].get("resnet", TINY[bundle]["network"])


@pytest.fixture(scope="session")
def made_of(tmp_path_factory):
    """A bundle's tiny training, made once: its folder, and the overrides that the next commands need."""
    return functools.cache(lambda bundle: train_tiny(bundle, tmp_path_factory.mktemp(bundle)))


@pytest.fixture(scope="session")
def made(bundle, made_of):
    return made_of(bundle)


def train_tiny(bundle, folder):
    """Train from the repository's root."""
    tiny = TINY[bundle]
    places = {name: folder / place for name, place in PLACES.items()}
    common = flags(tiny["network"], tiny["data"], places)
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/train.json", *common, *flags(tiny["train"]))
    assert re.search(r"epoch 2/2 \| loss .* \| validation ", done.stdout), done.stdout
    train_also(bundle, monai, f"bundles/{bundle}/configs/", **places)
    return folder, common


def train_also(bundle, run, configs, **places):
    """Train the other networks that the bundle's inference needs, by ``run``."""
    for name, options in TINY[bundle].get("also", {}).items():
        run("run", "--config_file", f"{configs}{name}.json", *flags(TINY[bundle]["data"], options, places))


def inference_flags(bundle, folder, **changes):
    tiny = TINY[bundle]
    image = folder / "synthetic" / tiny["image"]
    places = {"ckpt_dir": folder / "models", "output_dir": folder / "predictions", "image": image, **changes}
    return flags(tiny["network"], places)


def test_training_leaves_weights_state_and_nothing_else(made, bundle):
    folder, _ = made
    assert {"model.pt", "checkpoint.pt"} <= {file.name for file in (folder / "models").iterdir()}
    assert not list((folder / "models").glob("*.part"))
    torch.load(folder / "models" / "model.pt", weights_only=True)
    checkpoint = torch.load(folder / "models" / "checkpoint.pt", weights_only=True)
    assert {"network", "optimizer", "trainer", "best"} <= checkpoint.keys()


def test_evaluation_writes_flat_metrics_and_a_row_a_case(made, bundle):
    folder, common = made
    monai("run", "--config_file", train_files(bundle, "evaluate"), *common)
    metrics = json.loads((folder / "eval" / "metrics.json").read_text())
    values = [value for value in metrics.values() if value is not None]  # a share of nothing is null
    assert len(values) > len(metrics) / 2 and all(isinstance(value, float) and np.isfinite(value) for value in values)
    assert len((folder / "eval" / "per_case.csv").read_text().splitlines()) > 1


def test_a_trained_folder_knows_how_it_was_trained(made, bundle):
    folder, _ = made
    places = flags({name: folder / place for name, place in PLACES.items()}, TINY[bundle]["data"])
    inference = f"bundles/{bundle}/configs/inference.json"
    monai("run", "--config_file", train_files(bundle, "evaluate"), *places)
    image = folder / "synthetic" / TINY[bundle]["image"]
    own = flags(ckpt_dir=folder / "models", output_dir=folder / "known", image=image, **TINY[bundle]["infer"])
    monai("run", "--config_file", inference, *own)
    done = monai("run", "--config_file", inference, *own, "--image_size", "96", expect=1)
    assert re.fullmatch(
        r"ValueError: --image_size: 96, but the model .* was trained with \d+; leave it out", one_line(done)
    )


def test_a_training_that_fails_leaves_the_model_as_it_was(made, bundle):
    folder, common = made
    before = {path: path.read_bytes() for path in (folder / "models").rglob("*") if path.is_file()}
    options = flags({**TINY[bundle]["train"], "batch_size": 5000, "vocab_size": 99, "seed": 1})
    monai("run", "--config_file", f"bundles/{bundle}/configs/train.json", *common, *options, expect=1)
    assert before == {path: path.read_bytes() for path in (folder / "models").rglob("*") if path.is_file()}


@pytest.mark.parametrize("bundle", [name for name in BUNDLES if name != "hfcn"], indirect=True)
def test_a_tokenizer_of_another_training_is_refused(made, bundle, tmp_path):
    folder, _ = made
    models = shutil.copytree(folder / "models", tmp_path / "models")
    tokenizer = next(models / name for name in ("report_tokenizer.json", "tokenizer.json") if (models / name).exists())
    tokenizer.write_bytes(tokenizer.read_bytes().replace(b"nodule", b"module").replace(b"heart", b"earth"))
    arguments = inference_flags(bundle, folder, ckpt_dir=models, output_dir=tmp_path / "out")
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments, expect=1)
    assert "is not the file that model.json was written with" in one_line(done) and not (tmp_path / "out").exists()


def test_an_answer_that_is_no_number_is_no_empty_finding(made, bundle, tmp_path):
    folder, _ = made
    shutil.copytree(folder / "models", tmp_path / "models")
    (tmp_path / "models" / "model.json").unlink()  # tells of a file that was changed
    weights = tmp_path / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    for value in [value for value in state.values() if value.is_floating_point()][-2:]:
        value.fill_(float("nan"))
    torch.save(state, weights)
    places = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "out"}
    arguments = inference_flags(bundle, folder, **places, **TINY[bundle]["infer"])
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments, expect=1)
    assert re.search(r"(image|study): '.*': the network's answer is no number \(NaN in ", done.stderr)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == []
    _, common = made
    done = monai("run", "--config_file", train_files(bundle, "evaluate"), *common, *flags(places), expect=1)
    assert "the network's answer is no number (NaN in " in one_line(done)


@pytest.fixture(scope="session")
def inferred(made, bundle):
    """What inference of a picture wrote: its folder, and the entry of the predictions."""
    folder, _ = made
    arguments = inference_flags(bundle, folder, **TINY[bundle]["infer"])
    monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments)
    out = folder / "predictions"
    (prediction,) = json.loads((out / "predictions.json").read_text())
    return out, prediction


def test_inference_writes_its_results(made, inferred, bundle):
    (folder, _), (out, prediction) = made, inferred
    assert TINY[bundle]["infer"].items() <= prediction.items()
    for name in TINY[bundle]["results"]:
        assert (out / name).stat().st_size > 0
    image = Image.open(folder / "synthetic" / TINY[bundle]["image"])
    masks = [name for name in TINY[bundle]["results"] if name.endswith("_mask.png")]
    assert all(Image.open(out / name).size == image.size for name in masks)
    assert "://" not in (out / "index.html").read_text()


def test_an_inference_runs_twice(made, bundle, tmp_path):
    """What its first run laid out anew for the CPU is not loaded over."""
    folder, _ = made
    (tmp_path / "twice.json").write_text(json.dumps({"+run": ["$@evaluator.run()"]}))
    config = str([f"bundles/{bundle}/configs/inference.json", str(tmp_path / "twice.json")])
    arguments = inference_flags(bundle, folder, output_dir=tmp_path / "out", **TINY[bundle]["infer"])
    done = monai("run", "--config_file", config, *arguments)
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 1
    assert (done.stdout + done.stderr).count("replaced where names are the same") == 1


def test_a_dicom_image_is_seen_as_its_picture_and_answered_in_dicom(made, inferred, bundle, tmp_path):
    (folder, _), (out, expected) = made, inferred
    pixels = np.asarray(Image.open(folder / "synthetic" / TINY[bundle]["image"]).convert("L"))
    whole = {"WindowCenter": "127.5", "WindowWidth": "255", "PixelSpacing": [0.1, 0.2]}
    image = dicom_file(tmp_path / "image.dcm", pixels, **whole)
    places = {"image": image, "output_dir": tmp_path / "out", "dicom_results": True}
    arguments = inference_flags(bundle, folder, **TINY[bundle]["infer"], **places)
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments)
    (prediction,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    for key in expected.keys() & {"report", "prob", "nodule_area_share", "class"}:
        assert prediction[key] == expected[key], key
    for name in (name for name in TINY[bundle]["results"] if name.endswith("_mask.png")):
        masks = [np.asarray(Image.open(f)) for f in (out / name, tmp_path / "out" / "image_mask.png")]
        assert (masks[0] == masks[1]).all()
    objects = [read(tmp_path / "out" / prediction[key]) for key in prediction if key.startswith("dicom_")]
    assert objects and all(found.StudyInstanceUID == read(image).StudyInstanceUID for found in objects)
    written = done.stdout + done.stderr + (tmp_path / "out" / "predictions.json").read_text()
    assert not [secret for secret in SECRETS if secret in written]


def test_interrupted_and_resumed_equals_uninterrupted(made, bundle):
    folder, common = made
    tiny = flags({**TINY[bundle]["train"]}, ckpt_dir=folder / "resumed")
    files = f"bundles/{bundle}/configs/train.json"
    monai("run", "--config_file", files, *common, *tiny, "--train#trainer#max_epochs", "1")
    monai("run", "--config_file", files, *common, *tiny, "--resume", "true")
    states = [
        torch.load(folder / name / "checkpoint.pt", weights_only=True)["network"] for name in ("models", "resumed")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_resumed_training_may_be_longer_and_not_shorter(made, bundle):
    folder, common = made
    longer = folder / "longer"
    shutil.copytree(folder / "models", longer)
    options = flags({**TINY[bundle]["train"], "epochs": 3}, ckpt_dir=longer, resume=True)
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/train.json", *common, *options)
    assert re.search(r"epoch 3/3 \| loss ", done.stdout) and "epoch 2/3" not in done.stdout
    options = flags({**TINY[bundle]["train"], "epochs": 2}, ckpt_dir=longer, resume=True)
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/train.json", *common, *options, expect=1)
    assert re.fullmatch(r"ValueError: epochs: 2; .* has reached 3; pass --epochs 3 or more", one_line(done))
    options = flags({**TINY[bundle]["train"], "epochs": 4, "batch_size": 1}, ckpt_dir=longer, resume=True)
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/train.json", *common, *options, expect=1)
    assert re.match(r"ValueError: resume: .* batches an epoch, this training \d+; pass the batch size", one_line(done))
    options = flags({**TINY[bundle]["train"], "epochs": 4, "learning_rate": 0.5}, ckpt_dir=longer, resume=True)
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/train.json", *common, *options, expect=1)
    assert re.match(r"ValueError: resume: .* goes on with .*, this training has learning rates .*0\.5", one_line(done))


def test_too_few_cases_for_one_batch_is_one_line(made, bundle):
    folder, common = made
    options = flags({**TINY[bundle]["train"], "batch_size": 5000}, ckpt_dir=folder / "few")
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/train.json", *common, *options, expect=1)
    message = r"ValueError: batch_size: \d+ training cases fill no batch of 5000; pass a smaller --batch_size"
    assert re.fullmatch(message, one_line(done))


def test_with_less_memory_it_learns_the_same(made, bundle, tmp_path):
    folder, common = made
    options = flags(TINY[bundle]["train"], ckpt_dir=tmp_path, gradient_checkpointing="true")

    def counted():
        real = recomputation.checkpoint
        recomputation.checkpoint = lambda *a, **k: ((tmp_path / "recomputed").touch(), real(*a, **k))[1]

    checked(monai_bundle("run", "--config_file", train_files(bundle), *common, *options, before=counted), 0)
    assert (tmp_path / "recomputed").is_file()
    plain, other = (torch.load(place / "model.pt", weights_only=True) for place in (folder / "models", tmp_path))
    assert plain.keys() == other.keys() and all(torch.equal(plain[name], other[name]) for name in plain)


def test_the_best_two_are_models_of_their_own(made_of, tmp_path):
    bundle = "sgf"
    _, common = made_of(bundle)
    best = tmp_path / "models" / "best" / "model"
    options = [*common, *flags(TINY[bundle]["train"], ckpt_dir=tmp_path / "models", keep_best=2, epochs=2)]
    monai("run", "--config_file", train_files(bundle), *options)
    assert [path.name for path in sorted(best.iterdir())] == ["epoch_0001", "epoch_0002"]
    last = [*common, *flags(ckpt_dir=best / "epoch_0002", output_dir=tmp_path / "eval")]
    monai("run", "--config_file", train_files(bundle, "evaluate"), *last)
    assert (tmp_path / "eval" / "metrics.json").is_file()
    monai("run", "--config_file", train_files(bundle), *options, "--epochs", "3", "--resume", "true")
    assert len(list(best.iterdir())) == 2
    monai("run", "--config_file", train_files(bundle), *common, *flags(TINY[bundle]["train"], epochs=1,
          ckpt_dir=tmp_path / "models"))  # fmt: skip
    kept = list((tmp_path / "models" / "earlier").glob("*/best/model/epoch_*/model.pt"))
    assert not best.exists() and len(kept) == 2


def test_in_float16_it_trains_and_goes_on(made, bundle, tmp_path):
    _, common = made
    half = [*common, *flags(ckpt_dir=tmp_path, amp="float16")]
    monai("run", "--config_file", train_files(bundle), *half, *flags(TINY[bundle]["train"], epochs=1))
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    saved["scaler"]["scale"] *= 3  # as no scale becomes of itself
    torch.save(saved, tmp_path / "checkpoint.pt")
    done = monai("run", "--config_file", train_files(bundle), *half, *flags(TINY[bundle]["train"]), "--resume", "true")
    assert re.search(r"epoch 2/2 \| loss ", done.stdout)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["optimizer"]["state"]  # a step was taken
    assert all(value.isfinite().all() for value in saved["network"].values())
    assert float(np.log2(saved["scaler"]["scale"] / 3)).is_integer()


def test_compiled_it_trains(made_of, tmp_path):
    _, common = made_of("hfcn")

    def traced():  # and not made a program of, which takes minutes
        real = torch.compile
        torch.compile = lambda module: ((tmp_path / "compiled").touch(), real(module, backend="eager"))[1]

    options = [*common, *flags(TINY["hfcn"]["train"], epochs=1, ckpt_dir=tmp_path, compile="true")]
    checked(monai_bundle("run", "--config_file", train_files("hfcn"), *options, before=traced), 0)
    assert (tmp_path / "compiled").is_file()
    plain = torch.load(made_of("hfcn")[0] / "models" / "model.pt", weights_only=True)
    assert torch.load(tmp_path / "model.pt", weights_only=True).keys() == plain.keys()


def test_finetuning_starts_from_the_pretrained_network(made, bundle):
    folder, common = made
    if not (ROOT / f"bundles/{bundle}/configs/finetune.json").is_file():
        pytest.skip(f"{bundle} has no configs/finetune.json")
    network = flags({**TINY[bundle]["network"], "image_size": 96})  # not the size that the network was trained at
    rates = {"learning_rate": 0, "encoder_learning_rate": 0}
    quick = {**TINY[bundle]["train"], **rates, "epochs": 1, "ckpt_dir": folder / "finetuned"}
    start = ["--config_file", train_files(bundle, "finetune"), *common, *network, *flags(quick)]
    monai("run", *start, "--pretrained", str(folder / "models"))
    before, after = (torch.load(folder / name / "model.pt", weights_only=True) for name in ("models", "finetuned"))
    measured = ("running_mean", "running_var", "num_batches_tracked", "threshold")
    learned = {name for name in before if not name.endswith(measured) and not name.startswith("mask_branch.")}
    assert all(torch.equal(before[name], after[name]) for name in learned)
    done = monai("run", *start, "--pretrained", "nowhere", expect=1)
    assert re.match(r"FileNotFoundError: (pretrained|tokenizer): no file .*nowhere", one_line(done)), done.stderr


@pytest.mark.parametrize("config", VARIANTS)
def test_every_further_config_trains(made_of, config, tmp_path, monkeypatch):
    bundle, name = config.split("/", 1)
    folder, _ = made_of(bundle)
    monkeypatch.chdir(ROOT)
    places = {"ckpt_dir": tmp_path, "output_dir": tmp_path, "synthetic_dir": folder / "synthetic"}
    options = {**TINY[bundle]["network"], **TINY[bundle]["data"], **TINY[bundle]["train"], "epochs": 1}
    known = ConfigParser.load_config_file(f"bundles/{bundle}/configs/{name}.json")
    if "features_dir" in known:
        places["features_dir"] = tmp_path / "features"
    workflow = ConfigWorkflow(
        config_file=[f"bundles/{bundle}/configs/train.json", f"bundles/{bundle}/configs/{name}.json"],
        workflow_type="train",
        logging_file=False,
        **{key: str(value) for key, value in places.items()},
        **{key: value for key, value in options.items() if not any(f"{key}#".startswith(f"{id}#") for id in known)},
    )
    workflow.initialize()
    workflow.run()
    assert {"model.pt", "checkpoint.pt"} <= {file.name for file in tmp_path.iterdir()}


def test_metadata_follows_the_schema(bundle):
    if not SCHEMA.is_file():
        pytest.skip("no schema file: set MONAI_BUNDLE_SCHEMA to meta_schema_20240725.json")
    metadata = f"bundles/{bundle}/configs/metadata.json"
    done = monai("verify_metadata", "--meta_file", metadata, "--filepath", str(SCHEMA))
    assert "metadata is verified with no error" in done.stdout + done.stderr
    content = json.loads((ROOT / metadata).read_text())
    assert content["version"] in content["changelog"]


@pytest.mark.parametrize("kind", ["train", "evaluate", "inference"])
def test_properties_are_complete(made, bundle, kind, monkeypatch):
    folder, _ = made
    monkeypatch.chdir(ROOT)
    names = {"train": ["train"], "evaluate": ["train", "evaluate"], "inference": ["inference"]}[kind]
    workflow = ConfigWorkflow(
        config_file=[f"bundles/{bundle}/configs/{name}.json" for name in names],
        meta_file=f"bundles/{bundle}/configs/metadata.json",
        workflow_type="infer" if kind == "inference" else "train",
        logging_file=False,
        **{name: str(folder / place) for name, place in PLACES.items()},
        **TINY[bundle]["network"],
        **TINY[bundle]["data"],
        **(
            {}
            if kind == "inference"
            else {k: v for k, v in TINY[bundle]["train"].items() if k in ("batch_size", "encoder_weights")}
        ),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_shared_entries_of_the_configs_are_equal(bundle):
    train, inference = (
        ConfigParser.load_config_file(ROOT / f"bundles/{bundle}/configs/{n}.json") for n in ("train", "inference")
    )
    for key in ("bundle_root", "image_size", "vocab_size", "max_length", "synthetic"):
        assert train.get(key) == inference.get(key), key
    without_notes = {k: v for k, v in train["network_def"].items() if k != "_desc_"}
    assert without_notes == inference["network_def"]


def test_net_in_out(made, bundle):
    arguments = flags(TINY[bundle]["network"], n=2)
    config = f"bundles/{bundle}/configs/inference.json"
    done = monai(
        "verify_net_in_out",
        "network_def",
        "--meta_file",
        f"bundles/{bundle}/configs/metadata.json",
        "--config_file",
        config,
        *arguments,
    )
    assert "verified with no error" in done.stdout + done.stderr


def test_monais_own_onnx_export(made, bundle):
    folder, _ = made
    config, metadata = (f"bundles/{bundle}/configs/{name}.json" for name in ("inference", "metadata"))
    places = {
        "filepath": folder / "image_only.onnx",
        "ckpt_file": folder / "models" / "model.pt",
        "input_shape": str([1, *TINY[bundle]["inputs"]["image"]]),
    }
    monai(
        "onnx_export",
        "network_def",
        "--meta_file",
        metadata,
        "--config_file",
        config,
        *flags(places, TINY[bundle]["network"]),
    )
    assert (folder / "image_only.onnx").stat().st_size > 0


def test_from_the_bundles_folder(made, bundle):
    folder, common = made
    here = ROOT / "bundles" / bundle
    before = {path for path in here.rglob("*") if "__pycache__" not in path.parts}
    quick = flags({**TINY[bundle]["train"], "epochs": 1}, ckpt_dir=folder / "here", output_dir=folder / "here_eval")
    evaluation = flags(ckpt_dir=folder / "here", output_dir=folder / "here_eval")
    for files, options in (
        ("configs/train.json", quick),
        ("['configs/train.json','configs/evaluate.json']", evaluation),
    ):
        checked(monai_bundle("run", "--config_file", files, *common, *options, cwd=here, before=alone), 0)
    assert (folder / "here_eval" / "metrics.json").is_file()
    assert {path for path in here.rglob("*") if "__pycache__" not in path.parts} == before


def test_the_unpacked_zip_needs_nothing_else_and_no_package_that_its_metadata_do_not_name(made, bundle, tmp_path):
    archive = pack(ROOT / "bundles" / bundle, tmp_path / "dist")
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "empty")
    here, tiny = tmp_path / "empty" / bundle, TINY[bundle]
    assert not list(here.rglob("checkpoint.pt")) and (here / "LICENSE").is_file()

    commands = []
    common, files = flags(tiny["network"], tiny["data"]), ["configs/train.json", "configs/evaluate.json"]
    commands.append(["run", "--config_file", files[0], *common, *flags({**tiny["train"], "epochs": 1})])
    commands.append(["run", "--config_file", str(files), *common])
    train_also(bundle, lambda *arguments: commands.append(arguments), "configs/")
    image = here / "data" / "synthetic" / tiny["image"]
    commands.append(["run", "--config_file", "configs/inference.json", *flags(tiny["network"], image=image)])
    done = execute([sys.executable, ROOT / "tests" / "named_packages.py", json.dumps(commands)], here)
    loaded = dict(re.findall(r"LOADED (\S+) (\S+)", done.stdout))
    assert all(Path(path).is_relative_to(here) for path in loaded.values()) and loaded.keys() == {"common", bundle}
    assert {"metrics.json", "predictions.json"} <= {path.name for path in (here / "eval").iterdir()}

    def run(*arguments):
        return checked(monai_bundle(*arguments, cwd=here, before=alone), 0)

    export = flags(tiny["network"], filepath="models/model.ts", ckpt_file="models/model.pt")
    configs = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json"]
    run("ckpt_export", "network_def", *configs, *export)
    run("verify_net_in_out", "network_def", *configs, *flags(tiny["network"], n=2))
    again = {Path(name) for name in zipfile.ZipFile(pack(here, tmp_path / "again")).namelist()}
    new = {
        name.relative_to(bundle).as_posix() for name in again - {Path(n) for n in zipfile.ZipFile(archive).namelist()}
    }
    assert new <= TRAINED, new  # no result, picture, checkpoint or report of any command above goes along


def test_two_ranks_give_the_metrics_of_one_process(made, bundle):
    folder, common = made
    places = flags({**TINY[bundle]["train"], "epochs": 1}, ckpt_dir=folder / "ranks", output_dir=folder / "ranks_eval",
                   amp=False)  # bfloat16 rounds by the size of a batch  # fmt: skip
    arguments = ["--config_file", train_files(bundle, "multi_gpu_train"), *common, *places]
    if bundle == "sgf":  # torchrun itself; the others as it starts them
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        done = execute([*torchrun, "-m", "monai.bundle", "run", *arguments], ROOT)
    else:
        done, _ = (checked(rank, 0) for rank in on_ranks(2, "run", *arguments))
    distributed = dict(re.findall(r"(\w+) (\d\.\d+)", done.stdout.split("| validation ")[-1].split("|")[0]))
    arguments = flags(ckpt_dir=folder / "ranks", output_dir=folder / "ranks_eval", split="validation", amp=False)
    arguments += flags(flips=False) if bundle == "clip_tnseg" else []  # as a training validates
    monai("run", "--config_file", train_files(bundle, "evaluate"), *common, *arguments)
    single = json.loads((folder / "ranks_eval" / "metrics.json").read_text())
    key = next(iter(distributed))
    assert float(distributed[key]) == pytest.approx(single[key], abs=2e-3)


def one_line(done):
    """What the user sees last, and that there is no traceback above it."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return lines[-1]


def test_an_unknown_override_is_refused_with_the_nearest(bundle):
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/train.json", "--epoch", "5", expect=1)
    assert one_line(done) == "--epoch: the config files have no such id; the nearest is --epochs"


@pytest.mark.parametrize("missing", ["weights", "image", "dataset_dir"])
def test_a_missing_file_is_one_line(made, bundle, missing):
    folder, _ = made
    if missing == "dataset_dir":
        done = monai(
            "run", "--config_file", f"bundles/{bundle}/configs/train.json", "--dataset_dir", "nowhere", expect=1
        )
    else:
        arguments = inference_flags(bundle, folder, **{missing: "nowhere.pt"})
        done = monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments, expect=1)
    assert re.match(rf"\w+Error: {missing}: no .*nowhere.*", one_line(done)), done.stderr


def test_a_corrupt_image_is_one_line_and_nothing_is_overwritten(made, bundle, tmp_path):
    folder, _ = made
    (tmp_path / "broken.png").write_bytes(b"no picture")
    arguments = inference_flags(bundle, folder, image=tmp_path / "broken.png", output_dir=tmp_path / "out")
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments, expect=1)
    assert re.match(r"ValueError: image: .*broken.png' is damaged or no image", one_line(done))
    assert not (tmp_path / "out").exists()


def test_one_bad_file_does_not_end_a_folder(made, bundle, tmp_path):
    folder, _ = made
    source = folder / "synthetic" / TINY[bundle]["image"]
    studies = bundle in ("sgf", "d2rnet")
    names = ("one/a.png", "two/bad.jpg", "three/c.png") if studies else ("a.png", "bad.jpg", "c.png")
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(source).convert("L").resize((200, 200)).save(tmp_path / "in" / name)
    bad = tmp_path / "in" / names[1]
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    arguments = inference_flags(bundle, folder, image=tmp_path / "in", output_dir=tmp_path / "out")
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments, expect=1)
    assert re.match(
        r"ValueError: 1 left out, named in .*failures.json'; the others are done; the first: ", one_line(done)
    )
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) == 2
    (left_out,) = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert "bad" in left_out or "two" in left_out
    bad.unlink()
    if studies:
        bad.parent.rmdir()
    first = json.loads((tmp_path / "out" / "predictions.json").read_text())[0]
    pictures = [str(value) for value in first.values() if str(value).endswith(".png") and "/" not in str(value)]
    file = tmp_path / "out" / ("a_mask.png" if bundle in ("akessfa", "clip_tnseg") else pictures[0])
    file.unlink()
    (file / "x").mkdir(parents=True)  # nothing can be written there
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments, expect=1)
    assert re.match(r"ValueError: 1 left out, named in .*could not be written", one_line(done))
    shutil.rmtree(file)
    monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments)
    assert not (tmp_path / "out" / "failures.json").exists()


def test_one_bad_header_does_not_end_a_folder(made, bundle, tmp_path, monkeypatch):
    folder, _ = made
    pixels = np.asarray(Image.open(folder / "synthetic" / TINY[bundle]["image"]).convert("L"))
    for name in "abc":
        place = tmp_path / "in" / name if bundle in ("sgf", "d2rnet") else tmp_path / "in"
        place.mkdir(parents=True, exist_ok=True)
        path = dicom_file(place / f"{name}.dcm", pixels)
        if name == "b":
            data = read(path)
            del data.StudyInstanceUID
            data.save_as(path)
    places = {"image": tmp_path / "in", "output_dir": tmp_path / "out", "dicom_results": True}
    arguments = inference_flags(bundle, folder, **places)
    done = monai("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments, expect=1)
    assert "1 left out" in one_line(done) and "no StudyInstanceUID" in one_line(done)
    predictions = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [any(key.startswith("dicom_") for key in entry) for entry in predictions] == [True, False, True]


def test_several_bundles_in_one_process(monkeypatch):
    monkeypatch.chdir(ROOT)
    kinds = set()
    for bundle in BUNDLES:
        config = f"bundles/{bundle}/configs/inference.json"
        workflow = create_workflow(config_file=config, workflow_type="infer", logging_file=False)
        network = workflow.parser.get_parsed_content("network_def")
        kinds.add(type(network).__module__)
        assert type(network).__module__.split(".")[0] == bundle
    assert len(kinds) == len(BUNDLES)
