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

ROOT = Path(__file__).resolve().parents[1]
METHODS = {
    "rap": "[rap]",
    "aaai": "[rap_aaai]",
    "lrp": "[lrp_alpha_beta,lrp_epsilon,lrp_preset_b]",
    "gradients": "[integrated_gradients,smoothgrad]",
    "relu": "[guided_backprop,deeplift]",
    "controls": "[random,edge]",
}
PER_CHANNEL = (
    "pixels.rows[pixels.places] = torch.stack([pixels.rows[pixels.places.gather(1, keys_at(seeds + channel, "
    "ascending).masked_fill(pixels.beyond, torch.iinfo(torch.int64).max).argsort(dim=1, stable=True))]"
    "[..., channel] for channel in range(images.shape[1])], -1)"
)
# what -> (file, line's part, what it becomes, on which methods, exit code)
MUTATIONS = {
    "RAP: the flows exchanged": (
        "relevance/rap.py", "ours = weight_magnitude(step, flow.kappa)", "ours = weight_magnitude(step, -flow.kappa)",
        "rap", 1),
    "RAP: a sign in the first propagation": (
        "relevance/rap.py", "(-1, flow.relevance.neg_())", "(-1, flow.relevance)", "rap", 1),
    "RAP: a bound of z^B": (
        "relevance/rap.py", "(high - x, weight_magnitude(step, -1))", "(x - low, weight_magnitude(step, -1))",
        "rap", 1),
    "RAP: the correction for batch norms dropped": (
        "relevance/norm.py", "if not step.options.batchnorm_correction:", "if True:", "rap", 1),
    "RAP: the correction's sign": (
        "relevance/norm.py", "relevance.sub_(shift, alpha=share)", "relevance.add_(shift, alpha=share)", "rap", 1),
    "RAP: the first of two summands gets all": (
        "relevance/wiring.py", "yield (a * shared).sum_to_size(a.shape),",
        "yield ((a + b) * shared).sum_to_size(a.shape),",
        "rap", 1),
    "RAP: average pooling without the activations": (
        "relevance/pooling.py", "yield (back(step.share(flow, flow.relevance, total)) * m,)",
        "yield (back(step.share(flow, flow.relevance, total)),)", "rap", 1),
    "RAP (AAAI): the surplus added": (
        "relevance/aaai.py", "handed - touched * surplus", "handed + touched * surplus", "aaai", 1),
    "LRP: beta's sign": (
        "relevance/lrp.py", "(-1, 1 - self.alpha)", "(-1, self.alpha - 1)", "lrp", 1),
    "LRP: norms folded with twice their eps": (
        "relevance/linear.py", "(norm.running_var + norm.eps)", "(norm.running_var + 2 * norm.eps)", "lrp", 2),
    "LRP: preset B's rule for dense layers": (
        "methods/lrp_preset_b.py", "dense=dense, balance", "dense=AlphaBeta(2, bias), balance", "lrp", 1),
    "integrated gradients: another quadrature": (
        "methods/integrated_gradients.py", "method=quadrature,", 'method="riemann_left",', "gradients", 1),
    "SmoothGrad: a tenth more noise": (
        "methods/smoothgrad.py", "deviation = self.noise", "deviation = 1.1 * self.noise", "gradients", 1),
    "guided backprop: ReLU6 without its bound": (
        "methods/adapters/rectified.py", "return rectified.clamp(max=6)", "return rectified", "relu", 2),
    "DeepLIFT: the gradient in place of the rescale rule": (
        "methods/deeplift.py", "SUPPORTED_NON_LINEAR[Elementwise] = nonlinear",
        "SUPPORTED_NON_LINEAR[Elementwise] = lambda module, inputs, outputs, grad_input, grad_output, eps: grad_input",
        "relu", 1),
    "edge: one channel": (
        "methods/edge.py", "inputs.double().mean(1)", "inputs.double()[:, 0]", "controls", 1),
    "random: a seed that ignores the image": (
        "methods/__init__.py", "seed_of(seed, image_id, method)", "seed_of(seed, method)", "controls", 1),
    "draws: a shift by one bit less": (
        "core/random.py", "(z ^ _shift(z, 27))", "(z ^ _shift(z, 26))", "controls", 1),
    "ranking: K off by one": (
        "protocols/base/ranking.py", "self.count.clamp(max=int(k))", "self.count.clamp(max=int(k) + 1)", "controls", 1),
    "ranking: MoRF and LeRF exchanged": (
        "protocols/base/ranking.py", "argsort(dim=1, descending=True", "argsort(dim=1, descending=False",
        "controls", 1),
    "ranking: the signs exchanged": (
        "protocols/base/ranking.py", 'if sign == "positive" else', 'if sign == "negative" else', "controls", 1),
    "ranking: one channel's relevance": (
        "heatmaps/summed.py", "return torch.sum(relevance, dim=1)", "return relevance[:, 0]", "rap", 1),
    "removal: another fill": (
        "protocols/base/fills.py", "return images.amin(image, keepdim=True)",
        "return images.mean(channel, keepdim=True)", "controls", 1),
    "shuffling: each channel for itself": (
        "protocols/shuffling.py", "pixels.rows[pixels.places] = pixels.rows[source]", PER_CHANNEL, "controls", 1),
    "shuffling: a seed that ignores the image": (
        "protocols/base/perturbation.py", "seeds = batch.seeds()", "seeds = torch.zeros_like(batch.seeds())",
        "controls", 1),
    "shuffling: keys by rank": (
        "protocols/shuffling.py", "keys_at(seeds, ascending)",
        "keys_at(seeds, torch.arange(ascending.shape[1], device=seeds.device)[None])", "controls", 1),
    "D_K: from the second pixel": (
        "protocols/distance.py", "(places - places[..., :1])", "(places - places[..., 1:2])", "controls", 1),
    "D_K: divided by K + 1": (
        "protocols/distance.py", "sums.gather(1, counts) / counts", "sums.gather(1, counts) / (counts + 1)",
        "controls", 1),
    "evaluation: no pixel is perturbed": (
        "protocols/base/perturbation.py",
        "selected[rows, columns], seeds[rows]", "0 * selected[rows, columns], seeds[rows]",
        "controls", 1),
    "evaluation: the best logit instead of the label's": (
        "protocols/base/batch.py", "return logits.gather(1, places)[:, 0],", "return logits.amax(1),", "controls", 1),
    "regions: MoRF and LeRF exchanged": (
        "protocols/regions.py", "(-relevance, relevance, drawn)", "(relevance, -relevance, drawn)", "rap", 1),
    "regions: a step behind": (
        "protocols/regions.py", "self.turns[order][rows] <= steps", "self.turns[order][rows] < steps", "controls", 1),
    "regions: drawn beyond the range of pixel values": (
        "protocols/regions.py", "((drawn + 1) / 2)", "drawn", "controls", 1),
    "regions: a seed that ignores the image": (
        "protocols/regions.py", 'seeds = batch.seeds("regions")', 'seeds = torch.zeros_like(batch.seeds("regions"))',
        "controls", 1),
    "chunks: every chunk begins at the first image": (
        "evaluation/chunk.py", 'columns["row"] + self.first', 'columns["row"]', "controls", 2),
    "preprocessing: another filter, in the code": (
        "model/preprocessing.py", "InterpolationMode(self.interpolation)", 'InterpolationMode("bilinear")',
        "controls", 1),
    "preprocessing: a deviation 1 % too large, in the code": (
        "model/preprocessing.py", "view(3, 1, 1) for values in (self.mean, self.std))",
        "view(3, 1, 1) for values in (self.mean, [1.01 * value for value in self.std]))", "controls", 1),
    "preprocessing: the crop a pixel aside": (
        "model/preprocessing.py", "vision.center_crop(resized, [self.crop])",
        "vision.crop(resized, (resized.height - self.crop) // 2 + 1, (resized.width - self.crop) // 2, self.crop, "
        "self.crop)", "controls", 1),
    "preprocessing: another filter, as the model states it": (
        "zoo/efficientnet_lite0.py", 'interpolation="bicubic"', 'interpolation="bilinear"', "controls", 2),
    "preprocessing: another deviation, as the model states it": (
        "zoo/efficientnet_lite0.py", "std=(128.0, 128.0, 128.0)", "std=(127.0, 127.0, 127.0)", "controls", 2),
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


@pytest.mark.parametrize("what", MUTATIONS)
def test_the_line_is_there_once(what):
    file, before, after, _, _ = MUTATIONS[what]
    assert (ROOT / "rapbench" / file).read_text().count(before) == 1
    assert before != after


@pytest.mark.slow
@pytest.mark.parametrize("what", MUTATIONS)
def test_a_mutation_is_noticed(what, frozen, tmp_path, capsys):
    file, before, after, methods, expected = MUTATIONS[what]
    here, elsewhere = frozen(methods)
    path = copy_to(tmp_path) / "rapbench" / file
    path.write_text(path.read_text().replace(before, after))
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
