"""Weights under the names of the published D2R-Net, R2Gen and HCF-Net, loaded into our networks."""

from __future__ import annotations

import torch

from common.nn.published import load_into, rename, renamed

from .network import D2RNet

PRIOR = (  # channel prior attention
    (r"\bca\.fc1\.", "gate.squeeze."),
    (r"\bca\.fc2\.", "gate.excite."),
    (r"\bdconv5_5\.", "local."),
    (r"\bdconv1_7\.", "strips.0.0."),
    (r"\bdconv7_1\.", "strips.0.1."),
    (r"\bdconv1_11\.", "strips.1.0."),
    (r"\bdconv11_1\.", "strips.1.1."),
    (r"\bdconv1_21\.", "strips.2.0."),
    (r"\bdconv21_1\.", "strips.2.1."),
    (r"^conv\.", "mix."),
)
REGIONS = (  # LERA
    (r"\bskip\.conv\.", "skip.0."),
    (r"\bskip\.norm\.", "skip.1."),
    (r"\bc([123])\.conv\.", lambda match: f"chain.{int(match[1]) - 1}.0."),
    (r"\bc([123])\.norm\.", lambda match: f"chain.{int(match[1]) - 1}.1."),
    (r"\bsa\.conv2d\.", "spatial."),
    (r"\bcn\.conv\.0\.", "channel."),
    (r"\blga2\.", "patches.0."),
    (r"\blga4\.", "patches.1."),
    (r"\.top_down_transform$", ".transform"),
    (r"\.mlp1\.", ".inner."),
    (r"\.mlp2\.", ".outer."),
    (r"(patches\.\d\.)conv\.", r"\1out."),
    (r"\bbn1\.", "norm."),
)
CONVOLUTIONS = (  # the small network of the regions: convolution, norm, ReLU, five times
    (r"^conv([1-5])\.", lambda match: f"layers.{3 * int(match[1]) - 3}."),
    (r"^bn([1-5])\.", lambda match: f"layers.{3 * int(match[1]) - 2}."),
)
RESNET = (
    (r"\bmodel\.0\.", "stem.0."),
    (r"\bmodel\.1\.", "stem.1."),
    (r"\bmodel\.([4-7])\.", lambda match: f"layer{int(match[1]) - 3}."),
)
UNUSED = "visual_extractor.classifier."


def visual_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Entries of the published visual side under the names of :class:`d2rnet.report.visual.VisualEncoder`.

    The classifier, which the published network never uses, is left out.

    Raises:
        ValueError: an entry that is none of the published visual side.
    """
    parts = (
        ("visual_extractor.model.", "model.", "features.", RESNET),
        ("visual_extractor.cpca.", "", "head.0.", PRIOR),
        ("visual_extractor.local_embedder.", "", "head.1.", ()),
        ("region_visual_extractor.", "", "regions.lera.", REGIONS),
        ("simple.", "", "regions.", CONVOLUTIONS),
    )
    results = {}
    for name, value in state.items():
        for old, inner, new, rules in parts:
            if name.startswith(old):
                results[new + rename(inner + name.removeprefix(old), rules)] = value
                break
        else:
            if not name.startswith(UNUSED):
                raise ValueError(f"weights: {name} is no entry of the published visual side")
    return results


def load_published(network: D2RNet, state: dict[str, torch.Tensor]) -> None:
    """Load a published R2Gen file's ``state_dict``; ``network`` must have 0 as begin, end and padding id.

    Files of the whole D2R-Net were never published; the names of its decoder are R2Gen's.

    Raises:
        ValueError: entries are missing, left over, or of another shape.
    """
    visual = {name: value for name, value in state.items() if not name.startswith("encoder_decoder.")}
    rest = {name: value for name, value in state.items() if name not in visual}
    load_into(network, {f"visual.{k}": v for k, v in visual_names(visual).items()} | renamed(rest, ()))
