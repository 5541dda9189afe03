"""Left and right swapped in texts and ids, and the mean of a prediction with that of the mirrored image."""

import numpy as np
import pytest
import torch
from clip_tnseg.phrase_tokenizer import fit
from PIL import Image
from transformers import PreTrainedTokenizerFast

from common import predict
from common.cli.trained import find
from common.engine.steps import mean_of_logits
from common.results.inference import Inference
from common.text.sides import mirrored_ids, mirrored_text, swap_sides
from common.text.tokenizer import ReportTokenizer
from tests.test_shipped_weights import lobe


def test_words_for_sides_change_places_in_texts():
    assert swap_sides("Left of the right lobe, leftover.") == "Right of the left lobe, leftover."
    assert swap_sides("左叶与右侧") == "右叶与左侧"


@pytest.mark.parametrize("kind", ["reports", "phrases"])
def test_ids_are_those_of_the_mirrored_text(kind):
    texts = ["a nodule in the left lobe", "the right lobe is normal", "左 右"]
    if kind == "reports":
        tokenizer = ReportTokenizer.of_words(sorted({word for text in texts for word in text.split()}))
        ids = lambda text: torch.tensor([[token.id for token in tokenizer.encode(text)]])  # noqa: E731
    else:
        tokenizer = fit(texts)
        assert isinstance(tokenizer, PreTrainedTokenizerFast)
        ids = lambda text: torch.tensor(tokenizer(text)["input_ids"])[None]  # noqa: E731
    sides = mirrored_ids(tokenizer=tokenizer, enabled=True)
    for text in texts:
        assert torch.equal(mirrored_text(ids(text), sides), ids(swap_sides(text)))
    assert mirrored_ids(tokenizer=tokenizer, enabled=False) is None


def test_the_mean_is_of_probabilities():
    first, second = torch.tensor([0.0, 2.0]), torch.tensor([4.0, 2.0])
    torch.testing.assert_close(mean_of_logits(first, second).sigmoid(), (first.sigmoid() + second.sigmoid()) / 2)


@pytest.mark.parametrize(("bundle", "text"), [("akessfa", "report"), ("clip_tnseg", "phrase")])
def test_with_flips_a_mirrored_image_has_the_mirrored_answer(bundle, text):
    """And without them it has not: the option does what it says, to image and text."""
    image, differences = lobe(160)[0], {}
    for flips in (True, False):
        model = predict.load(bundle, device="cpu")
        model.inference = Inference(find(bundle), device="cpu", overrides={"flips": flips})
        given = {text: "a round nodule in the left part"}
        mirrored = {text: "a round nodule in the right part"}
        one = model(Image.fromarray(image), **given).probability
        other = model(Image.fromarray(np.ascontiguousarray(image[:, ::-1])), **mirrored).probability
        differences[flips] = np.abs(one - other[:, ::-1]).max()
    assert differences[True] < 0.02 < differences[False], differences
