"""Every exported form of every network, at other sizes, batches and lengths, in a process without this repository."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from tests.test_bundle_contract import BUNDLES, ROOT, TINY, checked, flags
from tests.test_documented_commands import EXPORTS
from tests.warm import monai_bundle

SHAPES = ((3, 5, 64, 96), (1, 12, 128, 64))  # batch, length of a text, height, width
FORKS = r"""
import contextlib, json, os, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import torch, torch.export, torch._inductor.package
with contextlib.suppress(ImportError):
    import onnx, onnxruntime
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(asked["folder"])
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.argv = asked["arguments"]
            exec(asked["program"], {"__name__": "__main__"})
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
RUN = r"""
import sys
import torch
kind, path, data = sys.argv[1:]
cases = torch.load(data, weights_only=True)
if kind == "onnx":
    import onnx, onnxruntime
    onnx.checker.check_model(path)
    session = onnxruntime.InferenceSession(path)
    names = [entry.name for entry in session.get_inputs()]
    run = lambda inputs: session.run(["pred"], {name: value.numpy() for name, value in inputs.items()})[0]
elif kind == "ts":
    network = torch.jit.load(path)
    names = [argument.name for argument in network.forward.schema.arguments[1:]]
    run = lambda inputs: network(**inputs)
elif kind == "pt2":
    program = torch.export.load(path)
    names = list(program.call_spec.in_spec.children_specs[1].context) if program.call_spec else []
    run = lambda inputs: program.module()(**inputs)
else:
    network = torch._inductor.aoti_load_package(path)
    names, run = [], lambda inputs: network(**inputs)
for name in ("common", "akessfa", "clip_tnseg", "hfcn", "sgf", "d2rnet", "monai"):
    assert name not in sys.modules, name
for inputs, expected in cases:
    assert not names or set(inputs) <= set(names), (names, list(inputs))
    with torch.no_grad():
        found = torch.as_tensor(run(inputs))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
print("INPUTS", *names)
"""


def exported_network(bundle):
    """Configs and sizes: the default network, as the documents export it."""
    return [f"bundles/{bundle}/configs/inference.json"], TINY[bundle]["network"]


def test_the_documents_export_as_this_file_does():
    assert {name for name in BUNDLES for line in EXPORTS if f"bundles/{name}/" in line} == set(BUNDLES)
    for line in EXPORTS:
        words = shlex.split(line, comments=True)
        bundle = next(name for name in BUNDLES if f"bundles/{name}/configs/inference.json" in words)
        (config,), id = exported_network(bundle)[0], words[words.index("--run_id") + 1]
        assert words[:4] == ["python", "-m", "monai.bundle", "run"] and id in ("export_onnx", "export_program")
        assert sorted(words[4:]) == sorted(["--run_id", id, "--config_file", config]), line


@pytest.fixture(scope="module", params=BUNDLES)
def network(request, tmp_path_factory):
    """A bundle's tiny network with random weights in a file: name, folder, the network."""
    bundle = request.param
    folder = tmp_path_factory.mktemp(bundle)
    parser = ConfigParser()
    files, sizes = exported_network(bundle)
    parser.read_config([str(ROOT / file) for file in files])
    for name, value in {**sizes, "bundle_root": str(ROOT / "bundles" / bundle)}.items():
        parser[name] = value
    torch.manual_seed(3)
    built = parser.get_parsed_content("network_def").eval()
    for module in built.modules():  # a new FiLM or memory adds nothing; here everything does
        for parameter in module.parameters(recurse=False):
            parameter.data += 0.02 * torch.randn_like(parameter)
        if isinstance(module, torch.nn.BatchNorm2d):  # which is folded into the convolution before it
            module.running_mean += 0.05 * torch.randn_like(module.running_mean)
            module.running_var *= 0.8 + 0.4 * torch.rand_like(module.running_var)
    (folder / "models").mkdir()
    torch.save(built.state_dict(), folder / "models" / "model.pt")
    return bundle, folder, built


def format_of(bundle):
    return json.loads((ROOT / f"bundles/{bundle}/configs/metadata.json").read_text())["network_data_format"]


def inputs_of(bundle, rows, length, height, width):
    """What metadata.json says that the network takes, of these sizes."""
    inputs = {}
    for name, told in format_of(bundle)["inputs"].items():
        channels, shape = told["num_channels"], told["spatial_shape"]
        if name == "image":
            inputs[name] = torch.rand(rows, channels, *([3] if len(shape) == 3 else []), height, width)
        elif name == "regions":
            side = TINY[bundle]["inputs"]["regions"][-1] - 4 * (rows - 1)
            inputs[name] = torch.rand(rows, TINY[bundle]["inputs"]["regions"][0], 3, side, side)
        elif name == "region_mask":
            count = TINY[bundle]["inputs"]["regions"][0]
            inputs[name] = torch.arange(rows * count).reshape(rows, count) % 3 > 0
        else:
            high = {"input_ids": 100, "attention_mask": 1, "sentence_ids": 3}[name]
            inputs[name] = torch.randint(1, high + 1, (rows, length)).sort(1).values
    return inputs


