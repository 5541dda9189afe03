"""SGF: equal to the published network, and what its parts promise."""

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from sgf.network import SGF
from sgf.published import load_published, with_own_ids

from tests import published_numbers

ROOT = Path(__file__).resolve().parents[1]
TINY = {"vocab_size": 20, "clusters": 3, "depth": 18, "width": 8, "dim": 16, "hidden": 16, "heads": 4, "layers": 2}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SGF(**TINY, max_length=12).eval()


@pytest.fixture
def image():
    return torch.randn(3, 2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
def test_equal_to_the_published_network():
    golden = published_numbers.load("sgf")
    network = SGF(vocab_size=201, clusters=5, pad_id=0, begin_id=0, end_id=0, unknown_id=-1, max_length=40).eval()
    entries = [entry for entry in golden["entries"] if entry[2] != "sinusoid"]
    load_published(network, published_numbers.state_dict(entries, golden["weight_seed"]))
    image = published_numbers.wave(golden["inputs"]["images"])
    ids = torch.tensor(golden["inputs"]["token_ids"])[:, :-1]
    with torch.no_grad():
        memory, visible, clusters, _ = network.encode(image)
        output, written = network.teacher_forcing(image, ids), network.report(memory, visible)
    recorded = golden["outputs"]
    expected = {
        "encoder_memory": memory,
        "decoder_hidden (teacher forcing)": output.hidden,
        "log_probs (teacher forcing; position k predicts token k+1)": output.log_probs,
    }
    for name, value in expected.items():
        published_numbers.check(value, recorded[name])
    published_numbers.check(clusters.sigmoid(), recorded["cluster_scores (after sigmoid)"], tolerance=1e-5)
    assert written.ids[:, 0].tolist() == recorded["greedy"]["ids"]
    own = SGF(vocab_size=203, clusters=5, unknown_id=-1, max_length=40).eval()
    words = [f"w{number}" for number in range(199)]
    state, tokenizer = with_own_ids(published_numbers.state_dict(entries, golden["weight_seed"]), [*words, "<unk>"])
    load_published(own, state)
    with torch.no_grad():
        again = own.generate(image).ids[:, 0]
    theirs = [[f"w{i - 1}" for i in row if i] for row in written.ids[:, 0].tolist()]
    assert [tokenizer.decode(row).split() for row in again.tolist()] == theirs


def test_the_published_config_has_the_published_size(monkeypatch):
    monkeypatch.chdir(ROOT)
    parser = ConfigParser(
        ConfigParser.load_config_files([f"bundles/sgf/configs/{n}.json" for n in ("train", "published")])
    )
    parser.update({"vocab_size": 801, "clusters": 5})
    network = parser.get_parsed_content("network_def")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(58.05e6, rel=1e-3)


def test_a_missing_view_changes_nothing_whatever_it_shows(network, image):
    mask = torch.tensor([[True, False]] * 3)
    other = image.clone()
    other[:, 1] = torch.randn(3, 3, 64, 64)
    ids = torch.tensor([[2, 5, 6, 7]] * 3)
    with torch.no_grad():
        for found, wanted in zip(
            network.teacher_forcing(other, ids, mask), network.teacher_forcing(image, ids, mask), strict=True
        ):
            torch.testing.assert_close(found, wanted)
        assert not torch.equal(network(other, ids), network(image, ids))


def test_a_batch_equals_its_studies_alone(network, image):
    ids = torch.tensor([[2, 5, 6, 7], [2, 8, 9, 0], [2, 4, 4, 4]])
    with torch.no_grad():
        together, alone = network.teacher_forcing(image, ids), network.teacher_forcing(image[1:2], ids[1:2])
        for found, wanted in zip(alone, together, strict=True):
            torch.testing.assert_close(found[0], wanted[1], atol=1e-5, rtol=1e-4)
        assert torch.equal(network.generate(image).ids[1], network.generate(image[1:2]).ids[0])


def test_the_scripted_network_writes_the_same_reports(network, image):
    scripted, ids = torch.jit.script(network), torch.tensor([[2, 5, 6]] * 3)
    with torch.no_grad():
        torch.testing.assert_close(scripted(image, ids), network(image, ids))
        assert torch.equal(scripted.generate(image).ids, network.generate(image).ids)


def test_other_entries_are_refused(network):
    with pytest.raises(
        ValueError, match=r"weights: they do not fit .*: \d+ entries missing .*, 1 not known \['head\.weight'\]"
    ):
        load_published(network, {"head.weight": torch.zeros(1)})
