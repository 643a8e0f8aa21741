"""Keras' layers and three of its architectures in slow NumPy, float64 and channels last, as its documentation has them.

A layer draws its weights when it is first called; what it was given and what it returned is kept by its name.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


class Keras:
    """The weights and the outputs of every layer, by name. first: the number that counting names begin with."""

    def __init__(self, classes: int, thin: int, first: int = 1):
        self.random = np.random.default_rng(0)
        self.classes, self.thin, self.first = classes, thin, first
        self.weights: dict[str, list[np.ndarray]] = {}
        self.outputs: dict[str, np.ndarray] = {}
        self.counts: dict[str, int] = {}

    def draw(self, name: str, *weights: np.ndarray) -> list[np.ndarray]:
        self.weights[name] = [weight.astype("f4") for weight in weights]
        return [weight.astype("f8") for weight in self.weights[name]]

    def numbered(self, kind: str) -> str:
        number = self.counts.get(kind, self.first)
        self.counts[kind] = number + 1
        return f"{kind}_{number}" if number else kind

    def conv(self, name, x, filters, size, strides=1, padding="valid", bias=True):
        height, width = size if isinstance(size, tuple) else (size, size)
        filters //= self.thin
        scale = 1.4 / np.sqrt(height * width * x.shape[-1])
        kernel = self.random.normal(0, scale, (height, width, x.shape[-1], filters))
        drawn = self.draw(name, kernel, *([self.random.normal(0, 0.3, filters)] if bias else []))
        windows = sliding_window_view(padded(x, (height, width), strides, padding, 0.0), (height, width), (0, 1))
        windows = windows[::strides, ::strides]
        out = np.einsum("rsihw,hwio->rso", windows, drawn[0], optimize=True) + (drawn[1] if bias else 0)
        self.outputs[name] = out
        return out

    def norm(self, name, x, epsilon, scale=True):
        channels = x.shape[-1]
        gamma = self.random.uniform(0.5, 1.5, channels)
        rest = self.random.normal(0, 0.3, (2, channels))
        variance = self.random.uniform(1e-3, 1.5, channels)  # some so small that epsilon counts
        drawn = self.draw(name, *([gamma] if scale else []), *rest, variance)
        beta, mean, variance = drawn[-3:]
        out = (x - mean) / np.sqrt(variance + epsilon) * (drawn[0] if scale else 1) + beta
        self.outputs[name] = out
        return out

    def dense(self, name, x, units):
        units = self.classes if units is None else units // self.thin
        kernel, bias = self.draw(name, self.random.normal(0, 1.4 / np.sqrt(len(x)), (len(x), units)),
                                 self.random.normal(0, 0.3, units))  # fmt: skip
        self.outputs[name] = x @ kernel + bias
        return self.outputs[name]


def padded(x, size, strides, padding, value):
    """Pad as TensorFlow does: as many outputs as steps fit, and the odd row of padding at the end."""
    if padding == "valid":
        return x
    pads = []
    for length, window in zip(x.shape[:2], size, strict=True):
        total = max((-(-length // strides) - 1) * strides + window - length, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, (*pads, (0, 0)), constant_values=value)


def relu(x):
    return np.maximum(x, 0)


def max_pool(x, size, strides, padding="valid"):
    x = padded(x, (size, size), strides, padding, -np.inf)
    return sliding_window_view(x, (size, size), (0, 1))[::strides, ::strides].max((-1, -2))


def average_pool(x, size, strides, padding):
    """The mean of those pixels of a window that lie within the map."""
    windows = sliding_window_view(padded(x, (size, size), strides, padding, np.nan), (size, size), (0, 1))
    return np.nanmean(windows[::strides, ::strides], axis=(-1, -2))


def vgg16(keras: Keras, x: np.ndarray) -> None:
    for block, (depth, filters) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), start=1):
        for number in range(1, depth + 1):
            x = relu(keras.conv(f"block{block}_conv{number}", x, filters, 3, padding="same"))
        x = max_pool(x, 2, 2)
    x = relu(keras.dense("fc1", x.reshape(-1), 4096))
    keras.dense("predictions", relu(keras.dense("fc2", x, 4096)), None)


def resnet50(keras: Keras, x: np.ndarray, new: bool = False) -> None:
    """The layers' names as they were until 2019 (res2a_branch2a), or as they are since (conv2_block1_1_conv)."""

    def unit(x, stage, block, branch, filters, size, strides=1, padding="valid"):
        old = f"{stage}{'abcdef'[block - 1]}_branch{'1' if branch == 0 else '2' + 'abc'[branch - 1]}"
        place = f"conv{stage}_block{block}_{branch}"
        x = keras.conv(f"{place}_conv" if new else f"res{old}", x, filters, size, strides, padding)
        return keras.norm(f"{place}_bn" if new else f"bn{old}", x, 1.001e-5)

    x = keras.conv("conv1_conv" if new else "conv1", np.pad(x, ((3, 3), (3, 3), (0, 0))), 64, 7, 2)
    x = relu(keras.norm("conv1_bn" if new else "bn_conv1", x, 1.001e-5))
    x = max_pool(np.pad(x, ((1, 1), (1, 1), (0, 0))), 3, 2)
    for stage, (blocks, filters) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=2):
        for block in range(1, blocks + 1):
            strides = 2 if stage > 2 and block == 1 else 1
            y = relu(unit(x, stage, block, 1, filters, 1, strides))
            y = relu(unit(y, stage, block, 2, filters, 3, padding="same"))
            y = unit(y, stage, block, 3, 4 * filters, 1)
            x = relu(y + (unit(x, stage, block, 0, 4 * filters, 1, strides) if block == 1 else x))
    keras.dense("probs" if new else "fc1000", x.mean((0, 1)), None)


