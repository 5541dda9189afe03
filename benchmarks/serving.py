"""The server of ``make label``, measured and written down: latency and memory over many requests, and a transcript.

``python -m benchmarks.serving --url http://127.0.0.1:8000 --requests 1000`` prints percentiles of the latency and the
server's memory before, half way and after; the server must run on this machine.
``--transcript docs/rest.md`` writes each call of the README and its answer instead.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import requests

logger = logging.getLogger(__name__)
REPORT = '{"report": "A hypoechoic round nodule is seen in the upper left part."}'
ANOTHER = '{"report": "Both lobes are of normal size and even texture. No nodule is seen."}'
CALLS = (
    ("What is served", "/info/", []),
    ("The images", "/datastore/?output=all", []),
    ("A mask as a picture", "/infer/akessfa?image=thyroid0&output=image", ["-F", f"params={REPORT}", "-o", "mask.png"]),
    ("What the network says of it", "/infer/akessfa?image=thyroid0&output=json", ["-F", f"params={REPORT}"]),
    ("With another patient's report", "/infer/akessfa?image=thyroid0&output=json", ["-F", f"params={ANOTHER}"]),
    ("By a phrase", "/infer/clip_tnseg?image=thyroid0&output=json", ["-F", 'params={"phrase": "hypoechoic nodule"}']),
    ("Benign or malignant", "/infer/hfcn?image=thyroid0&output=json", ["-X", "POST"]),
    ("A report of an ultrasound image", "/infer/sgf?image=thyroid0&output=json", ["-X", "POST"]),
    ("Lesions and a report of a chest X-ray", "/infer/d2rnet?image=chest0&output=json", ["-X", "POST"]),
    ("A file that is not in the studies", "/infer/hfcn?output=json", ["-F", "file=@thyroid0.png"]),
    ("A DICOM file", "/infer/akessfa?output=json", ["-F", "file=@ultrasound.dcm", "-F", f"params={REPORT}"]),
    ("Noise, which no answer fits", "/infer/hfcn?output=json", ["-F", "file=@noise.png"]),
    ("A photograph", "/infer/clip_tnseg?output=json", ["-F", "file=@flower.png"]),
    ("A cat", "/infer/hfcn?output=json", ["-F", "file=@cat.png"]),
    ("Without the report that is needed", "/infer/akessfa?image=thyroid0&output=json", ["-X", "POST"]),
    ("No such image", "/infer/hfcn?image=nothing&output=json", ["-X", "POST"]),
    ("A path in place of a name", "/infer/hfcn?image=../../etc/passwd", ["-X", "POST"]),
    ("A text file as image", "/infer/hfcn?output=json", ["-F", "file=@notes.png"]),
    ("A damaged DICOM file", "/infer/hfcn?output=json", ["-F", "file=@damaged.dcm"]),
    ("An image for the studies", "/datastore/?image=mine", ["-X", "PUT", "-F", "file=@thyroid0.png"]),
    ("Its report, for training", "/datastore/image/info?image=mine", ["-X", "PUT", "-F", f"info={REPORT}"]),
    ("Its mask", "/datastore/label?image=mine&tag=final", ["-X", "PUT", "-F", "label=@mask.png"]),
    ("A second labelled image", "/datastore/label?image=thyroid1&tag=final", ["-X", "PUT", "-F", "label=@mask.png"]),
    (
        "Training on the labelled images",
        "/train/akessfa?run_sync=true",
        ["-H", "Content-Type: application/json", "-d", '{"max_epochs": 1, "device": "cpu"}'],
    ),
)
HEAD = """# The server's calls and answers

Written by `python -m benchmarks.serving --transcript docs/rest.md`, over the bundles of `make label` and drawn images:
the form of the answers, not the quality of the bundles.
"""
SHOWN = 600  # characters of an answer


def process_on(port: int) -> psutil.Process:
    """The process that listens on ``port``."""
    for connection in psutil.net_connections():
        if connection.status == "LISTEN" and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid)
    raise SystemExit(f"--url: nothing listens on port {port} of this machine")


def measure(url: str, count: int, names: list[str] | None) -> None:
    """Send ``count`` requests to each bundle in turn, one at a time."""
    process = process_on(int(url.rpartition(":")[2]))
    models = requests.get(url + "/info/", timeout=60).json()["models"]
    for name in names or models:
        image = "chest0" if name == "d2rnet" else "thyroid0"
        memory, times = [], []
        for index in range(-20, count):
            start = time.perf_counter()
            answer = requests.post(
                f"{url}/infer/{name}?image={image}&output=all", files={"params": (None, REPORT)}, timeout=120
            )
            answer.raise_for_status()
            if index >= 0:
                times.append(1000 * (time.perf_counter() - start))
            if index in (0, count // 2, count - 1):
                memory.append(process.memory_info().rss / 2**20)
        low, middle, high = np.percentile(times, [5, 50, 95])
        grown = " ".join(f"{value:.0f}" for value in memory)
        logger.info("%s | %d | %.0f / %.0f / %.0f ms | %s MB", name, count, low, middle, high, grown)


def transcript(url: str, folder: Path) -> str:
    """Each of ``CALLS`` by curl from ``folder``, as Markdown with the shown answer."""
    parts = [HEAD]
    for title, path, options in CALLS:
        done = subprocess.run(
            ["curl", "-s", "-w", "\n%{http_code}", *options, url + path], cwd=folder, capture_output=True, text=True,
            check=True)  # fmt: skip
        body, _, status = done.stdout.rpartition("\n")
        shown = body if len(body) <= SHOWN else body[:SHOWN] + " ..."
        command = shlex.join(["curl", *options, "http://127.0.0.1:8000" + path])
        parts.append(f"## {title}\n\n```\n{command}\n```\n\n{status}\n\n```\n{shown or '(a file)'}\n```\n")
    return "\n".join(parts)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=1000, help="to each bundle")
    parser.add_argument("--names", nargs="*", help="of the bundles; default: all that are served")
    parser.add_argument("--transcript", type=Path, help="write this file and measure nothing")
    parser.add_argument("--folder", type=Path, default=Path("runs/label/examples"), help="files that the calls send")
    arguments = parser.parse_args()
    if arguments.transcript is None:
        logger.info("bundle | requests | latency 5 / 50 / 95 %% | memory after 1, half, all")
        measure(arguments.url, arguments.requests, arguments.names)
    else:
        arguments.transcript.parent.mkdir(parents=True, exist_ok=True)
        arguments.transcript.write_text(transcript(arguments.url, arguments.folder), encoding="utf-8")


if __name__ == "__main__":
    main()
