"""Synthetic thyroid studies: an image of each lobe, and one report on both, in SGF's published form.

Each study has one of six kinds of finding (:data:`KINDS`), which sets how its nodules look and how its report speaks;
so reports fall into clusters, and a study's cluster can be seen in its images. What the report states about a nodule
is drawn in its image, and the trachea tells the lobes apart; the lymph nodes' state can only be guessed from the kind.
Read back through :func:`common.datasets.studies.read_studies`, as real data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.cli.atomic import whole_folder
from common.datasets.annotation import SPLITS, save_annotation
from common.datasets.splits import split_ids
from common.synthetic.folder import existing_or_made
from common.synthetic.thyroid import COLUMNS, ROWS
from common.synthetic.thyroid_phantom import Nodule, draw

LOBES = ("left", "right")


@dataclass(frozen=True)
class StudyOptions:
    """What a synthetic set of studies holds.

    Args:
        studies: patients, each with two images and one report.
        size: height and width of an image in pixels.
        language: ``"en"`` or ``"zh"``.
        seed: the same seed gives the same files.
    """

    studies: int = 800
    size: int = 96
    language: str = "en"
    seed: int = 0


@dataclass(frozen=True)
class Kind:
    """A kind of finding: how often it comes, and what its nodules may look like."""

    share: float
    echogenicity: Sequence[str] = ()
    composition: str = "solid"
    shape: Sequence[str] = ("round", "wider-than-tall")
    margin: Sequence[str] = ("smooth",)
    foci: str = "none"


KINDS = {
    "normal": Kind(0.20),
    "cyst": Kind(0.20, ["anechoic"], "cystic"),
    "colloid": Kind(0.15, ["isoechoic"], "mixed", foci="comet-tail"),
    "adenoma": Kind(0.20, ["isoechoic", "hyperechoic"]),
    "suspicious": Kind(
        0.15, ["hypoechoic"], shape=["taller-than-wide"], margin=["irregular", "ill-defined"], foci="punctate"
    ),
    "calcified": Kind(0.10, ["hypoechoic"], margin=["ill-defined"], foci="macrocalcification"),
}  # fmt: skip
WORDS = {
    "en": {
        "left": "left", "middle": "middle", "right": "right", "upper": "upper", "lower": "lower",
        "solid": "solid", "mixed": "partly cystic", "cystic": "cystic",
        "anechoic": "anechoic", "hypoechoic": "hypoechoic", "isoechoic": "isoechoic", "hyperechoic": "hyperechoic",
        "taller-than-wide": "taller than wide", "round": "round", "wider-than-tall": "wider than tall",
        "smooth": "smooth", "ill-defined": "ill-defined", "irregular": "irregular",
    },
    "zh": {
        "left": "左侧", "middle": "中部", "right": "右侧", "upper": "上份", "lower": "下份",
        "solid": "实性", "mixed": "囊实性", "cystic": "囊性",
        "anechoic": "无回声", "hypoechoic": "低回声", "isoechoic": "等回声", "hyperechoic": "高回声",
        "taller-than-wide": "纵径大于横径", "round": "圆形", "wider-than-tall": "椭圆形",
        "smooth": "光滑", "ill-defined": "模糊", "irregular": "不规则",
    },
}  # fmt: skip
LOBE_NAMES = {"en": {"left": "left lobe", "right": "right lobe"}, "zh": {"left": "左叶", "right": "右叶"}}
NODULES = {
    "en": [
        "In the {row} {column} part of the {lobe} there is a {composition} {echogenicity} nodule, {shape} in shape, "
        "with a {margin} margin.",
        "The {lobe} shows a {echogenicity} {composition} nodule in the {row} {column} part, {shape} in shape, "
        "its margin {margin}.",
    ],
    "zh": [
        "{lobe}{column}{row}可见{composition}{echogenicity}结节，形态{shape}，边缘{margin}。",
        "甲状腺{lobe}{column}{row}探及{echogenicity}{composition}结节，呈{shape}，边缘{margin}。",
    ],
}
FOCI = {
    "en": {
        "none": "", "comet-tail": "It holds comet-tail artifacts.", "punctate": "It holds punctate echogenic foci.",
        "macrocalcification": "A coarse calcification casts a shadow.",
    },
    "zh": {
        "none": "", "comet-tail": "内见彗星尾征。", "punctate": "内见点状强回声。",
        "macrocalcification": "内见粗大钙化伴声影。",
    },
}  # fmt: skip
EMPTY = {
    "en": ["No focal lesion is seen in the {lobe}.", "The {lobe} shows no focal lesion."],
    "zh": ["{lobe}未见占位性病变。", "甲状腺{lobe}未见明显占位。"],
}
GLAND = {
    "en": ["The thyroid is normal in size.", "The thyroid gland is of normal size and homogeneous."],
    "zh": ["甲状腺大小形态正常。", "甲状腺大小正常，腺体回声均匀。"],
}
FLOW = {
    "en": {True: "CDFI shows flow within the nodule.", False: "CDFI shows no increased flow."},
    "zh": {True: "CDFI：结节内可见血流信号。", False: "CDFI：未见异常血流信号。"},
}
LYMPH_NODES = {
    "en": {True: "An enlarged lymph node is seen in the neck.", False: "No enlarged lymph node is seen."},
    "zh": {True: "颈部可见肿大淋巴结。", False: "颈部未见肿大淋巴结。"},
}


def studies_or_synthetic(*, dataset_dir: str | None, synthetic_dir: str, options: dict) -> str:
    """As :func:`common.synthetic.thyroid.dataset_or_synthetic`, for studies."""
    targets = StudyOptions(**options)
    return existing_or_made(dataset_dir, synthetic_dir, asdict(targets), lambda root: write_studies(root, targets))


def write_studies(root: str, options: StudyOptions) -> None:
    """Write ``Thyroid_report/``, ``thyroid.json``, ``options.json`` under ``root``, whole or not at all.

    Each entry also tells its ``kind``, which no reader passes on.
    """
    rng = np.random.default_rng(options.seed)
    with whole_folder(root) as folder:
        (folder / "Thyroid_report").mkdir(parents=True)
        entries = {
            f"S{index:04d}": _write_study(folder, f"S{index:04d}", options, rng) for index in range(options.studies)
        }
        parts = split_ids(list(entries))
        content = {name: [{**entries[uid], "split": name} for uid in parts[split]] for split, name in SPLITS.items()}
        save_annotation(folder / "thyroid.json", content)
        (folder / "options.json").write_text(json.dumps(asdict(options)), encoding="utf-8")


def _write_study(folder: Path, uid: str, options: StudyOptions, rng: np.random.Generator) -> dict:
    name = str(rng.choice(list(KINDS), p=[kind.share for kind in KINDS.values()]))
    positions = [()] if name == "normal" else [("left",), ("right",), LOBES]
    affected = positions[rng.choice(len(positions), p=[1.0] if name == "normal" else [0.4, 0.4, 0.2])]
    nodules = {lobe: _sample(KINDS[name], rng) for lobe in affected}
    files = []
    for view, lobe in enumerate(LOBES, start=1):
        pixels, _ = draw([nodules[lobe]] if lobe in nodules else [], options.size, rng, trachea=view - 1)
        files.append(f"{uid}_{view}.png")
        Image.fromarray(pixels).save(folder / "Thyroid_report" / files[-1])
    return {"uid": uid, "finding": _report(name, nodules, options.language, rng), "image_path": files, "kind": name}


def _sample(kind: Kind, rng: np.random.Generator) -> Nodule:
    column, row = str(rng.choice(list(COLUMNS))), str(rng.choice(list(ROWS)))
    return Nodule(
        x=COLUMNS[column] + rng.uniform(-0.035, 0.035),
        y=ROWS[row] + rng.uniform(-0.02, 0.02),
        radius=rng.uniform(0.10, 0.14),
        column=column,
        row=row,
        composition=kind.composition,
        echogenicity=str(rng.choice(kind.echogenicity)),
        shape=str(rng.choice(kind.shape)),
        margin=str(rng.choice(kind.margin)),
        foci=kind.foci,
    )


def _report(kind: str, nodules: dict[str, Nodule], language: str, rng: np.random.Generator) -> str:
    sentences = [str(rng.choice(GLAND[language]))]
    for lobe in LOBES:
        sentences += _lobe(LOBE_NAMES[language][lobe], nodules.get(lobe), language, rng)
    sentences.append(FLOW[language][kind in ("adenoma", "suspicious")])
    sentences.append(LYMPH_NODES[language][bool(kind == "suspicious" and rng.random() < 0.5)])
    return (" " if language == "en" else "").join(sentences)


def _lobe(name: str, nodule: Nodule | None, language: str, rng: np.random.Generator) -> list[str]:
    if nodule is None:
        return [str(rng.choice(EMPTY[language])).format(lobe=name)]
    words = {k: WORDS[language][v] for k, v in asdict(nodule).items() if isinstance(v, str) and v in WORDS[language]}
    text = str(rng.choice(NODULES[language])).format(lobe=name, **words)
    foci = FOCI[language][nodule.foci]
    return [text.replace(" a a", " an a").replace(" a i", " an i"), *([foci] if foci else [])]
