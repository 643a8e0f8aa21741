"""`rapbench run` and `rapbench train`: Hydra composes the configuration, and launches one job or a multirun's."""

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import rapbench.app.config  # noqa: F401  the schema registers itself, in whatever process a launcher runs a job
from rapbench.app import job_folders, settings, sweep
from rapbench.app.check_config import check_config, of_training
from rapbench.app.config_source import check_choices, has_no_file
from rapbench.app.registries import REGISTRIES
from rapbench.app.training_values import check_used
from rapbench.core.console import tell
from rapbench.core.errors import RapbenchError, Refused
from rapbench.core.extras import check_installed
from rapbench.core.paths import resource
from rapbench.core.reading import MOST, parse_yaml, read_text

MOST_CONFIGS = 1000  # in a user's folder; it may be a whole disk


def job(config: DictConfig) -> None:
    """Run one composed configuration; in a multirun, the sweep is told how it ends."""
    given = HydraConfig.get()
    if given.mode == RunMode.MULTIRUN:
        with sweep.noted(Path(config.results), given.job.num, " ".join(given.overrides.task)) as note:
            _run(config, note)
        return
    try:
        _run(config, sweep.Note())
    except RapbenchError as error:
        raise Refused from error
    except Exception as error:
        raise Crashed from error


class Crashed(BaseException):
    """Carries an error of a run, not of its configuration, past Hydra."""


def _run(config: DictConfig, note: sweep.Note) -> None:
    overrides = HydraConfig.get().overrides.task
    if of_training(config):
        check_used(overrides)
    else:
        check_choices(overrides)
    check_config(config)
    if of_training(config):
        print(f"{config.model.name} on {config.data.name}: loading libraries and data ...", file=sys.stderr)
        for extra in ("luna16", "report"):
            check_installed(extra, "rapbench train")
        from rapbench.app.train import train

        tell(train(config))
        return
    what = f"{', '.join(config.method)} on {config.model.name} and {config.data.name}"
    print(f"{what}: loading libraries and weights ...", file=sys.stderr)
    from rapbench.app.run import run

    ran = run(config)
    note.output = ran.output
    tell(ran.text)
    if ran.refused:
        raise RapbenchError(ran.refused)


def run_hydra(overrides: list[str], command: str = "run") -> str:
    """Compose the configuration from `configs/<command>.yaml` and the overrides, and run it, or a multirun with -m.

    command: run or train. Returns what is to be said at the end. Raises RapbenchError.
    """
    # Hydra would print a trace of its own and exit with 1; with this it raises, and the line is ours.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sweep.begin()
    if loaded := sys.modules.get("rapbench.app.loaded_models"):
        loaded.forget()
    parser = get_args_parser()
    parser.error = functools.partial(_wrong_words, command)  # type: ignore[method-assign]
    words = parser.parse_intermixed_args(overrides)
    for folder in filter(None, (words.config_dir, words.config_path)):
        _check_aliases(Path(folder))
    # Hydra wants flags and overrides apart; the flags last, where the value that one may lack is not an override.
    flags = [word for word in overrides if word not in words.overrides]
    told = job_folders.for_some(words.overrides) if words.multirun else words.overrides
    given, sys.argv = sys.argv, [f"rapbench {command}", *told, *flags]
    try:
        with _in_one_line():
            hydra.main(version_base="1.3", config_path=str(resource("configs")), config_name=command)(job)()
        return f"{sweep.summary()}\n" if sweep.begun() else ""
    except Refused as refused:
        with _in_one_line():
            raise refused.__cause__ or refused from None
    except Crashed as crashed:
        raise crashed.__cause__ or crashed from None
    except RapbenchError:
        raise
    except Exception as error:
        if not sweep.begun():
            raise
        return sweep.summary(lost=" ".join(str(error).split()))  # a launcher's own error, of a job that was lost
    finally:
        sys.argv = given
        sweep.end()


def composed(overrides: list[str], command: str = "run") -> DictConfig:
    """Return the configuration that `run_hydra` would run, Hydra's own part with it. Raises RapbenchError."""
    where = str(resource("configs"))
    with _in_one_line(), hydra.initialize_config_dir(where, version_base="1.3"):
        return hydra.compose(command, overrides, return_hydra_config=True)


def _check_aliases(folder: Path) -> None:
    """Raise RapbenchError for a file in a user's folder of configurations that stands for too much to be loaded.

    Hydra would take minutes and all memory over aliases of aliases.
    """
    for path in islice(folder.rglob("*.yaml"), MOST_CONFIGS):
        try:
            parse_yaml(read_text(path, most=MOST["YAML"]))
        except ValueError as error:
            raise RapbenchError(f"{path} cannot be read as YAML ({error})") from error


def _wrong_words(command: str, message: str) -> NoReturn:
    raise RapbenchError(f"{message}; see rapbench {command} --help")


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Turn what Hydra says of a configuration into RapbenchError."""
    try:
        yield
    except MissingConfigException as error:
        missing = str(error.missing_cfg_file)
        group, _, name = missing.partition("/")
        if missing.startswith("hydra/launcher/"):
            name = missing.removeprefix("hydra/launcher/")
            extra = {"submitit_slurm": "slurm"}.get(name, name)
            raise RapbenchError(f"launcher {name!r} is not installed: pip install 'rapbench[{extra}]'") from error
        if has_no_file(group, name):
            REGISTRIES[group][name]  # whose refusal knows more
        known = error.options or sorted(path.stem for path in resource("configs", group).glob("*.yaml"))
        raise RapbenchError(f"unknown {group} {name!r}; known: {', '.join(known)}") from error
    except RecursionError as error:
        raise RapbenchError("configuration: a value is nested too deeply") from error
    except (HydraException, OmegaConfBaseException) as error:
        if missed := settings.NOT_OVERRIDDEN.match(str(error)):
            raise settings.unknown(missed[1]) from error
        why = str(error.__cause__ or "").partition("\n")[0]
        raise RapbenchError(f"configuration: {error}" + (f" ({why})" if why else "")) from error
    except (RapbenchError, OSError):
        raise
    except Exception as error:  # Hydra's own, of values that it did not think of
        if sweep.begun():
            raise
        raise RapbenchError(f"configuration: {str(error) or type(error).__name__}") from error


def complete(arguments: list[str], commands: list[str]) -> None:
    """Print what Hydra's shell completion asks for: its script (install=bash), or the words that may come next."""
    name, _, line = os.environ.get("COMP_LINE", "").partition(" ")
    command = line.partition(" ")[0] if line.startswith(("run ", "train ")) else ""
    if arguments[1:2] == ["query=bash"] and not command:
        print(" ".join(commands))
        return
    os.environ["COMP_LINE"] = f"{name} {line.removeprefix(f'{command} ')}"
    sys.argv = ["rapbench", *arguments]
    hydra.main(version_base="1.3", config_path=str(resource("configs")), config_name=command or "run")(job)()
