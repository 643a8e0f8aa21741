"""Mutations of the real code, each of which `rapbench drift` must notice; and untouched code, which it must let pass.

Each is made in a copy of the source tree and run in a process of its own, on the methods that it can reach.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rapbench.app.cli import main
from rapbench.app.drift_runs import PERTURBED
from tests.mutations import mutated

ROOT = Path(__file__).resolve().parents[1]
METHODS = {
    "rap": "[rap]",
    "aaai": "[rap_aaai]",
    "lrp": "[lrp_alpha_beta,lrp_epsilon,lrp_preset_b]",
    "gradients": "[integrated_gradients,smoothgrad]",
    "relu": "[guided_backprop,deeplift]",
    "controls": "[random,edge]",
}
# what -> (file, the code, what it becomes, on which methods, exit code); `_1`, `_2` stand for any expression
MUTATIONS = {
    "RAP: the flows exchanged": (
        "relevance/rap.py", "_1 = weight_magnitude(_2, _3.kappa)", "_1 = weight_magnitude(_2, -_3.kappa)", "rap", 1),
    "RAP: a sign in the first propagation": (
        "relevance/rap.py", "(-1, _1.relevance.neg_())", "(-1, _1.relevance)", "rap", 1),
    "RAP: a bound of z^B": (
        "relevance/box.py", "[(_1 - _2, weight_magnitude(_3, 1)), (_4 - _1, weight_magnitude(_3, -1))]",
        "[(_1 - _2, weight_magnitude(_3, 1)), (_1 - _2, weight_magnitude(_3, -1))]", "rap", 1),
    "RAP: the correction for batch norms dropped": (
        "relevance/norm.py", "_1.kappa / _2", "0 / _2", "rap", 1),
    "RAP: the correction's sign": (
        "relevance/norm.py", "_1.sub_(_2, alpha=share)", "_1.add_(_2, alpha=share)", "rap", 1),
    "RAP: the first of two summands gets all": (
        "relevance/wiring.py", "(_1 * _2).sum_to_size(_3.shape), _2.mul_(_4).sum_to_size(_5.shape)",
        "((_1 + _4) * _2).sum_to_size(_3.shape), _2.mul_(_4).sum_to_size(_5.shape)", "rap", 1),
    "RAP: average pooling without the activations": (
        "relevance/pooling.py", "back(_1.share(_2, _2.relevance, total, summand=half)) * _3",
        "back(_1.share(_2, _2.relevance, total, summand=half))", "rap", 1),
    "RAP (AAAI): the surplus added": (
        "relevance/aaai.py", "handed - touched * _1", "handed + touched * _1", "aaai", 1),
    "LRP: beta's sign": ("relevance/lrp_rules.py", "(-1, 1 - self.alpha)", "(-1, self.alpha - 1)", "lrp", 1),
    "LRP: norms folded with twice their eps": (
        "relevance/linear.py", "_1.running_var + _1.eps", "_1.running_var + 2 * _1.eps", "lrp", 2),
    "LRP: preset B's rule for dense layers": (
        "methods/lrp_preset_b.py", 'epsilon("lrp_preset_b", _1, _2)', "AlphaBeta(2, _2)", "lrp", 1),
    "integrated gradients: another quadrature": (
        "methods/integrated_gradients.py", "method = quadrature", 'method="riemann_left"', "gradients", 1),
    "SmoothGrad: a tenth more noise": (
        "methods/adapters/noisy.py", "_1 = share * _2", "_1 = 1.1 * share * _2", "gradients", 1),
    "guided backprop: ReLU6 without its bound": (
        "methods/adapters/rectified.py", "_1.clamp(max=6)", "_1", "relu", 2),
    "DeepLIFT: the gradient in place of the rescale rule": (
        "methods/adapters/rescaled.py", "SUPPORTED_NON_LINEAR[Elementwise] = _1",
        "SUPPORTED_NON_LINEAR[Elementwise] = lambda module, inputs, outputs, grad_input, grad_output, eps: grad_input",
        "relu", 1),
    "edge: one channel": ("methods/edge.py", "_1.double().mean(1)", "_1.double()[:, 0]", "controls", 1),
    "random: a seed that ignores the image": (
        "methods/__init__.py", "seed_of(_1, image_id, _2)", "seed_of(_1, _2)", "controls", 1),
    "draws: a shift by one bit less": ("core/random.py", "_1 ^ _shift(_1, 27)", "_1 ^ _shift(_1, 26)", "controls", 1),
    "ranking: K off by one": (
        "protocols/base/ranking.py", "self.count.clamp(max=_1)", "self.count.clamp(max=_1 + 1)", "controls", 1),
    "ranking: MoRF and LeRF exchanged": (
        "protocols/base/ranking.py", "descending = True", "descending=False", "controls", 1),
    "ranking: the signs exchanged": (
        "protocols/base/ranking.py", '_1 if sign == "positive" else -_1', '-_1 if sign == "positive" else _1',
        "controls", 1),
    "ranking: one channel's relevance": (
        "heatmaps/summed.py", "torch.sum(_1, dim=1)", "_1[:, 0]", "rap", 1),
    "removal: another fill": (
        "protocols/base/fills.py", "images.amin(image, keepdim=True)", "images.mean(channel, keepdim=True)",
        "controls", 1),
    "shuffling: each channel for itself": (
        "protocols/shuffling.py", "pixels.rows[pixels.places] = pixels.rows[_1]",
        "pixels.rows[pixels.places] = torch.stack([pixels.rows[pixels.places.gather(1, keys_at(seeds + channel, "
        "ascending).masked_fill(pixels.beyond, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True))]"
        "[..., channel] for channel in range(images.shape[1])], -1)", "controls", 1),
    "shuffling: a seed that ignores the image": (
        "protocols/base/perturbation.py", "_1 = batch.seeds()", "_1 = torch.zeros_like(batch.seeds())", "controls", 1),
    "shuffling: keys by rank": (
        "protocols/shuffling.py", "keys_at(_1, _2)", "keys_at(_1, torch.arange(_2.shape[1], device=_1.device)[None])",
        "controls", 1),
    "D_K: from the second pixel": (
        "protocols/distance.py", "_1 - _1[..., :1]", "_1 - _1[..., 1:2]", "controls", 1),
    "D_K: divided by K + 1": (
        "protocols/distance.py", "_1.gather(1, _2) / _2", "_1.gather(1, _2) / (_2 + 1)", "controls", 1),
    "evaluation: no pixel is perturbed": (
        "protocols/base/perturbation.py", "selected[rows, columns]", "0 * selected[rows, columns]", "controls", 1),
    "evaluation: the best logit instead of the label's": (
        "protocols/base/batch.py", "_1.gather(1, _2)[:, 0], _1.softmax(1).gather(1, _2)[:, 0]",
        "_1.amax(1), _1.softmax(1).gather(1, _2)[:, 0]", "controls", 1),
    "regions: MoRF and LeRF exchanged": (
        "protocols/regions.py", "(-_1, _1, _2)", "(_1, -_1, _2)", "rap", 1),
    "regions: a step behind": (
        "protocols/regions.py", "self.turns[_1][_2] <= _3", "self.turns[_1][_2] < _3", "controls", 1),
    "regions: drawn beyond the range of pixel values": (
        "protocols/base/whole_fills.py", "(_1 + 1) / 2", "_1", "controls", 1),
    "regions: a seed that ignores the image": (
        "protocols/regions.py", '_1 = batch.seeds("regions")', '_1 = torch.zeros_like(batch.seeds("regions"))',
        "controls", 1),
    "chunks: every chunk begins at the first image": (
        "evaluation/chunk.py", '_1["row"] + self.first', '_1["row"]', "controls", 2),
    "preprocessing: another filter, in the code": (
        "model/preprocessing.py", "InterpolationMode(self.interpolation)", 'InterpolationMode("bilinear")',
        "controls", 1),
    "preprocessing: a deviation 1 % too large, in the code": (
        "model/preprocessing.py", "(torch.tensor(_1).view(3, 1, 1) for _1 in (self.mean, self.std))",
        "(torch.tensor(_1).view(3, 1, 1) for _1 in (self.mean, [1.01 * value for value in self.std]))",
        "controls", 1),
    "preprocessing: the crop a pixel aside": (
        "model/preprocessing.py", "vision.center_crop(_1, [self.crop])",
        "vision.crop(_1, (_1.height - self.crop) // 2 + 1, (_1.width - self.crop) // 2, self.crop, self.crop)",
        "controls", 1),
    "preprocessing: another filter, as the model states it": (
        "zoo/efficientnet_lite0.py", 'interpolation = "bicubic"', 'interpolation="bilinear"', "controls", 2),
    "preprocessing: another deviation, as the model states it": (
        "zoo/efficientnet_lite0.py", "std = (128.0, 128.0, 128.0)", "std=(127.0, 127.0, 127.0)", "controls", 2),
    "a default: residual connections": (
        "../configs/method/rap.yaml", "residual: proportional", "residual: absolute", "rap", 2),
}  # fmt: skip
SAID = {
    "preprocessing: another filter, as the model states it": "preprocessing: ",
    "preprocessing: another deviation, as the model states it": "preprocessing: ",
    "a default: residual connections": "methods.rap.options.residual: proportional in the baseline, absolute here",
    "chunks: every chunk begins at the first image": "is not the folder of a whole run",
    "LRP: norms folded with twice their eps": "is not the folder of a whole run",
    "guided backprop: ReLU6 without its bound": "missing here: guided_backprop",
}
# Those that the run itself refuses, and what it says: its report, or, before any relevance is handed out, the check
# that the graph with its folded norms gives the model's own logits.
REFUSED = {
    "chunks: every chunk begins at the first image": "it has other rows than its place in the store",
    "guided backprop: ReLU6 without its bound": "other logits than the model itself",
    "LRP: norms folded with twice their eps": "other logits than the model itself",
}

# Noticed where the baseline was made; elsewhere they are within what another platform may do.
ONLY_AT_HOME: set[str] = set()


def run_in(tree: Path, methods: str, *overrides: str, refused: str = "", **environment: str) -> Path:
    """Run part of the drift experiment with a tree's code; return the results' folder.

    refused: what it must say as it refuses, with exit code 2.
    """
    command = [sys.executable, "-m", "rapbench.app.cli", "run", "experiment=drift", f"method={METHODS[methods]}",
               "subset.n=3", "chunk=2", f"results={tree}/results", *overrides]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == (2 if refused else 0), done.stderr[-2000:]
    assert refused in done.stderr
    return tree / "results/drift/efficientnet_lite0"


def copy_to(tree: Path) -> Path:
    for part in ("rapbench", "configs", "baselines/published"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def drift(results: Path, baseline: Path, *arguments: str) -> int:
    return main(["drift", str(results), "--baseline", str(baseline), *arguments])


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """Return a function: methods -> the baseline of untouched code, here and as if made on another platform."""
    known: dict[str, tuple[Path, Path]] = {}

    def freeze(methods: str) -> tuple[Path, Path]:
        if methods not in known:
            tree, other = (copy_to(tmp_path_factory.mktemp(f"{name}-{methods}")) for name in ("untouched", "perturbed"))
            _, kernels, overrides = PERTURBED["chunks"]
            perturbed = run_in(other, methods, *overrides, **kernels)
            results = run_in(tree, methods)
            known[methods] = tree / "here.csv", tree / "elsewhere.csv"
            for baseline in known[methods]:
                assert drift(results, baseline, "--update", "--perturbed", str(perturbed)) == 0
            facts = known[methods][1].with_suffix(".yaml")
            made = yaml.safe_load(facts.read_text())
            made["platform"]["processor"] = "another"
            facts.write_text(yaml.safe_dump(made))
        return known[methods]

    return freeze


def changed(what: str) -> str:
    """Return a file's text with a mutation; AssertionError unless it applies in exactly one place."""
    file, before, after, _, _ = MUTATIONS[what]
    text = (ROOT / "rapbench" / file).read_text()
    if file.endswith(".py"):
        return mutated(text, before, after)
    assert text.splitlines().count(before) == 1
    return text.replace(before, after)


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_mutation_applies_in_one_place(what):
    changed(what)


