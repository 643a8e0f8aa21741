"""RAP's later variant, `rap_aaai`, against pnpxai's port of it: heatmaps, sums, and which differences explain all.

Usage: pip install --no-deps --target FOLDER pnpxai==0.1.4 && python benchmarks/rap_reference.py FOLDER. Only its rules
of RAP are loaded, which need torch alone. ResNet-50 has Keras' weights. VGG-16 has random ones, fully connected layers
of 256 units, and images of 64 x 64 pixels, which is enough for the rules and much quicker.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torchvision.models import vgg16

from rapbench import attribute, load_model
from rapbench.data.decoding.decode import decode_ahead, stacked
from rapbench.data.samples import samples

IMAGES = 2
Port = Callable[[nn.Module, Tensor, Tensor], Tensor]


def load_port(folder: Path) -> tuple[Any, Any, Any]:
    """Return pnpxai's propagation and its rules of modules and functions, without the rest of the package."""
    for name in ("pnpxai", "pnpxai.explainers", "pnpxai.explainers.rap"):
        package = ModuleType(name)
        package.__path__ = [str(folder.joinpath(*name.split(".")))]
        sys.modules[name] = package
    from pnpxai.explainers.rap import rap  # type: ignore[import-not-found]
    from pnpxai.explainers.rap.rules import functions, modules  # type: ignore[import-not-found]

    return rap.RelativeAttributePropagation, modules, functions


def explained(propagation: Any, network: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    """Return its relevance of classes: what its explainer does, for these in place of the largest logits."""
    port = propagation(network)
    logits = port.run(x)
    relevance: Tensor = port.relprop(nn.functional.one_hot(targets, logits.shape[1]).to(x.dtype))
    return relevance.detach()


@contextmanager
def changed(owner: Any, **functions: Any) -> Iterator[None]:
    """Within: an object has other attributes."""
    before = {name: getattr(owner, name) for name in functions}
    for name, function in functions.items():
        setattr(owner, name, function)
    yield
    for name, function in before.items():
        setattr(owner, name, function)


def proportional(self: Any, rel: Tensor, inputs: Any, outputs: Tensor, args: Any = None, kwargs: Any = None) -> Any:
    """Share a sum's relevance in proportion to the summands."""
    over = torch.where(outputs == 0, 0, rel / torch.where(outputs == 0, 1, outputs))
    return [x * over for x in inputs]


def over_excitatory(self: Any, rel: Tensor, pos_out: Tensor, neg_out: Tensor, inputs: Tensor) -> Tensor:
    """Hand a fully connected layer's negative relevance to its excitatory inputs once more, in place of inhibitory."""

    def handed(out: Tensor, relevance: Tensor) -> Tensor:
        ratio = torch.where(out == 0, 0, relevance / torch.where(out == 0, 1, out))
        result: Tensor = inputs * self.gradprop(out, inputs, ratio)[0]
        return result

    total = pos_out + neg_out
    share = torch.where(total == 0, 0, neg_out / torch.where(total == 0, 1, total))
    new = handed(pos_out, rel.clamp(min=0)) + handed(neg_out, share * rel) + handed(pos_out, rel.clamp(max=0))
    surplus = new.sum(dim=self.agg_dims, keepdim=True) - rel.sum(dim=self.agg_dims, keepdim=True)
    shifted: Tensor = self.shift_rel(new, surplus)
    return shifted


def compare(name: str, network: nn.Module, x: Tensor, port: tuple[Any, Any, Any]) -> None:
    """Print how pnpxai's relevance, as it is and with each change, lies to ours."""
    propagation, modules, functions = port
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # which overwrites what pnpxai keeps
    with torch.no_grad():
        logits = network(x)
    targets = logits.argmax(1)
    logit = logits.gather(1, targets[:, None])[:, 0]
    ours = {method: attribute(network, x, targets, method) for method in ("rap_aaai", "rap")}

    def line(what: str, relevance: Tensor, against: str = "rap_aaai") -> None:
        one, other = relevance.sum(1).flatten(1), ours[against].sum(1).flatten(1)
        ranks = [float(spearmanr(a, b).statistic) for a, b in zip(one, other, strict=True)]
        apart = ((relevance - ours[against]).flatten(1).norm(dim=1) / ours[against].flatten(1).norm(dim=1)).max()
        sums = (relevance.flatten(1).sum(1) / logit).tolist()
        print(f"  {what:44s} {against:9s} {sum(ranks) / len(ranks):8.4f} {min(ranks):8.4f} {float(apart):9.1e}   "
              + " ".join(f"{ratio:.6g}" for ratio in sums), flush=True)  # fmt: skip

    print(f"{name}, {len(x)} images, float64")
    print(f"  {'':44s} {'against':9s} {'rank r':>8s} {'lowest':>8s} {'apart':>9s}   sum of relevance / logit, by image")
    line("ours", ours["rap_aaai"])
    line("pnpxai", explained(propagation, network, x, targets), "rap")
    line("pnpxai", explained(propagation, network, x, targets))
    with changed(functions.Add, relprop=proportional):
        line("pnpxai, sums in proportion", explained(propagation, network, x, targets))
        with changed(modules.Linear, pos_prop=over_excitatory):
            line("pnpxai, also fully connected as released", explained(propagation, network, x, targets))
    second = logits.topk(2).indices[:, 1]
    asked = attribute(network, x, second, "rap_aaai").sum(1).flatten(1)
    given = ours["rap_aaai"].sum(1).flatten(1)  # pnpxai's explainer takes the first class, whatever it is asked for
    ranks = [float(spearmanr(a, b).statistic) for a, b in zip(given, asked, strict=True)]
    print(f"  ours of the first class and of the second: rank r {sum(ranks) / len(ranks):.4f}, lowest {min(ranks):.4f}")


def main() -> None:
    """Compare on both networks."""
    port = load_port(Path(sys.argv[1]))
    model = load_model("resnet50_keras")
    dataset = samples()
    x = stacked(decode_ahead(dataset, dataset.samples[:IMAGES], model.transform)).double()
    torch.manual_seed(0)
    small = vgg16(weights=None)
    small.classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1000)
    )
    cropped = x[:, :, 80:144, 80:144] / 64
    compare("VGG-16, random weights", small.double().eval(), cropped, port)
    compare("ResNet-50 (Keras)", model.network.double(), x, port)


if __name__ == "__main__":
    main()
