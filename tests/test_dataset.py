"""Labelled inputs in memory: what is taken, what is refused in one line, and whole jobs on them in 1, 2 and 3 dims."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch.utils.data import IterableDataset, TensorDataset

import rapbench
from rapbench.app.choices import choices
from rapbench.core.memory_format import placed
from rapbench.data.labelled.dataset import UNLABELLED
from rapbench.data.subset.images import load_images
from rapbench.data.subset.manifest import load_manifest
from rapbench.data.subset.select import select
from rapbench.data.subset.whole import whole_subset
from rapbench.evaluation.compatible import check_classes, check_subset, logits_of
from rapbench.evaluation.fill_cells import fill_cells
from rapbench.evaluation.input_shape import input_shape
from rapbench.evaluation.job import Job, Size
from rapbench.evaluation.run_spec import Spec
from rapbench.evaluation.shard import Shard
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.results.layouts import PERTURBATION, laid_out
from tests.test_model import SPACES, moments, network

CPU = torch.device("cpu")
LABELS = [0, 2, 1, 2, 0]


def inputs(space=(6, 9), count=5, channels=2) -> torch.Tensor:
    return torch.randn(count, channels, *space, generator=torch.Generator().manual_seed(len(space)))


# What is taken


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("of", ["tensor", "array", "list", "torch", "float64", "float16", "strided"])
def test_inputs_come_back_as_they_were_given(space, of):
    given = inputs(space)
    if of == "float16":
        given = given.half()
    want = given.float()
    make = {
        "array": lambda: rapbench.Dataset.from_tensors(given.numpy(), np.array(LABELS)),
        "list": lambda: rapbench.Dataset.from_tensors(list(given), LABELS),
        "torch": lambda: rapbench.Dataset.from_torch(TensorDataset(given, torch.tensor(LABELS))),
        "float64": lambda: rapbench.Dataset.from_tensors(given.double(), torch.tensor(LABELS)),
        "strided": lambda: rapbench.Dataset.from_tensors(given.mT.contiguous().mT, LABELS),
    }
    data = make.get(of, lambda: rapbench.Dataset.from_tensors(given, LABELS))()
    assert data.shape == (2, *space)
    assert [(sample.file, sample.label) for sample in data.samples] == list(zip("01234", LABELS, strict=True))
    for index in range(5):
        found = data.tensor(str(index))
        assert found.dtype == torch.float32
        assert torch.equal(found, want[index])
        text = f"torch.float32 {(2, *space)} ".encode() + want[index].numpy().tobytes()
        assert data.sha256(str(index)) == hashlib.sha256(text).hexdigest()
    assert data.identity == rapbench.Dataset.from_tensors(want, LABELS).identity


def test_identity_is_of_contents_labels_and_names():
    given = inputs()
    other = given.clone()
    other[3, 0, 0, 0] += 1
    made = [rapbench.Dataset.from_tensors(given, LABELS), rapbench.Dataset.from_tensors(other, LABELS),
            rapbench.Dataset.from_tensors(given, [1, *LABELS[1:]]), rapbench.Dataset.from_tensors(given),
            rapbench.Dataset.from_tensors(given, LABELS, list("abcde")),
            rapbench.Dataset.from_tensors(given.flip(0), LABELS[::-1])]  # fmt: skip
    assert len({data.identity for data in made}) == 6
    reshaped = rapbench.Dataset.from_tensors(given.reshape(5, 2, 9, 6), LABELS)
    assert not {reshaped.sha256(str(i)) for i in range(5)} & {made[0].sha256(str(i)) for i in range(5)}


def test_names_and_class_names(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\ncow\n")
    data = rapbench.Dataset.from_tensors(inputs(), LABELS, ["x/a.png", "b", "c", "d", "e"], name="mine",
                                         class_names=tmp_path / "names.txt")  # fmt: skip
    assert (data.name, data.classes, data.class_names) == ("mine", 3, ("cat", "dog", "cow"))
    assert [sample.file for sample in data.samples] == ["x/a.png", "b", "c", "d", "e"]
    assert data.description == "5 inputs in memory (mine)"
    assert rapbench.Dataset.from_torch(TensorDataset(inputs(), torch.tensor(LABELS))).name == "TensorDataset"


def test_folders_name_their_classes(tmp_path):
    from PIL import Image

    for name in ("dogs", "cats"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    assert rapbench.load_data("folder", root=str(tmp_path), labels="folders").class_names == ("cats", "dogs")
    assert rapbench.load_data("folder", root=str(tmp_path)).class_names == ()
    assert rapbench.load_data("folder", root=str(tmp_path)).shape is None


# What is refused


class Odd(torch.utils.data.Dataset):
    """Items that are told to it."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.ones(2, 3), 0


