"""Names of result files: each case has its own, whatever its image is called."""

import random
import unicodedata

import pytest

from common.results.names import result_names


@pytest.mark.parametrize(
    ("cases", "names"),
    [
        (["in/a.png", "in/b.png"], ["a", "b"]),
        (["in/patient1/1.png", "in/patient2/1.png", "in/patient2/2.png"], ["patient1_1", "patient2_1", "2"]),
        (["x/0.png"] * 3, ["0", "0_2", "0_3"]),
        (["x/a.png", "x/A.PNG", "x/a.dcm"], ["a", "A_2", "a_3"]),
        (["x/a/1.png", "x/b/1.png", "x/a_1.png"], ["a_1_2", "b_1", "a_1"]),
        (["x/v.nii.gz", "y/v.nii"], ["x_v", "y_v"]),
        (["a b/1.png", "a+b/1.png"], ["a_b_1", "a_b_1_2"]),
    ],
)
def test_names_are_short_where_they_can_be(cases, names):
    assert result_names(cases, are_files=True) == names


def test_studies_of_one_name_and_names_that_no_file_can_have():
    assert result_names(["s1", "s1", "../x", "..", "a/b", "a_b"], are_files=False) == [
        "s1", "s1_2", "_x", "_", "a_b", "a_b_2",
    ]  # fmt: skip


def test_no_two_names_are_one_on_any_file_system():
    generator = random.Random(0)
    letters = ["a", "A", "_", "2", "é", unicodedata.normalize("NFD", "é"), "ß", "ss", "."]
    for _ in range(200):
        cases = [
            "/".join("".join(generator.choices(letters, k=2)) for _ in range(2))
            + generator.choice((".png", ".jpg", ""))
            for _ in range(12)
        ]
        for are_files in (True, False):
            names = result_names(cases, are_files=are_files)
            assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(cases)
            assert all("/" not in name and name for name in names)
