"""What an evaluation writes: ``metrics.json`` (name -> number), ``intervals.json`` (name -> 95 % interval, of those
that are means over cases), ``per_case.csv`` (a row a case) and a page.
"""

from __future__ import annotations

import datetime
import logging
import math
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.utils import ImageMetaKey

from common.cli.atomic import write_json, write_rows
from common.cli.running import running_parser
from common.engine.distributed import data_order, gather, is_first
from common.engine.folders import lock_while_running, tell_replaced
from common.engine.progress import StepLine
from common.metrics.intervals import intervals_of
from common.results.metric_words import headlines
from common.results.page import write_page
from common.results.strata import write_strata

logger = logging.getLogger(__name__)


class ResultFiles:
    """Handler: write the files to ``output_dir`` when the evaluation is complete.

    A metric with ``save_details=True`` (each handler of MONAI has it, and it is the default) fills ``per_case.csv``:
    one column, or one for each class. Where batches tell a ``case``, it is the column ``patient``, by which the page's
    intervals are drawn; where they tell ``tirads``, ``strata.csv`` has a row for each level.

    Args:
        key: what a row is: "image", named by its file, or an entry of the batch that is a name.
    """

    def __init__(self, *, output_dir: str, key: str = "image") -> None:
        self.output_dir, self.key = output_dir, key
        self.names: list[str] = []
        self.patients: list[str] = []
        self.levels: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._forget)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._remember_names)
        engine.add_event_handler(Events.COMPLETED, self._write)
        StepLine(what="evaluation").attach(engine)
        lock_while_running(engine, self.output_dir)

    def _forget(self, _: Engine) -> None:
        self.names, self.patients, self.levels = [], [], []
        tell_replaced(Path(self.output_dir) / "metrics.json")

    def _remember_names(self, engine: Engine) -> None:
        batch: list[dict] = engine.state.batch  # type: ignore[assignment]
        self.names += [name_of(case[self.key]) for case in batch]
        self.patients += [str(case["case"]) for case in batch if "case" in case]
        self.levels += [str(case["tirads"]) for case in batch if "tirads" in case]

    def _write(self, engine: Engine) -> None:
        order, names, patients = data_order(len(self.names)), gather(self.names), gather(self.patients)
        levels = gather(self.levels)
        if not is_first():
            return
        folder = Path(self.output_dir)
        metrics = _defined({name: float(value) for name, value in engine.state.metrics.items()})
        who = {"patient": patients} if patients else {}
        columns: dict[str, list] = {"case": names, **who, **_columns(engine.state.metric_details)}  # type: ignore[attr-defined]
        columns = {name: [values[index] for index in order] for name, values in columns.items()}
        cases = {str(index): _numbers(columns, index) for index in range(len(names))}  # equally named ones apart
        who_of = columns.get("patient", columns["case"])
        of_patient = {str(index): patient for index, patient in enumerate(who_of)}
        write_json(folder / "metrics.json", metrics, indent=2)
        write_json(folder / "intervals.json", intervals_of(metrics, cases, of_patient), indent=2)
        write_rows(folder / "per_case.csv", [list(columns), *zip(*columns.values(), strict=True)])
        write_strata(folder, columns, who_of, [levels[index] for index in order] if levels else [])
        said = described(len(names), len(set(patients)))
        write_page(folder, title=title_of_run(), evaluated=said)
        first = headlines(name for name, value in metrics.items() if value is not None) or list(metrics)
        numbers = ", ".join(f"{name} {metrics[name]:.3f}" for name in first if metrics[name] is not None)
        logger.info("%s: %s; all results: %s", said, numbers, folder / "index.html")


def described(cases: int, patients: int) -> str:
    """What an evaluation of so many is of: data, split, weights, and the day."""
    parser = running_parser()
    known = {id: parser.get_parsed_content(id) for id in ("dataset_dir", "split", "weights") if parser and id in parser}
    data = f" of {known['dataset_dir']}" if known.get("dataset_dir") else " of drawn data" if known else ""
    split = f", split {known['split']}{data}" if known.get("split") else ""
    weights = f", by {known['weights']}" if known.get("weights") else ""
    whose = f" of {patients} patients" if patients else ""
    return f"{cases} cases{whose}{split}{weights}, {datetime.date.today().isoformat()}"


def title_of_run() -> str | None:
    """Names the bundle whose evaluation runs; None: no bundle does."""
    parser = running_parser()
    if parser is None or "bundle_root" not in parser:
        return None
    return f"{Path(str(parser.get_parsed_content('bundle_root'))).resolve().name}: evaluation"


def _numbers(columns: dict[str, list], index: int) -> dict[str, float]:
    return {name: float(values[index]) for name, values in columns.items() if name not in ("case", "patient")}


def name_of(value: Any) -> str:
    """A name as it is; of an image, its file."""
    return value if isinstance(value, str) else str(value.meta[ImageMetaKey.FILENAME_OR_OBJ])


def _defined(metrics: dict[str, float]) -> dict[str, float | None]:
    """``metrics``, None where one is undefined, which the log tells."""
    undefined = [name for name, value in metrics.items() if not math.isfinite(value)]
    if undefined:
        logger.warning(
            "undefined, and null in metrics.json: %s; the split lacks what they are a share of, such as one class",
            ", ".join(undefined),
        )
    return {name: None if name in undefined else value for name, value in metrics.items()}


def _columns(details: dict) -> dict[str, list[float]]:
    """Split each (cases, classes) tensor of ``details`` into named columns."""
    columns = {}
    for name, values in details.items():
        table = values.reshape(len(values), -1)
        for index, column in enumerate(table.T.tolist()):
            columns[name if table.shape[1] == 1 else f"{name}_{index}"] = column
    return columns
