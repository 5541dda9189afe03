"""Do the weights that come along have the figures that README and cards quote?

``python -m benchmarks.reproduce [--data FOLDER] [--only ID ...] [--out runs/reproduce]``

Evaluates them, compares each figure of ``figures.json`` and ends with 1 where one is further off than its noise. An ID
stands in a card beside its figures. FOLDER holds ``ddti``, ``ddti_crops``, ``busi`` and
``iu_xray``, as :mod:`benchmarks.real` takes them; without it only the figures on drawn data are computed. Those that
train networks anew take hours: they are computed where ``--only`` names them, and what ``--out`` holds is not made
again. ``--update`` writes what was measured, to be committed with the weights that it is of.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import Any, TypeGuard

from benchmarks.ablations import folder_of, run
from benchmarks.chest_reports import figures_anew
from benchmarks.real import CROPS, calibration_over_folds, lesions_over_folds, over_folds
from common.cli.atomic import write_text

logger = logging.getLogger(__name__)
FILE = Path(__file__).with_name("figures.json")
NOISE = 0.005  # between processors, of a figure up to 1; as a share of larger ones
NOISE_ANEW = 0.03  # the same of networks that are trained anew
EVALUATION = ["train.json", "evaluate.json"]


def measured(entry: Mapping[str, Any], data: Path | None, out: Path, drawn: Path) -> dict[str, float | None]:
    """``metrics.json`` of one evaluation, written to ``out``; drawn data are kept in ``drawn``."""
    options = {**entry["options"], "output_dir": out}
    if entry["data"] is None:
        options["synthetic_dir"] = drawn / entry["bundle"]
    else:
        assert data is not None
        options["dataset_dir"] = data / entry["data"]
    run(entry["bundle"], entry.get("configs", EVALUATION), *(f"--{name}={value}" for name, value in options.items()))
    return json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def trained_anew(entry: Mapping[str, Any], data: Path, out: Path) -> dict[str, float]:
    """The figures of networks that are trained into ``out``: of crops means over five folds, if all have them."""
    bundle = entry["bundle"]
    if entry["anew"] == "lesions":
        return lesions_over_folds(data, out, bundle).figures()
    if entry["anew"] == "chests":
        return figures_anew(data, out, bundle)
    variant = entry["anew"]
    results = over_folds(bundle, data / entry["data"], out, variant, CROPS[variant])
    folders = [folder_of(out, f"{bundle} {entry['data']} {variant}", fold) for fold in range(5)]
    values = {name: [metrics.get(name) for metrics in results] for name in entry["figures"]}
    means = {name: mean(folds) for name, folds in values.items() if None not in folds}
    return means | calibration_over_folds(folders)


def is_number(value: float | None) -> TypeGuard[float]:
    """Whether a metric is defined."""
    return value is not None and isfinite(value)


def differences(
    quoted: Mapping[str, float], metrics: Mapping[str, float | None], noise: float = NOISE
) -> Iterator[str]:
    """A line for each of ``quoted`` that ``metrics`` are further from than ``noise``."""
    for name, value in quoted.items():
        now = metrics.get(name)
        if not is_number(now) or abs(now - value) > noise * max(1.0, abs(value)):
            yield f"{name}: {value:.4f} is quoted, {format(now, '.4f') if is_number(now) else 'undefined'} measured"


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    parser.add_argument("--data", type=Path, help="folder with ddti, ddti_crops, busi, iu_xray")
    soon = [id for id, entry in known.items() if "anew" not in entry]
    parser.add_argument("--only", nargs="+", choices=list(known), default=soon)
    parser.add_argument("--out", type=Path, help="keeps the evaluations; without it they are thrown away")
    parser.add_argument("--update", action="store_true", help="write what was measured as what is quoted")
    arguments = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        for id in arguments.only:
            if known[id]["data"] is not None and arguments.data is None:
                logger.info("%s: left out, it takes --data", id)
                continue
            anew = "anew" in known[id]
            metrics: Mapping[str, float | None] = (
                trained_anew(known[id], arguments.data, out / id)
                if anew
                else measured(known[id], arguments.data, out / id, out / "drawn")
            )
            if arguments.update:
                undefined = [name for name in known[id]["figures"] if not is_number(metrics.get(name))]
                if undefined:
                    sys.exit(f"{id}: {undefined[0]} is undefined; nothing is written")
                known[id]["figures"] = {name: round(metrics[name], 4) for name in known[id]["figures"]}  # type: ignore
            lines = list(differences(known[id]["figures"], metrics, NOISE_ANEW if anew else NOISE))
            logger.info("%s: %s", id, "; ".join(lines) or f"as quoted, {len(known[id]['figures'])} figures")
            wrong += bool(lines)
    if arguments.update:
        rows = [f'    "{id}": {json.dumps(entry)}' for id, entry in known.items()]
        write_text(FILE, "{\n" + ",\n".join(rows) + "\n}\n")
    if wrong:
        sys.exit(f"{wrong} of the evaluations differ from what is quoted")


if __name__ == "__main__":
    main()
