"""The notebooks of the documentation run from their first cell to their last, and are committed without outputs."""

import json

import pytest

from tests.test_bundle_contract import checked
from tests.test_documentation import ROOT
from tests.warm import Running

NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))


@pytest.mark.training
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    done = checked(Running([notebook], module="tests.notebook", cwd=notebook.parent).wait(), 0)
    assert "Dice with the report" in done.stdout or "nodule_sensitivity" in done.stdout
    assert "data:image/png" in done.stdout


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs(notebook):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["metadata"]["kernelspec"]["name"]) == (4, "python3")
    cells = content["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert all(not cell["outputs"] for cell in cells if cell["cell_type"] == "code")
