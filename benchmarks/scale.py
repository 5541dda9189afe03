"""A training on a set of MIMIC-CXR's shape and size: start, memory, images a second, and how they grow.

``python -m benchmarks.scale --out FOLDER`` writes sets of 10^3 to 3.8 x 10^5 images, hard links to a few JPEG files of
2544 x 3056 pixels (below 2 GB of disk), and trains D2R-Net on each for some steps in a process of its own, without and
with the manifest of a check; then the loader alone beside bare decoding, and the distiller on as many reports.
``--images`` names other sizes. ``--pseudo_labels 1000 10000`` labels the studies of so many images by the detector that
comes along, in place of all this.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from d2rnet.report.data import validation_transforms
from monai.bundle import ConfigWorkflow
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer

from common.cli.atomic import write_json
from common.cli.reading import MANIFEST
from common.engine.caching import cached
from common.engine.loaders import training_loader
from common.images.files import open_image
from common.images.manifest import manifest_of
from common.synthetic.chest import ChestOptions, write_chests
from common.text.distiller import Distiller
from common.text.tokenizer import ReportTokenizer

logger = logging.getLogger(__name__)
SIZES = (1_000, 10_000, 100_000, 377_110)
SIDE, WIDTH, HEIGHT = 224, 2544, 3056
SOURCES, LINKS = 12, 40_000  # different pictures; names of one file (a file system allows 65,000)
STUDY = 1.655  # images of a study, as MIMIC-CXR's mean
SMALL = {  # a network that takes little of the time
    "image_size": 64, "batch_size": 16, "epochs": 1, "vocab_size": 1024, "network_def#dim": 16,
    "network_def#hidden": 16, "network_def#layers": 1, "network_def#visual#region_channels": 4, "encoder_weights": None,
    "network_def#visual#backbone#width_factor": 0.25, "network_def#visual#region_widths": [4, 8, 8, 8, 16],
    "views": 2,
}  # fmt: skip


def write_set(folder: Path, sizes: Sequence[int]) -> None:
    """A folder of MIMIC-CXR's form with the largest of ``sizes`` images, and an annotation as R2Gen's for each size."""
    generator, studies = np.random.default_rng(0), [round(images / STUDY) for images in sizes]
    reports = _reports(folder.parent / "reports")
    pictures = _pictures(folder.parent / "pictures", 1 + max(sizes) // LINKS)
    content: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    for number in range(max(studies)):
        place = f"p{10 + number % 10}/p{10_000_000 + number // 3}/s{50_000_000 + number}"
        (folder / "files" / place).mkdir(parents=True)
        names = [f"{place}/{generator.bytes(20).hex()}.jpg" for _ in range(1 + (generator.random() < STUDY - 1))]
        for name in names:
            os.link(pictures[generator.integers(len(pictures))], folder / "files" / name)
        report = f"{reports[generator.integers(len(reports))]} Compared with study {generator.integers(2000)}."
        split = "val" if number % 100 == 0 else "test" if number % 100 == 1 else "train"
        content[split].append({"id": f"s{50_000_000 + number}", "report": report, "image_path": names})
        for images in (images for images, count in zip(sizes, studies, strict=True) if count == number + 1):
            write_json(annotation_of(folder, images), content)


def write_manifest(folder: Path) -> None:
    """What ``python -m common.cli.check`` would write of all files, by their sizes and times alone."""
    files = {}
    for file in sorted((folder / "files").rglob("*.jpg")):
        known = file.stat()
        files[str(file)] = {"bytes": known.st_size, "mtime": known.st_mtime, "size": [WIDTH, HEIGHT], "sha256": ""}
    write_json(folder / MANIFEST, manifest_of(str(folder), files, {}))


def annotation_of(folder: Path, images: int) -> Path:
    """The annotation of the first ``images`` images."""
    return folder / f"annotation_{images}.json"


def _reports(folder: Path) -> list[str]:
    if not folder.is_dir():
        write_chests(str(folder), ChestOptions(studies=400, size=64))
    content = json.loads((folder / "annotation.json").read_text(encoding="utf-8"))
    return [entry["report"] for entries in content.values() for entry in entries]


def _pictures(folder: Path, copies: int) -> list[Path]:
    """Large JPEG files of drawn chests with noise, about 1.5 MB each."""
    folder.mkdir(exist_ok=True)
    generator, files = np.random.default_rng(1), []
    sources = sorted((folder.parent / "reports" / "images").glob("*.png"))[:SOURCES]
    for number, source in enumerate(sources):
        file = folder / f"{number}.jpg"
        if not file.is_file():
            grey = np.asarray(Image.open(source).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
            noisy = np.clip(grey + generator.normal(0, 6, grey.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(file, quality=85)
        files.append(file)
    for copy in range(1, copies):
        for file in files[: SOURCES // 2]:
            target = file.with_name(f"{file.stem}_{copy}.jpg")
            if not target.is_file():
                shutil.copy(file, target)
            files.append(target)
    return files


def train(annotation: Path, out: Path, *, steps: int, workers: int) -> None:
    """Of this process: seconds to the first step, memory (with its workers), images a second; printed as JSON."""
    places = {"dataset_dir": str(annotation.parent), "annotation": annotation.name, "ckpt_dir": str(out),
              "output_dir": str(out)}  # fmt: skip
    options = {**SMALL, **places, "cache": "none", "num_workers": workers}
    workflow = ConfigWorkflow("bundles/d2rnet/configs/train.json", workflow_type="train", logging_file=False, **options)
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    process, marks = psutil.Process(), {}

    def look(engine) -> None:  # type: ignore[no-untyped-def]
        marks[engine.state.iteration] = time.time()
        if engine.state.iteration >= steps:
            engine.terminate()
            everyone = [process, *process.children(recursive=True)]
            marks["memory"] = process.memory_info().rss
            marks["memory with workers"] = sum(one.memory_full_info().pss for one in everyone)

    from ignite.engine import Events

    trainer.add_event_handler(Events.ITERATION_COMPLETED, look)
    trainer.run()
    images = 16 * STUDY * (steps - 2) / (marks[steps] - marks[2])
    row = {"start": marks[1] - process.create_time(), "memory": marks["memory"] / 1e9,
           "memory with workers": marks["memory with workers"] / 1e9, "images a second": images}  # fmt: skip
    sys.stdout.write(f"{json.dumps(row)}\n")


def measured(annotation: Path, out: Path, steps: int, workers: int) -> dict[str, float]:
    """What :func:`train` printed in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--out", str(out), "--train", str(annotation)]
    command += ["--steps", str(steps), "--workers", str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def label(annotation: Path, out: Path) -> dict[str, float]:
    """Seconds and largest memory of the pseudo-labels of the studies of ``annotation``."""
    places = {"dataset_dir": annotation.parent, "annotation": annotation.name, "output": out / annotation.name,
              "output_dir": out, "pages": 0, "overwrite": "true"}  # fmt: skip
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundles/d2rnet/configs/pseudo_label.json"]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *(f"--{name}={value}" for name, value in places.items())])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(os.waitstatus_to_exitcode(status))
    return {"seconds": time.perf_counter() - start, "memory": 1024 * used.ru_maxrss / 1e9}


def decoding(annotation: Path, workers: int, count: int) -> str:
    """The loader of D2R-Net's images beside bare decoding of the same files, in as many processes."""
    entries, folder = json.loads(annotation.read_text(encoding="utf-8"))["train"][:count], annotation.parent
    cases = [{"study": e["id"], "images": [str(folder / "files" / e["image_path"][0])], "boxes": np.zeros((0, 4)),
              "scores": np.zeros(0), "report": "", "lesions": "", "detected": False} for e in entries]  # fmt: skip
    recipe = validation_transforms(views=1, size=SIDE, regions=1, region_size=64, coordinates=True)
    rates = []
    for transform in (recipe, Bare()):
        data = cached(data=cases, transform=transform, cache="none")  # type: ignore[arg-type]
        loader = training_loader(dataset=data, batch_size=16, seed=0, device="cpu", num_workers=workers)
        for _ in loader:  # the first epoch starts the workers
            pass
        start = time.perf_counter()
        seen = sum(len(batch["study"]) for batch in loader)
        rates.append(seen / (time.perf_counter() - start))
    whole, bare = rates
    return f"{whole:.1f} images a second by the loader, {bare:.1f} bare: {whole / bare:.0%} ({workers} workers)"


class Bare:
    """Decoding alone, at the scale that the transforms ask for."""

    def __call__(self, case: dict) -> dict:
        open_image(case["images"][0], least=2 * SIDE)
        return {"study": case["study"]}


def distilled(folder: Path, count: int) -> str:
    """Seconds and memory of the distiller for ``count`` reports."""
    sources, generator = _reports(folder), np.random.default_rng(2)
    reports = [f"{sources[generator.integers(len(sources))]} {generator.integers(5000)} mm" for _ in range(count)]
    tokenizer = ReportTokenizer.untrained()
    parts = {"vectorizer": CountVectorizer(analyzer=tokenizer.words),
             "reducer": TruncatedSVD(n_components=10, random_state=0),
             "clusterer": KMeans(n_clusters=14, n_init=10, random_state=0)}  # fmt: skip
    start = time.perf_counter()
    distiller = Distiller(**parts)
    labels = distiller.fit(reports)
    seconds = time.perf_counter() - start
    return (
        f"{len(labels)} reports: {seconds:.0f} s, {psutil.Process().memory_info().rss / 1e9:.1f} GB, silhouette "
        f"{distiller.silhouette():.2f}"
    )


def tell(sizes: Sequence[int], rows: Sequence[dict[str, float]]) -> None:
    """A line for each of ``sizes``, and how each figure grows from the first to the last."""
    for images, row in zip(sizes, rows, strict=True):
        logger.info("%d images: %s", images, ", ".join(f"{name} {value:.2f}" for name, value in row.items()))
    for name in rows[0] if len(rows) > 1 else ():
        slope = np.polyfit(np.log(sizes), np.log([row[name] for row in rows]), 1)[0]
        logger.info("%s: grows with the number of images to the power of %.2f", name, slope)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the sets, on one file system")
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    parser.add_argument("--reports", type=int, default=270_000, help="of the distiller; 0: none")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pseudo_labels", type=int, nargs="+", help="label the studies of so many images, and no more")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train, arguments.out, steps=arguments.steps, workers=arguments.workers)
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    sizes = arguments.pseudo_labels or arguments.images
    folder = arguments.out / "set"
    annotations = [annotation_of(folder, images) for images in sizes]
    if not all(file.is_file() for file in annotations):
        shutil.rmtree(folder, ignore_errors=True)
        write_set(folder, sizes)
    if arguments.pseudo_labels:
        tell(sizes, [label(annotation, arguments.out) for annotation in annotations])
        return
    for with_manifest in (False, True):
        (folder / MANIFEST).unlink(missing_ok=True)
        if with_manifest:
            write_manifest(folder)
            logger.info("with a manifest:")
        tell(sizes, [measured(each, arguments.out / "run", arguments.steps, arguments.workers) for each in annotations])
    logger.info("%s", decoding(annotations[0], arguments.workers, 400))
    if arguments.reports:
        logger.info("distiller: %s", distilled(arguments.out / "reports", arguments.reports))


if __name__ == "__main__":
    main()
