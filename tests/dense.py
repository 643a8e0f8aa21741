"""Every rule of relevance propagation as a slow dense formula in float64, on the full matrix z_ij of one image.

Written from the printed formulas, without the project's rules: what these are compared with.
"""

import torch
from torch import Tensor, nn

STABILIZER = 1e-6
LINEAR = (nn.Linear, nn.modules.conv._ConvNd)
NORM = nn.modules.batchnorm._BatchNorm
AVERAGE = (nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd)


def matrix(module: nn.Module, shape: torch.Size) -> Tensor:
    """The dense weights (inputs, outputs) of an affine module without its bias, one basis vector at a time."""
    basis = torch.eye(shape.numel(), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        return (module(basis) - module(torch.zeros(1, *shape, dtype=torch.float64))).flatten(1)


def offset(module: nn.Module, shape: torch.Size) -> Tensor:
    """What an affine module gives for 0: its bias at every output."""
    with torch.no_grad():
        return module(torch.zeros(1, *shape, dtype=torch.float64)).flatten()


def ratio(z: Tensor) -> Tensor:
    """z_ij / sum_i z_ij, 0 where the sum is 0; z: (inputs, outputs)."""
    total = z.sum(0)
    return torch.where(total == 0, 0, z / torch.where(total == 0, 1, total))


def first_propagation(weights: Tensor, m: Tensor, relevance: Tensor) -> Tensor:
    """RAP (5), for every output's relevance."""
    z = m[:, None] * weights
    return (ratio(z.clamp(min=0)) - ratio(z.clamp(max=0))) @ relevance


def flow(weights: Tensor, m: Tensor, relevance: Tensor, kappa: int, mixed: str = "joint") -> Tensor:
    """RAP (7) or (8)."""
    up, down = weights.clamp(min=0), weights.clamp(max=0)
    if kappa < 0:
        up, down = down, up
    one, two = m.clamp(min=0)[:, None] * up, m.clamp(max=0)[:, None] * down
    shares = ratio(one + two) if mixed == "joint" else ratio(one) + ratio(two)
    return shares @ relevance


def zbox(weights: Tensor, x: Tensor, relevance: Tensor, swapped: bool = False,
         bounds: tuple[float, float] | None = None, stabilizer: float = 0.0) -> Tensor:  # fmt: skip
    """z^B with bounds, the image's own by default."""
    low, high = bounds or ((x.max(), x.min()) if swapped else (x.min(), x.max()))
    q = x[:, None] * weights - low * weights.clamp(min=0) - high * weights.clamp(max=0)
    return epsilon(q, torch.ones(len(x)).double(), relevance, torch.zeros(q.shape[1]).double(), stabilizer)


def flat(reach: Tensor, relevance: Tensor) -> Tensor:
    """The same to each input that an output has; reach: 1 there, else 0, (inputs, outputs)."""
    return reach / (reach.sum(0) + STABILIZER) @ relevance


def wsquare(weights: Tensor, relevance: Tensor, bias: Tensor) -> Tensor:
    """By the weights' squares."""
    return weights**2 / ((weights**2).sum(0) + bias**2 + STABILIZER) @ relevance


def gamma(weights: Tensor, m: Tensor, relevance: Tensor, bias: Tensor, value: float, output_bias: Tensor) -> Tensor:
    """Products of the output's sign favoured; output_bias: of the output whose sign counts."""
    handed = torch.zeros(len(m)).double()
    for j, r in enumerate(relevance):
        z = m * weights[:, j]
        output = float(z.sum() + output_bias[j])
        if output == 0:
            continue
        up = z * output > 0
        favoured = torch.where(up, (1 + value) * z, z)
        b = bias[j] * ((1 + value) if bias[j] * output > 0 else 1)
        total = favoured.sum() + b
        handed += favoured / (total + STABILIZER * (1 if total >= 0 else -1)) * r
    return handed


def bias_correction(relevance: Tensor, bias: Tensor, kappa: int, divisor: str = "area") -> Tensor:
    """RAP (10), unit by unit; relevance: (channels, *spatial)."""
    area = relevance[0].numel() ** (1 if divisor == "area" else 2)
    corrected = relevance.clone()
    for channel in range(len(bias)):
        corrected[channel] -= kappa * (bias[channel] - bias.mean()) / area
    return corrected


def norm_correction(norm: nn.Module, z: Tensor, relevance: Tensor, kappa: int) -> Tensor:
    """RAP (11); z, relevance: (channels, *spatial)."""
    units = z.numel()
    with torch.no_grad():
        shift = torch.where(relevance != 0, norm(z[None])[0] - z, 0)
    return relevance - kappa * (shift - shift.sum() / units) / units


def aaai_seed(weights: Tensor, m: Tensor, relevance: Tensor) -> Tensor:
    """`rap_aaai`'s last layer, for every output's relevance."""
    return ratio((m[:, None] * weights).abs()) @ relevance


def aaai(weights: Tensor, m: Tensor, relevance: Tensor, fully_connected: bool) -> Tensor:
    """`rap_aaai`'s hidden layer, unit by unit."""
    z = m[:, None] * weights
    excitatory, inhibitory = z.clamp(min=0), -z.clamp(max=0)
    handed = torch.zeros(len(m)).double()
    for j, r in enumerate(relevance):
        p, n = excitatory[:, j].sum(), inhibitory[:, j].sum()
        if r == 0 or p + n == 0:
            continue
        plus, minus = r.clamp(min=0), r.clamp(max=0)
        over_p = excitatory[:, j] / p if p > 0 else torch.zeros(len(m)).double()
        over_n = inhibitory[:, j] / n if n > 0 else torch.zeros(len(m)).double()
        handed += over_p * plus + over_n * n / (p + n) * (plus + minus)
        handed += (over_p if fully_connected else over_n) * minus
    touched = handed != 0
    if touched.any():
        handed[touched] -= (handed.sum() - relevance.sum()) / touched.sum()
    return handed


def alpha_beta(weights: Tensor, m: Tensor, relevance: Tensor, bias: Tensor, alpha: float) -> Tensor:
    """LRP's alpha-beta rule; bias: one value an output, 0 where it is ignored."""
    z = m[:, None] * weights
    up = z.clamp(min=0) / (z.clamp(min=0).sum(0) + bias.clamp(min=0) + STABILIZER)
    down = z.clamp(max=0) / (z.clamp(max=0).sum(0) + bias.clamp(max=0) - STABILIZER)
    return (alpha * up - (alpha - 1) * down) @ relevance


def epsilon(weights: Tensor, m: Tensor, relevance: Tensor, bias: Tensor, value: float) -> Tensor:
    """LRP's epsilon rule."""
    z = m[:, None] * weights
    total = z.sum(0) + bias
    total = total + value * torch.ones_like(total).copysign(total)
    return torch.where(total == 0, 0, z / torch.where(total == 0, 1, total)) @ relevance


def average(weights: Tensor, m: Tensor, relevance: Tensor, stabilizer: float = 0.0) -> Tensor:
    """Average pooling in proportion to the activations."""
    z = m[:, None] * weights
    total = z.sum(0)
    total = total + stabilizer * torch.ones_like(total).copysign(total)
    return torch.where(total == 0, 0, z / torch.where(total == 0, 1, total)) @ relevance


def walk(layers: list[nn.Module], x: Tensor, target: int, method: str, kappa: int = 1, **options: object) -> Tensor:
    """Return the relevance of one image x through a chain of modules, from the last module's output down.

    method: rap (one flow), rap_aaai, or lrp with options convolution and dense: an alpha, or ("epsilon", value); and
    ignore_bias. Batch norms behind a linear layer are one layer with it in LRP.
    """
    if method == "lrp":
        layers = _merged(layers)
    values = [x[None]]
    with torch.no_grad():
        for layer in layers:
            values.append(layer(values[-1]))
    relevance = torch.zeros_like(values[-1][0])
    relevance[target] = values[-1][0, target]
    linear = [number for number, layer in enumerate(layers) if _is_linear(layer)]
    for number in range(len(layers) - 1, -1, -1):
        layer, m = layers[number], values[number][0]
        if _is_linear(layer):
            first, head = number == linear[0], number == linear[-1]
            down = _linear(layer, m, relevance, method, kappa, first, head, options)
        elif isinstance(layer, NORM) and method == "rap":
            down = norm_correction(layer, m, relevance, kappa if number < linear[-1] else 0)
        elif isinstance(layer, NORM) and method == "rap_aaai":
            down = torch.where(m * layer.weight.detach().view(-1, *[1] * (m.dim() - 1)) == 0, 0, relevance)
        elif isinstance(layer, AVERAGE):
            weights = matrix(layer, m.shape)
            down = average(weights, m.flatten(), relevance.flatten(), STABILIZER if method == "lrp" else 0.0)
        elif isinstance(layer, (nn.Upsample, nn.PixelShuffle)):
            down = matrix(layer, m.shape) @ relevance.flatten()
        else:  # elementwise, reshapes, and what LRP passes on
            down = relevance
        relevance = down.reshape(m.shape)
    return relevance


def _linear(layer, m, relevance, method, kappa, first, head, options):
    weights, flat = matrix(layer, m.shape), m.flatten()
    inner = layer[0] if isinstance(layer, nn.Sequential) else layer
    dense = isinstance(inner, nn.Linear)
    if method == "lrp":
        rule = options["dense" if dense else "convolution"]
        bias = torch.zeros(weights.shape[1]).double() if options.get("ignore_bias") else offset(layer, m.shape)
        if isinstance(rule, tuple):
            return epsilon(weights, flat, relevance.flatten(), bias, rule[1])
        return alpha_beta(weights, flat, relevance.flatten(), bias, rule)
    if head:
        return (first_propagation if method == "rap" else aaai_seed)(weights, flat, relevance.flatten())
    if method == "rap" and layer.bias is not None:
        relevance = bias_correction(relevance, layer.bias.detach(), kappa)
    if first:
        return zbox(weights, flat, relevance.flatten())
    if method == "rap":
        return flow(weights, flat, relevance.flatten(), kappa)
    return aaai(weights, flat, relevance.flatten(), dense)


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, (*LINEAR, nn.Sequential))


def _merged(layers: list[nn.Module]) -> list[nn.Module]:
    merged: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, NORM) and merged and _is_linear(merged[-1]):
            merged[-1] = nn.Sequential(merged[-1], layer)
        else:
            merged.append(layer)
    return merged
