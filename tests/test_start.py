"""What is imported when: a command waits only for the libraries that it needs."""

import subprocess
import sys

import pytest

from rapbench.registries import REGISTRIES

# Each of half a second of CPU time or more.
FOR_REPORTS = {"scipy.stats", "statsmodels", "plotly", "jinja2", "matplotlib.figure"}
FOR_METHODS = {"captum"}


def loaded(code: str) -> set[str]:
    """Return the modules that a process of its own has imported after some lines."""
    done = subprocess.run([sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True,
                          text=True, check=True)  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["rapbench", "rapbench.cli", "rapbench.hydra_app", "rapbench.listing"])
def test_what_reads_the_words_does_not_wait_for_torch(module):
    assert not loaded(f"import {module}") & {"torch", "timm", "pandas", "pyarrow", "scipy", "matplotlib", "captum"}


def test_a_run_begins_without_what_reports_and_other_methods_need():
    assert not loaded("import rapbench.runner.run") & (FOR_REPORTS | FOR_METHODS)


@pytest.mark.parametrize("group", REGISTRIES)
def test_looking_up_an_entry_imports_the_module_that_is_called_so_and_no_other(group):
    registry = REGISTRIES[group]
    package = registry.package
    names = [name for name in registry if registry[name].function.__module__ == f"{package}.{name}"]
    name = names[-1]
    found = loaded(f"from rapbench.registries import REGISTRIES\nassert REGISTRIES[{group!r}][{name!r}]")
    entries = {f"{package}.{other}" for other in names}
    needed = loaded(f"import {package}.{name}") & entries  # those that it imports itself
    assert found & entries == needed | {f"{package}.{name}"}


@pytest.mark.parametrize("group", REGISTRIES)
@pytest.mark.parametrize("name", ["__init__", "_private", "../cli", "os.path", "registry", ""])
def test_a_name_that_is_no_entry_imports_nothing_of_that_name(group, name):
    code = f"""from rapbench.registries import REGISTRIES
from rapbench.errors import RapbenchError
try: REGISTRIES[{group!r}][{name!r}]
except RapbenchError as error: assert str(error).startswith('unknown'), error
else: raise SystemExit(1)"""
    assert not {f"{REGISTRIES[group].package}.{name}"} & loaded(code)
