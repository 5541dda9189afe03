"""The packages that metadata.json names, and their versions; that no other is needed the unpacked zip shows."""

import json

import pytest

from tests.test_bundle_contract import BUNDLES, ROOT


@pytest.mark.parametrize("bundle", BUNDLES)
def test_metadata_name_the_versions_that_are_required(bundle):
    metadata = json.loads((ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text())
    lines = (ROOT / "requirements.txt").read_text().split()
    pinned = dict(line.split("==") for line in lines)
    named = {**metadata["required_packages_version"], **metadata.get("optional_packages_version", {})}
    assert {name: pinned.get(name) for name in named} == named