def broken(value: float) -> torch.Tensor:
    found = inputs()
    found[3, 1, 2, 4] = value
    return found


ONE = torch.ones(2, 6, 9)
BAD = {
    "NaN": (lambda make: make.from_tensors(broken(float("nan"))), "input 3 holds NaN or infinite values"),
    "infinite": (lambda make: make.from_tensors(broken(float("inf"))), "input 3 holds NaN or infinite"),
    "beyond float32": (lambda make: make.from_tensors(broken(1.0).double() * 1e300), "input 0 holds NaN or infinite"),
    "whole numbers": (lambda make: make.from_tensors(inputs().byte()), "preprocess it to floating point"),
    "truth values": (lambda make: make.from_tensors(inputs() > 0), "preprocess it to floating point"),
    "no space": (lambda make: make.from_tensors(torch.ones(3, 2)), "1 to 3 spatial dimensions, got torch.float32 of"),
    "four dims": (lambda make: make.from_tensors(torch.ones(1, 1, 1, 1, 1, 1)), "1 to 3 spatial dimensions"),
    "empty": (lambda make: make.from_tensors(torch.ones(0, 2, 3)), "1 to 3 spatial dimensions"),
    "text": (lambda make: make.from_tensors("images"), "inputs must be tensors of one shape"),
    "unequal": (lambda make: make.from_tensors([ONE, ONE[:, :5]]), "inputs must be tensors of one shape"),
    "few labels": (lambda make: make.from_tensors(inputs(), [0, 1]), "labels must be 5 class indices"),
    "one label": (lambda make: make.from_tensors(inputs(), 1), "labels must be 5 class indices"),
    "real labels": (lambda make: make.from_tensors(inputs(), torch.rand(5)), "labels must be 5 class indices"),
    "one-hot": (lambda make: make.from_tensors(inputs(), torch.eye(5)), "labels must be 5 class indices"),
    "true labels": (lambda make: make.from_tensors(inputs(), [True] * 5), "labels must be 5 class indices"),
    "label -1": (lambda make: make.from_tensors(inputs(), [-1, 0, 0, 0, 0]), "label -1 is out of range"),
    "label beyond": (lambda make: make.from_tensors(inputs(), LABELS, class_names=["a", "b"]),
                     "input 1 has label 2, but class_names has 2 names"),
    "few names": (lambda make: make.from_tensors(inputs(), LABELS, ["a"]), "names must be 5 texts"),
    "a name twice": (lambda make: make.from_tensors(inputs(), LABELS, list("abcab")), "names has 'a' twice"),
    "a number": (lambda make: make.from_tensors(inputs(), LABELS, [0, 1, 2, 3, 4]), r"names\[0\]=0 is not a name"),
    "a line break": (lambda make: make.from_tensors(inputs(), LABELS, ["a\n", *"bcde"]), "is not a name"),
    "outside": (lambda make: make.from_tensors(inputs(), LABELS, ["/etc/a", *"bcde"]), "must be a relative file name"),
    "a stream": (lambda make: make.from_torch(Stream()), "with a length and items by index is needed, got a Stream"),
    "no data set": (lambda make: make.from_torch(inputs), "with a length and items by index is needed"),
    "nothing": (lambda make: make.from_torch(Odd()), "Odd is empty"),
    "no pair": (lambda make: make.from_torch(Odd(ONE)), r"item 0 of Odd must be a pair \(input, label\)"),
    "three": (lambda make: make.from_torch(Odd((ONE, 0, 1))), "item 0 of Odd must be a pair"),
    "a picture": (lambda make: make.from_torch(Odd(("a.png", 0))), "input 0 must be a tensor"),
    "another shape": (lambda make: make.from_torch(Odd((ONE, 0), (ONE[:, :5], 0))), "input 1 has shape"),
    "a label's text": (lambda make: make.from_torch(Odd((ONE, "cat"))), "the label of item 0 must be 1 class indices"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_labelled_input_is_one_line(case):
    make, says = BAD[case]
    with pytest.raises(rapbench.RapbenchError, match=says) as error:
        make(rapbench.Dataset)
    assert "\n" not in str(error.value)


def test_an_input_that_changes_is_found():
    given = inputs()
    data = rapbench.Dataset.from_tensors(given, LABELS)
    data.tensor("2")
    given[2] += 1
    with pytest.raises(rapbench.RapbenchError, match="2 of the data set tensors is not what it was"):
        data.tensor("2")

    class Random(Odd):
        def __getitem__(self, index):
            return torch.rand(2, 6, 9), 0

    random = rapbench.Dataset.from_torch(Random(1, 2))
    with pytest.raises(rapbench.RapbenchError, match="without random augmentation"):
        whole_subset(rapbench.Model(network()), random, CPU)


# Subsets


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_whole_subset_is_every_input_in_order_with_the_models_answers(space, tmp_path):
    model = placed(rapbench.Model(network(space), name="net"), CPU)
    given = inputs(space, 40)
    labels = [index % 3 for index in range(40)]
    data = rapbench.Dataset.from_tensors(given, labels)
    with torch.no_grad():
        logits = model(given)
    found = whole_subset(model, data, CPU)
    assert [row.file for row in found.rows] == [str(index) for index in range(40)]
    assert [row.label for row in found.rows] == labels
    assert {(row.model, row.weights_sha256) for row in found.rows} == {("net", model.weights_sha256)}
    np.testing.assert_allclose([row.logit for row in found.rows], logits[range(40), labels], rtol=1e-4, atol=1e-6)
    right = [str(i) for i in range(40) if int(logits[i].argmax()) == labels[i]]
    assert 0 < len(right) < 40
    drawn = select([model], data, 40, 0, CPU)  # by correctness, where that is asked for
    assert sorted(row.file for row in drawn.rows) == sorted(right)
    (loaded,) = load_images(found, data, model.transform, [slice(3, 7)])
    assert torch.equal(loaded, given[3:7])
    found.save(tmp_path / "manifest.csv")
    assert load_manifest(tmp_path / "manifest.csv").rows == found.rows
    unlabelled = rapbench.Dataset.from_tensors(given)
    assert {sample.label for sample in unlabelled.samples} == {UNLABELLED}
    assert [row.label for row in whole_subset(model, unlabelled, CPU).rows] == logits.argmax(1).tolist()


def test_labels_beyond_the_models_classes_are_refused():
    model = rapbench.Model(network())
    data = rapbench.Dataset.from_tensors(inputs(), [0, 1, 2, 3, 0])
    logits = logits_of(model, input_shape(model, data), CPU)
    with pytest.raises(rapbench.RapbenchError, match="3 has label 3, but Sequential has 3 classes, 0 to 2"):
        check_classes([("Sequential", logits)], data)
    with pytest.raises(rapbench.RapbenchError, match="3 has label 3, but Sequential has 3 classes"):
        whole_subset(model, data, CPU)


def test_the_whole_subset_of_files_is_that_of_all_images(lite):
    data = rapbench.load_data("samples")
    found = whole_subset(lite, data, CPU)
    assert [(row.file, row.label) for row in found.rows] == [(sample.file, sample.label) for sample in data.samples]


def test_inputs_that_the_model_cannot_take_are_one_line():
    model = rapbench.Model(network())
    data = rapbench.Dataset.from_tensors(inputs(channels=3), LABELS)
    with pytest.raises(rapbench.RapbenchError, match="Sequential cannot be asked for an image of 3 x 6 x 9"):
        logits_of(model, input_shape(model, data), CPU)


# Whole jobs


def job(model, data, store, names=("rap", "random"), wanted=("removal", "shuffling", "distance"), **more) -> Job:
    settings = {name: {"name": name} | ({} if name == "regions" else {"k": {
        "positive": [0, 2, "all"], "negative": [0, 2, "all"]}}) | more.get(name, {}) for name in wanted}  # fmt: skip
    chosen = (choices(OmegaConf.create({name: {"name": name} for name in names}), methods),
              choices(OmegaConf.create(settings), protocols))  # fmt: skip
    subset = whole_subset(model, data, CPU)
    check_subset(model, logits_of(model, input_shape(model, data), CPU), subset)
    return Job(Spec(), model, data, subset, CPU, store, *chosen, Shard.called(None), Size(2, 3))


def numbers(ran: Job) -> pd.DataFrame:
    assert fill_cells(ran) == {}
    return laid_out(ran.results(), PERTURBATION)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_job_on_tensors_is_one_on_a_torch_data_set_and_of_the_models_own_answers(space, tmp_path):
    module, given = network(space), inputs(space)
    model = placed(rapbench.Model(module), CPU)
    ran = job(model, rapbench.Dataset.from_tensors(given, LABELS), tmp_path / "store")
    one = numbers(ran)
    clean = one[(one["k"] == "0") & (one["method"] == "rap") & (one["perturbation"] == "removal")]
    with torch.no_grad():
        logits = model(given)
    for sign in ("positive", "negative"):
        rows = clean[clean["variant" if "variant" in clean else "sign"] == sign]
        assert rows["image"].tolist() == [str(index) for index in range(5)]
        assert rows["predicted"].tolist() == logits.argmax(1).tolist()
    before = sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file())
    torch_data = rapbench.Dataset.from_torch(TensorDataset(given, torch.tensor(LABELS)))
    again = job(placed(rapbench.Model(module.train()), CPU), torch_data, tmp_path / "store")
    pd.testing.assert_frame_equal(numbers(again), one)
    assert sorted(path for path in (tmp_path / "store").rglob("*") if path.is_file()) == before  # nothing anew
    apart = job(model, torch_data, tmp_path / "other")
    pd.testing.assert_frame_equal(numbers(apart), one)


@pytest.mark.parametrize(("name", "options"), [
    ("removal", {"fill": "pixel_space_min"}), ("regions", {"fill": "uniform", "size": 2, "steps": 3}),
])  # fmt: skip
def test_what_needs_a_normalisation_says_so_where_none_is_stated(name, options, tmp_path):
    data = rapbench.Dataset.from_tensors(inputs(), LABELS)
    bare = job(placed(rapbench.Model(network()), CPU), data, tmp_path, wanted=[name], **{name: options})
    says = rf"fill={options['fill']} needs the mean and std of the model's channels.*model\.mean= and model\.std="
    with pytest.raises(rapbench.RapbenchError, match=says):
        fill_cells(bare)
    stated = placed(rapbench.Model(network(), **moments()), CPU)
    assert fill_cells(job(stated, data, tmp_path, wanted=[name], **{name: options})) == {}


def test_the_public_names_cost_nothing_until_they_are_used(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys, json, rapbench; light = 'torch' not in sys.modules; rapbench.load_data;"
        "print(json.dumps([light, rapbench.Model.__module__, rapbench.Dataset.__module__]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [True, "rapbench.model", "rapbench.data.labelled.dataset"]
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        rapbench.Nothing  # noqa: B018
    assert {"Model", "Dataset", "load_data"} <= set(rapbench.__all__)
