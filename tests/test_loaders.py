import pytest
from monai.data import Dataset

from common.engine.loaders import evaluation_loader, training_loader

NAMED = [{"case": f"P{index}", "image": index} for index in range(5)]


def loader(cases, batch_size):
    return training_loader(dataset=Dataset(cases), batch_size=batch_size, num_workers=0, seed=0, device="cpu")


def test_cases_that_fill_no_batch_are_refused():
    with pytest.raises(ValueError, match=r"batch_size: 5 training cases fill no batch of 8; pass a smaller --batch_"):
        loader(NAMED, 8)
    assert len(loader(NAMED, 2)) == 2


def test_a_list_of_another_program_makes_the_batch_smaller(caplog):
    listed = loader([{"image": index, "label": index} for index in range(5)], 8)
    assert [len(batch["image"]) for batch in listed] == [5]
    assert "batch_size: 5 training cases fill no batch of 8; it becomes 5" in caplog.text


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_has_every_nth_case(monkeypatch, rank):
    monkeypatch.setattr("common.engine.loaders.idist.get_world_size", lambda: 2)
    monkeypatch.setattr("common.engine.loaders.idist.get_rank", lambda: rank)
    batches = evaluation_loader(dataset=Dataset(NAMED), batch_size=2)
    assert [int(image) for batch in batches for image in batch["image"]] == [[0, 2, 4], [1, 3]][rank]
    one = Dataset(NAMED[:1])
    assert [int(i) for batch in evaluation_loader(dataset=one, batch_size=2, repeat=True) for i in batch["image"]] == [
        0
    ]
    with pytest.raises(ValueError, match=r"nproc_per_node: 2 processes for 1 cases; start 1 at most"):
        evaluation_loader(dataset=one, batch_size=2)