@pytest.mark.slow
@pytest.mark.parametrize("what", MUTATIONS)
def test_a_mutation_is_noticed(what, frozen, tmp_path, capsys):
    file, _, _, methods, expected = MUTATIONS[what]
    here, elsewhere = frozen(methods)
    (copy_to(tmp_path) / "rapbench" / file).write_text(changed(what))
    results = run_in(tmp_path, methods, refused=REFUSED.get(what, ""))
    capsys.readouterr()
    assert drift(results, here) == expected
    captured = capsys.readouterr()
    assert SAID.get(what, "Images that moved") in captured.out + captured.err
    assert drift(results, elsewhere) == (0 if what in ONLY_AT_HOME else expected)


@pytest.mark.slow
@pytest.mark.parametrize("methods", ["rap", "controls"])
def test_untouched_code_passes_in_another_run(methods, frozen, tmp_path, capsys):
    results = run_in(copy_to(tmp_path), methods)
    for baseline, said in zip(frozen(methods), ("The same platform", "Another platform"), strict=True):
        assert drift(results, baseline) == 0
        assert said in capsys.readouterr().out


@pytest.mark.slow
def test_untouched_code_passes_against_the_committed_baseline(tmp_path):
    """`make check-drift`, on whatever platform this is."""
    command = [sys.executable, str(ROOT / "experiments/drift.py"), "check",
               str(ROOT / "baselines/drift/efficientnet_lite0.csv")]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "No drift" in done.stdout