def inception_v3(keras: Keras, x: np.ndarray) -> None:
    def unit(x, filters, rows, columns, strides=1, padding="same"):
        x = keras.conv(keras.numbered("conv2d"), x, filters, (rows, columns), strides, padding, bias=False)
        return relu(keras.norm(keras.numbered("batch_normalization"), x, 1e-3, scale=False))

    def chain(x, *units):
        for filters, rows, columns in units:
            x = unit(x, filters, rows, columns)
        return x

    x = unit(unit(x, 32, 3, 3, 2, "valid"), 32, 3, 3, padding="valid")
    x = max_pool(unit(x, 64, 3, 3), 3, 2)
    x = max_pool(unit(unit(x, 80, 1, 1, padding="valid"), 192, 3, 3, padding="valid"), 3, 2)
    for pooled in (32, 64, 64):  # mixed 0, 1, 2
        branches = [unit(x, 64, 1, 1), chain(x, (48, 1, 1), (64, 5, 5)), chain(x, (64, 1, 1), (96, 3, 3), (96, 3, 3))]
        x = np.concatenate([*branches, unit(average_pool(x, 3, 1, "same"), pooled, 1, 1)], -1)
    left = unit(x, 384, 3, 3, 2, "valid")
    right = unit(chain(x, (64, 1, 1), (96, 3, 3)), 96, 3, 3, 2, "valid")
    x = np.concatenate([left, right, max_pool(x, 3, 2)], -1)  # mixed 3
    for width in (128, 160, 160, 192):  # mixed 4 to 7
        branches = [
            unit(x, 192, 1, 1),
            chain(x, (width, 1, 1), (width, 1, 7), (192, 7, 1)),
            chain(x, (width, 1, 1), (width, 7, 1), (width, 1, 7), (width, 7, 1), (192, 1, 7)),
        ]
        x = np.concatenate([*branches, unit(average_pool(x, 3, 1, "same"), 192, 1, 1)], -1)
    left = unit(unit(x, 192, 1, 1), 320, 3, 3, 2, "valid")
    right = unit(chain(x, (192, 1, 1), (192, 1, 7), (192, 7, 1)), 192, 3, 3, 2, "valid")
    x = np.concatenate([left, right, max_pool(x, 3, 2)], -1)  # mixed 8
    for _ in range(2):  # mixed 9, 10
        first = unit(x, 320, 1, 1)
        second = unit(x, 384, 1, 1)
        second = [unit(second, 384, 1, 3), unit(second, 384, 3, 1)]
        third = chain(x, (448, 1, 1), (384, 3, 3))
        third = [unit(third, 384, 1, 3), unit(third, 384, 3, 1)]
        x = np.concatenate([first, *second, *third, unit(average_pool(x, 3, 1, "same"), 192, 1, 1)], -1)
    keras.dense("predictions", x.mean((0, 1)), None)