def exported(bundle, folder, kind):
    """The file that a user gets, by the commands of the documentation."""
    path, (files, sizes) = folder / f"model.{kind}", exported_network(bundle)
    config = str(files)
    if kind == "ts":
        places = {"filepath": path, "ckpt_file": folder / "models" / "model.pt"}
        meta = f"bundles/{bundle}/configs/metadata.json"
        checked(monai_bundle("ckpt_export", "network_def", "--meta_file", meta, "--config_file", config,
                             *flags(places, sizes)), 0)  # fmt: skip
        return path
    name, id = {"onnx": ("onnx", "export_onnx"), "pt2": ("program", "export_program")}[kind]
    options = flags(sizes, {"ckpt_dir": folder / "models", name: path})
    checked(monai_bundle("run", "--run_id", id, "--config_file", config, *options), 0)
    return path


@pytest.fixture(scope="module")
def run_alone():
    """Run an exported file on cases in a fork of a process that has torch and nothing of this repository."""
    command = [sys.executable, "-W", "ignore", "-c", FORKS]
    with subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def run(kind, path, cases, folder):
            torch.save(cases, folder / "cases.pt")
            arguments = ["-c", kind, str(path), str(folder / "cases.pt")]
            process.stdin.write(json.dumps({"program": RUN, "arguments": arguments, "folder": str(folder)}) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "0\n", (folder / "stderr").read_text()[-3000:]
            return (folder / "stdout").read_text().splitlines()[-1].split()[1:]

        yield run


@pytest.mark.parametrize("kind", ["onnx", "ts", "pt2"])
def test_an_exported_network_is_what_the_metadata_say(network, run_alone, kind, tmp_path):
    bundle, folder, built = network
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    path = exported(bundle, folder, kind)
    assert not list(folder.rglob("*.part*"))
    cases = []
    for shape in SHAPES:
        torch.manual_seed(shape[0])
        inputs = inputs_of(bundle, *shape)
        with torch.no_grad():
            cases.append((inputs, built(**inputs)))
    names = run_alone(kind, path, cases, tmp_path)
    told = list(format_of(bundle)["inputs"])
    assert names[: len(told)] == told or (kind == "pt2" and not names)


def test_the_output_is_what_the_metadata_say(network):
    bundle, _, built = network
    inputs = inputs_of(bundle, *SHAPES[0])
    told = format_of(bundle)["outputs"]["pred"]
    with torch.no_grad():
        pred = built(**inputs)
    assert str(pred.dtype) == f"torch.{told['dtype']}"
    if told["type"] == "log-probabilities":
        torch.testing.assert_close(pred.exp().sum(-1), torch.ones(pred.shape[:-1]), atol=1e-4, rtol=0)
    else:
        assert pred.shape[1] == told["num_channels"] and pred.shape[2:] == inputs["image"].shape[2:]


def test_compiled_without_a_break(network):
    bundle, _, built = network
    torch._dynamo.reset()
    compiled = torch.compile(built, fullgraph=True, backend="eager")
    for shape in SHAPES:
        inputs = inputs_of(bundle, *shape)
        with torch.no_grad():
            torch.testing.assert_close(compiled(**inputs), built(**inputs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_the_exported_detector_runs_at_other_sizes(kind, tmp_path):
    from d2rnet.detector.export import DenseBoxes, export_detector
    from d2rnet.detector.network import LesionDetector

    torch.manual_seed(0)
    detector = LesionDetector(classes=3, depth=18, resnet_width=8, width=16, layers=1).eval()
    path = tmp_path / f"detector.{kind}"
    export_detector(detector=detector, path=str(path), size=64)
    for rows, height, width in ((3, 64, 96), (1, 128, 64)):
        image = torch.rand(rows, 3, height, width)
        with torch.no_grad():
            expected = DenseBoxes(detector)(image)
        if kind == "pt2":
            found = torch.export.load(path).module()(image=image)
        else:
            session = pytest.importorskip("onnxruntime").InferenceSession(path)
            found = map(torch.as_tensor, session.run(["boxes", "scores"], {"image": image.numpy()}))
        for own, true in zip(found, expected, strict=True):
            torch.testing.assert_close(own, true, atol=1e-3, rtol=1e-3)


def test_compiled_ahead_of_time(run_alone, tmp_path):
    """AOTInductor, which needs a C++ compiler and no Python to run."""
    from akessfa.decoder import UpStep  # a part of a network that is quick to compile

    torch.manual_seed(0)

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.step = UpStep(4, 4, 4)

        def forward(self, image):
            return self.step(image, torch.nn.functional.interpolate(image, scale_factor=2.0))

    step = Step().eval()
    image = {"image": torch.rand(2, 4, 32, 64)}
    free = {"image": {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        program = torch.export.export(step, (), image, dynamic_shapes=free, strict=False)
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "step.pt2"))
        other = {"image": torch.rand(3, 4, 32, 64)}
        run_alone("aoti", path, [(other, step(**other))], tmp_path)


def test_a_torch_without_the_private_scan_is_told(monkeypatch):
    from d2rnet.report.export import scan_operator

    assert callable(scan_operator())
    monkeypatch.delattr(sys.modules["torch._higher_order_ops.scan"], "scan_op")
    with pytest.raises(ValueError, match=r"export: torch 2\..* has no scan_op"):
        scan_operator()


def test_another_suffix_is_refused(tmp_path):
    from common.engine.export import Example, export

    with pytest.raises(ValueError, match=r"path: .*x\.pb' ends in '\.pb'; the forms are \.onnx and \.pt2"):
        export(torch.nn.Identity(), Example({}, {}), path=str(Path(tmp_path) / "x.pb"), outputs=[])
