"""Start the server: ``python -m label_app.serve --studies FOLDER``.

Listens on this machine alone unless --host says otherwise; --studies may be a DICOMweb address.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCAL = ("127.0.0.1", "localhost", "::1", "[::1]")


def environment(arguments: argparse.Namespace) -> dict[str, str]:
    """What MONAI Label reads from the environment; what is set there already stays."""
    path = [str(HERE / "shim"), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    defaults = {
        "MONAI_LABEL_DICOMWEB_SEARCH_FILTER": json.dumps({"Modality": arguments.modality}),
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "MONAI_LABEL_DATASTORE_FILE_EXT": '["*.nii.gz", "*.nii", "*.png", "*.jpg", "*.dcm"]',
        "MONAI_LABEL_SESSIONS": "false",
        "HF_HUB_OFFLINE": "1",
    }
    hosts = [arguments.host, *LOCAL, *arguments.allowed_hosts] if is_loopback(arguments.host) else ["*"]
    fixed = {
        "LABEL_APP_LOOPBACK": "1" if is_loopback(arguments.host) else "",
        "LABEL_APP_HOSTS": ",".join(hosts),
        "LABEL_APP_ORIGINS": ",".join(origin.rstrip("/") for origin in arguments.origins),
        "PYTHONPATH": os.pathsep.join(part for part in path if part),
        "LABEL_APP_MAX_UPLOAD_MB": str(arguments.max_upload_mb),
        "TMPDIR": tempfile.mkdtemp(prefix="label-app-"),  # uploads, and nothing else, are read from there
    }
    return {**{key: os.environ.get(key, value) for key, value in defaults.items()}, **fixed}


def is_loopback(host: str) -> bool:
    """Whether a server bound to ``host`` is reached from its own machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m label_app.serve", description=__doc__)
    parser.add_argument("--studies", required=True, help="folder of images, or http://.../dicom-web")
    parser.add_argument("--bundles", help="folder of bundles, source or unpacked; default: this repository's")
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0: reachable from other machines; see docs/serving.md"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max_upload_mb", type=int, default=64, help="larger requests are refused")
    parser.add_argument(
        "--allowed_hosts", nargs="*", default=[], help="names by which a proxy in front of this machine is asked for"
    )
    parser.add_argument(
        "--origins", nargs="*", default=[], help="of other sites whose pages may ask, such as https://viewer.example"
    )
    parser.add_argument("--modality", default="US", help="of the series that a DICOMweb store lists: US, CR, DX")
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse(sys.argv[1:])
    os.environ.update(environment(arguments))
    tempfile.tempdir = os.environ["TMPDIR"]
    sys.path[:0] = [str(HERE / "shim"), str(HERE.parent)]
    import sitecustomize  # noqa: F401  (the shim)
    from monailabel.main import Main

    sys.argv = ["monailabel", "start_server", "--app", str(HERE), "--studies", arguments.studies,
                "--host", arguments.host, "--port", str(arguments.port),
                "--uvicorn_app", "label_app.application:app"]  # fmt: skip
    if arguments.bundles:
        sys.argv += ["--conf", "bundles", str(Path(arguments.bundles).resolve())]
    logging.getLogger(__name__).warning("uploads=%s (removed at the end)", os.environ["TMPDIR"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends by the signal that it caught
    try:
        Main().run()
    finally:
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)


if __name__ == "__main__":
    main()
