"""The commands answer a shell, and refuse a mistyped line, without waiting for MONAI's import."""

import os
import subprocess
import sys

import pytest

from tests.warm import ROOT

COMMANDS = ("common.cli.predict", "common.cli.check", "common.cli.compare", "common.visualize", "common.pack")


def test_commands_wait_for_no_library_before_their_line_is_understood():
    program = f"import sys, {', '.join(COMMANDS)}; print({{'torch', 'monai', 'numpy'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("common.cli.predict ", "akessfa clip_tnseg d2rnet hfcn sgf"),
        ("common.cli.predict ak", "akessfa "),
        ("common.cli.predict akessfa a.png --re", "--report --refuse-unfamiliar"),
        ("common.cli.check folder --bundle s", "sgf "),
    ],
)
def test_a_shell_completes_options_and_names_of_bundles(typed, expected, tmp_path):
    pytest.importorskip("argcomplete")
    line, told = f"python -m {typed}", tmp_path / "told"
    asked = {"_ARGCOMPLETE": "3", "COMP_LINE": line, "COMP_POINT": f"{len(line)}", "_ARGCOMPLETE_IFS": " "}
    environment = os.environ | asked | {"_ARGCOMPLETE_STDOUT_FILENAME": str(told), "_ARGCOMPLETE_SUPPRESS_SPACE": "0"}
    module = typed.split()[0]
    subprocess.run([sys.executable, "-m", module], cwd=ROOT, env=environment, check=True)
    assert set(expected.split()) <= set(told.read_text().split())
    if typed.endswith(" ak"):
        assert told.read_text().split() == ["akessfa"]
    assert "PYTHON_ARGCOMPLETE_OK" in (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()[:1024]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (("common.cli.predict", "akesfa", "a.png"), "the nearest name is 'akessfa'"),
        (("common.cli.check", "nowhere", "--bundle", "hfcn"), "dataset_dir: no folder 'nowhere'"),
    ],
)
def test_a_mistake_is_told_at_once(line, told):
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", *line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and told in done.stdout
    assert " monai\n" not in done.stderr and " torch\n" not in done.stderr
