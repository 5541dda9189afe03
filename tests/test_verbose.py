"""What libraries say is left out, and ``--verbose`` brings it back."""

import pytest
from PIL import Image

from common.cli.predict import main
from common.cli.verbose import VARIABLE
from tests.test_shipped_weights import lobe
from tests.warm import monai_bundle

NOISE = ("MONAI version", "Engine run")


@pytest.fixture
def image(tmp_path):
    Image.fromarray(lobe()[0]).save(tmp_path / "lobe.png")
    return tmp_path / "lobe.png"


@pytest.mark.parametrize("verbose", ["true", "false", None])
def test_a_config_says_more_if_asked(verbose, image, tmp_path):
    given = ("--image", image, "--output_dir", tmp_path / "out", *([] if verbose is None else ["--verbose", verbose]))
    done = monai_bundle("run", "--config_file", "bundles/akessfa/configs/inference.json", *given)
    assert done.returncode == 0 and "1 done" in done.stdout
    told = [noise in done.stdout + done.stderr for noise in NOISE]
    assert told == [verbose == "true"] * 2


def test_another_word_is_refused(image, tmp_path):
    done = monai_bundle(
        "run", "--config_file", "bundles/hfcn/configs/inference.json", "--image", image, "--verbose", "maybe"
    )
    assert done.returncode != 0 and "--verbose: 'maybe' is neither true nor false" in done.stderr


def test_the_command_says_versions_if_asked(image, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(VARIABLE, "0")  # and what is set is taken back afterwards
    assert main(["akessfa", str(image), "--out", str(tmp_path / "out"), "--verbose"]) == 0
    assert "MONAI version" in capsys.readouterr().out
    monkeypatch.setenv(VARIABLE, "0")
    assert main(["akessfa", str(image), "--out", str(tmp_path / "quiet")]) == 0
    assert "MONAI version" not in capsys.readouterr().out
