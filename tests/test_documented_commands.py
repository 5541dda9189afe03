"""Every command of the documents: those that run MONAI are run, in the order of their page, at tiny sizes."""

import importlib
import re
import shlex

import numpy as np
import pytest
from monai.bundle import ConfigParser

from common.cli.overrides import is_known
from common.synthetic.thyroid import ThyroidOptions, write_synthetic
from tests.dicom_files import dicom_file
from tests.test_akessfa_pretrained_text import save_tiny_bert
from tests.test_bundle_contract import TINY, checked
from tests.test_documentation import CURRENT, ROOT
from tests.warm import Running, monai_bundle, on_ranks

BUNDLES = sorted(TINY)
FENCED = re.compile(r"```(.*?)```", re.DOTALL)
LINES = re.compile(r"(?:python|torchrun) [^\n`]*-m [^\n`]*")


def documented():
    """Each command of the pages, in their order; what stands in square brackets is given."""
    for page in CURRENT:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        parts = FENCED.split(text)
        parts[::2] = [re.sub(r"`[^`]*`", lambda span: span[0].replace("\n", " "), prose) for prose in parts[::2]]
        for line in LINES.findall("\n".join(parts)):
            yield re.sub(r" \[(--[^\]]*)\]", r" \1", line)


def words_of(line):
    """As the shell divides it: a comment begins at a word's beginning, and not within ``network_def#depth``."""
    return shlex.split(re.sub(r"(?<!\S)#.*", "", line))


COMMANDS = list({frozenset(words_of(line)): line for line in documented()}.values())


EXPORTS = [line for line in COMMANDS if "export_onnx" in line or "export_program" in line]  # run by test_export.py


def of_bundle(bundle):
    commands = [line for line in COMMANDS if "monai.bundle" in line and f"bundles/{bundle}/configs" in line]
    return [line for line in commands if line not in EXPORTS]


SMALL_CLIP = {"width": 64, "layers": 6, "text_width": 48, "text_layers": 1, "embed_dim": 32}


@pytest.fixture(scope="module", params=BUNDLES)
def home(request, tmp_path_factory):
    """A bundle's name, and the folder in which its commands find and leave their files."""
    return request.param, tmp_path_factory.mktemp(request.param)


def places_of(bundle, folder):
    names = {"ckpt_dir": "models", "output_dir": "eval", "synthetic_dir": "synthetic", "clip_dir": "models/clip",
             "features_dir": "features"}  # fmt: skip
    return {name: str(folder / place) for name, place in names.items()}


def filled_in(option, word, bundle, folder):
    """What a person puts in the place of a capital word, or of a file that only an example has."""
    data, models = folder / "synthetic", f"bundles/{bundle}/models"
    image = TINY[bundle]["image"]
    values = {
        "FILE_OR_FOLDER": data / (image.replace("images/", "masks/") if option == "--mask" else image),
        "FOLDER_OR_HUB_NAME": folder / ("bert" if bundle in ("akessfa", "d2rnet") else "models/clip"),
        "FOLDER": folder / "labelled" if option == "--output_dir" else data,
        "STUDIES": data,
        "NEW": folder / "models",
        "FILE": data / "thyroid.json",
        "FINETUNED": folder / "tuned",
        "TEXT": next(iter(TINY[bundle]["infer"].values()), ""),
        "clip.dcm": folder / "clip.dcm",
    }
    return str(values.get(word, word.replace(models, str(folder / "models"))))


def tiny(words, bundle, folder):
    """The overrides that make a command small and its files lie in ``folder``, where its configs know them."""
    files = re.findall(rf"bundles/{bundle}/configs/[\w/]+\.json", " ".join(words))
    config = ConfigParser(ConfigParser.load_config_files([str(ROOT / file) for file in files]))
    detector = any("detector" in file or "pseudo_label" in file for file in files)
    resnet = any(file.endswith("configs/resnet.json") for file in files)
    network = {} if detector else TINY[bundle]["resnet" if resnet else "network"]
    clip = {f"network_def#{name}": size for name, size in SMALL_CLIP.items()} | {
        "image_size": network.get("image_size")
    }
    sizes = {**TINY[bundle]["data"], **(clip if "pretrain_clip" in files[0] else network)}
    if any("small_clip" in file for file in files):
        sizes |= {f"clip_size#{name}": size for name, size in SMALL_CLIP.items()}
    training = TINY[bundle]["also"]["train_detector"] if detector else TINY[bundle]["train"]
    epochs = {"epochs": 1} if detector or len(files) > 1 else {}
    options = {**sizes, **training, **epochs, **places_of(bundle, folder), "overwrite": True}
    if any("published_clip" in file for file in files):
        options |= {"taps": [1, 3, 5], "max_length": 24}
    given = {word.lstrip("-").partition("=")[0] for word in words if word.startswith("--")}
    return [part for name, value in options.items() if name not in given and is_known(name, config)
            for part in (f"--{name}", str(value))]  # fmt: skip


def drawn(bundle):
    return ThyroidOptions(**{name.partition("#")[2]: value for name, value in TINY[bundle]["data"].items()})


def run(line, bundle, folder):
    words = words_of(line)
    words = [filled_in(option, word, bundle, folder) for option, word in zip(["", *words], words, strict=False)]
    arguments = words[words.index("monai.bundle") + 1 :]
    if "--dataset_dir" in arguments and not (folder / "synthetic").exists():
        write_synthetic(str(folder / "synthetic"), drawn(bundle))
    if "inference.json" in line and not (folder / "models" / "model.pt").is_file():  # the weights that come along
        write_synthetic(str(folder / "synthetic"), drawn(bundle))
        arguments += ["--output_dir", str(folder / "eval")]
    else:
        arguments += tiny(arguments, bundle, folder)
    if words[0] == "torchrun":
        return [checked(done, 0) for done in on_ranks(2, *arguments)]
    return [checked(monai_bundle(*arguments), 0)]


def turn_of(line):
    """Other networks come after the default, whose weights they replace; distilling reads what a training drew."""
    return 2 * ("distill" in line) + bool(re.search(r"configs/(resnet|pretrained_text)\.json|--views|--findings", line))


def test_every_command_runs_in_the_order_of_its_page(home):
    bundle, folder = home
    lines = sorted(of_bundle(bundle), key=turn_of)
    assert len(lines) >= 3
    save_tiny_bert(folder / "bert")
    dicom_file(folder / "clip.dcm", np.full((64, 64), 9, np.uint8))
    for line in lines:
        run(line, bundle, folder)
    assert {"metrics.json", "predictions.json", "index.html"} <= {file.name for file in (folder / "eval").iterdir()}


@pytest.mark.parametrize("line", [line for line in COMMANDS if "monai.bundle" not in line])
def test_what_else_is_documented_explains_itself(line):
    module, *flags = words_of(line.partition("-m ")[2])
    if module == "pytest":
        assert all((ROOT / flag).is_file() for flag in flags)
        return
    command = importlib.import_module(module)
    assert command.__doc__
    if module.startswith(("benchmarks", "common")):
        shown = checked(Running(["--help"], module=module).wait(), 0).stdout
        named = flags[: flags.index("--")] if "--" in flags else flags
        assert all(flag in shown for flag in named if flag.startswith("--")), shown
