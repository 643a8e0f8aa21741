"""What is imported when: a command waits only for the libraries that it needs."""

import subprocess
import sys

import pytest

from rapbench.app.registries import REGISTRIES
from rapbench.core.errors import RapbenchError

# Each of half a second of CPU time or more.
FOR_REPORTS = {"scipy.stats", "statsmodels", "plotly", "jinja2", "matplotlib.figure"}
FOR_METHODS = {"captum"}


def loaded(code: str) -> set[str]:
    """Return the modules that a process of its own has imported after some lines."""
    done = subprocess.run([sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True,
                          text=True, check=True)  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["rapbench", "rapbench.app.cli", "rapbench.app.hydra_app", "rapbench.app.listing"])
def test_what_reads_the_words_does_not_wait_for_torch(module):
    assert not loaded(f"import {module}") & {"torch", "timm", "pandas", "pyarrow", "scipy", "matplotlib", "captum"}


def test_a_run_begins_without_what_reports_and_other_methods_need():
    assert not loaded("import rapbench.app.run") & (FOR_REPORTS | FOR_METHODS)


def test_looking_up_an_entry_imports_the_module_that_is_called_so_and_no_other():
    wanted = {"method": "random", "protocol": "removal", "data": "samples"}
    found = loaded(
        f"from rapbench.app.registries import REGISTRIES\nfor it in {wanted!r}.items(): REGISTRIES[it[0]][it[1]]"
    )
    for group, name in wanted.items():
        registry = REGISTRIES[group]
        entries = {f"{registry.package}.{other}" for other in registry}
        assert found & entries == {f"{registry.package}.{name}"}


@pytest.mark.parametrize("group", REGISTRIES)
@pytest.mark.parametrize("name", ["__init__", "_private", "../cli", "os.path", "registry", ""])
def test_a_name_that_is_no_entry_imports_nothing_of_that_name(group, name):
    with pytest.raises(RapbenchError, match=f"unknown {REGISTRIES[group].kind} "):
        REGISTRIES[group][name]
    assert f"{REGISTRIES[group].package}.{name}" not in sys.modules
