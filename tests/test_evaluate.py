"""`rapbench.evaluate`: the numbers of `rapbench run`, whatever form they are asked for in, and nothing else touched."""

import copy
import io
import os

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

import rapbench
from rapbench import RapbenchError
from rapbench.app.cli import main
from rapbench.data import datasets, load_data
from rapbench.protocols.removal import Removal
from rapbench.results.file import NAME
from rapbench.results.run import COLUMNS
from tests.options import with_regions
from tests.own import Own
from tests.small import SMALL, TRANSFORM, small
from tests.test_any_protocol import INSERTION

SPACES = {"1-D": (40,), "2-D": (12, 20), "3-D": (6, 5, 7)}
CHANNELS, CLASSES, COUNT = 2, 4, 6
CONVS, POOLS = (nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
# For small images, whose normalisation is not known.
FEW = with_regions(size=2, steps=5, fill="zero") | {"faithfulness_correlation": {"size": 9}}
MASKED = "tests.masked:masked"
EVERY = {name: (name, FEW.get(name, {})) for name in rapbench.list_protocols()}
K = {"k": {"positive": [0, 5, "all"], "negative": [0, 5, "all"]}}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def network(dimensions: int = 2) -> nn.Module:
    torch.manual_seed(dimensions)
    conv, pool = CONVS[dimensions - 1], POOLS[dimensions - 1]
    return nn.Sequential(
        conv(CHANNELS, 6, 3, padding=1), nn.ReLU(), conv(6, 8, 3, padding=1), nn.ReLU(), pool(2), nn.Flatten(),
        nn.Linear(8 * 2**dimensions, CLASSES),
    ).eval()  # fmt: skip


def inputs(space: tuple[int, ...] = SPACES["2-D"], count: int = COUNT) -> torch.Tensor:
    return torch.randn(count, CHANNELS, *space, generator=torch.Generator().manual_seed(0))


def mine(model, x, targets):
    """A user's own method."""
    return x * torch.linspace(-1, 1, x.shape[-1])


def evaluated(methods=("random",), protocols=(("removal", K),), model=None, x=None, labels=None, **settings):
    x = inputs() if x is None else x
    if protocols is EVERY:
        masks = torch.randn(len(x), *x.shape[2:], generator=torch.Generator().manual_seed(2)) > 1
        x, labels = rapbench.Dataset.from_tensors(x, labels, masks=masks), None
    return rapbench.evaluate(network() if model is None else model, x, labels, methods=methods, protocols=protocols,
                             **settings)  # fmt: skip


def same(one: pd.DataFrame, other: pd.DataFrame, but: tuple[str, ...] = ()) -> None:
    pd.testing.assert_frame_equal(one.drop(columns=list(but)), other.drop(columns=list(but)))


def scaled(model, x, targets, *, by=1, floor: float = 0.0):
    """A user's own method with options, one without an annotation."""
    return (x * by).clamp(min=floor)


# The numbers are those of `rapbench run`


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same evaluation by `rapbench run`, and from Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("run"))
        ks = ["k.positive=[0,50,all]", "k.negative=[0,500,all]"]
        few = [
            *(f"protocol.{name}.{option}" for name in with_regions() for option in ("steps=3", "size=8")),
            "subset.n=3",
            "subset.seed=1",
            "seed=1",
        ]
        own = ["method=[rap,random,edge,lrp_a1b0]", "+method.half={name: rap, flow: normal}"]
        names = f"protocol=[{','.join(EVERY)}]"
        assert main(["run", f"model={SMALL}", f"data={MASKED}", *own, names, *ks, *few]) == 0
        run = rapbench.load_results(f"results/run/{SMALL}").runs[0]
    lists = {"k": {"positive": [0, 50, "all"], "negative": [0, 500, "all"]}}
    options = {"removal": lists, "shuffling": lists} | with_regions(steps=3, size=8)
    methods = {name: name for name in ("rap", "random", "edge", "lrp_a1b0")} | {"half": ("rap", {"flow": "normal"})}
    protocols = {name: (name, options.get(name, {})) for name in EVERY}
    found = rapbench.evaluate(SMALL, MASKED, methods=methods, protocols=protocols, n=3, seed=1)
    datasets._entries.pop("masked")  # entered before each test's own care for the registries begins
    return run, found


def test_the_numbers_are_those_of_the_command_line(pair):
    run, results = pair
    same(results.frame, run.frame)
    assert set(results.frame["protocol"]) == set(EVERY)
    assert results.runs[0].inputs == run.inputs


def test_the_gallery_is_that_of_the_command_line(pair):
    run, results = pair
    mine, theirs = results.runs[0].gallery, run.gallery
    assert theirs is not None
    assert mine.save() == theirs.save()


def test_images_as_tensors_give_the_numbers_of_their_files(pair):
    """What draws nothing: draws follow from a file's bytes, or a tensor's."""
    _, results = pair
    manifest, data = results.runs[0].subset.rows, load_data("samples")
    from rapbench.data.decoding.decode import decode_ahead

    chosen = [sample for row in manifest for sample in data.samples if sample.file == row.file]
    pixels = torch.stack([image.pixels for image in decode_ahead(data, chosen, TRANSFORM)])
    lists = {"k": {"positive": [0, 50, "all"], "negative": [0, 500, "all"]}}
    named = rapbench.Dataset.from_tensors(pixels, [row.label for row in manifest], [row.file for row in manifest],
                                          name="samples")  # fmt: skip
    found = rapbench.evaluate(small(), named, methods=["rap", "edge"], protocols=[("removal", lists), "distance"])
    keys = ["method", "protocol", "variant", "k", "metric", "input"]
    want = results.frame[results.frame["method"].isin(["rap", "edge"])]
    want = want[want["protocol"].isin(["removal", "distance"])]
    values = [frame.astype(dict.fromkeys(keys, str)).set_index(keys)["value"].sort_index()
              for frame in (found.frame, want)]  # fmt: skip
    pd.testing.assert_series_equal(*values)


# Every form of methods, protocols, inputs and labels


FORMS = {
    "name": (["sensitivity"], "sensitivity"),
    "one name": ("sensitivity", "sensitivity"),
    "function": ([mine], "mine"),
    "one function": (mine, "mine"),
    "with options": ([("rap", {"flow": "normal"})], "rap"),
    "one with options": (("rap", {"flow": "normal"}), "rap"),
    "labels": ({"theirs": ("rap", {"flow": "normal"})}, "theirs"),
    "labelled function": ({"theirs": mine}, "theirs"),
    "function with options": ([(scaled, {"by": -1, "floor": 0.5})], "scaled"),
    "heatmaps": ([rapbench.Heatmaps(torch.ones(COUNT, 12, 20))], "heatmaps"),
    "labelled heatmaps": ({"theirs": rapbench.Heatmaps(np.ones((COUNT, 12, 20)))}, "theirs"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_methods(form):
    methods, label = FORMS[form]
    run = evaluated(methods).runs[0]
    assert list(run.methods) == [label]
    text = {"function with options": "by=-1, floor=0.5", "labels": "flow=normal"}
    assert run.options[label] == text.get(form, "flow=normal" if "options" in form else "")


def test_a_function_is_asked_for_the_label_and_its_relevance_counts():
    """Removed are the pixels that it says, of the class that it is told."""
    seen = []

    def told(model, x, targets):
        seen.extend(targets.tolist())
        return torch.zeros_like(x).index_fill(-1, torch.tensor([3]), 1)

    x, labels = inputs(), [0, 1, 2, 3, 0, 1]
    k = {"k": {"positive": ["all"]}}
    run = evaluated({"told": told}, [("removal", k)], x=x, labels=labels).runs[0]
    assert seen == labels
    table = run.tables["removal"]
    assert set(table["selected"]) == {12}
    changed = x.clone()
    changed[..., 3] = x.flatten(1).min(1).values.view(-1, 1, 1)
    with torch.no_grad():
        want = network()(changed)
    assert table["predicted"].tolist() == want.argmax(1).tolist()
    np.testing.assert_allclose(table["logit"], want[range(COUNT), labels], rtol=1e-5)


def test_forms_of_protocols():
    K5 = {"k": {"positive": [5], "negative": [5]}}
    forms = [["removal"], "removal", [("removal", K5)], [Removal], [(Removal, K5)], [Removal(**K5)],
             {"removal": Removal(**K5)}, {"removal": ("removal", K5)}]  # fmt: skip
    found = [evaluated(protocols=form).frame for form in forms]
    assert set(found[0]["k"]) == {"0", "all"}  # of the default lists nothing else fits 240 pixels
    same(found[1], found[0])
    same(found[3], found[0])
    for frame in (found[4], *found[5:]):
        same(frame, found[2])
    assert list(evaluated(protocols={"mine": Removal(**K5)}).runs[0].tables) == ["mine"]


def test_an_own_protocol_is_a_class(tmp_path, monkeypatch):
    own = Own(tmp_path, monkeypatch)
    own.write("own_insertion.py", INSERTION.replace('@rapbench.protocols.register("own_insertion")\n', ""))
    kind = own.load("own_insertion").OwnInsertion
    results = evaluated(["random", "edge"], [kind(steps=2), "distance"])
    assert list(results.runs[0].tables) == ["OwnInsertion", "distance"]
    assert set(results.table()["metric"]) == {"probability", "accuracy", "auc", "distance"}
    assert results.runs[0].protocols["OwnInsertion"].options == {"steps": 2}
    own.forget()


def test_forms_of_inputs_and_labels():
    x, labels = inputs(), [0, 1, 2, 3, 0, 1]
    tensors = [(x, labels), (x.numpy(), np.array(labels)), (list(x), torch.tensor(labels)), (x.double(), labels),
               (rapbench.Dataset.from_tensors(x, labels), None)]  # fmt: skip
    found = [evaluated(["sensitivity", "random"], x=one, labels=label).frame for one, label in tensors]
    for frame in found[1:]:
        same(frame, found[0])
    pairs = evaluated(["sensitivity", "random"], x=TensorDataset(x, torch.tensor(labels)))
    same(pairs.frame, found[0], but=("data",))
    assert pairs.runs[0].data == "TensorDataset"
    assert found[0].groupby("input", observed=True)["label"].first().tolist() == labels


def test_without_labels_the_predictions_are_the_labels():
    with torch.no_grad():
        predicted = network()(inputs()).argmax(1).tolist()
    frame = evaluated().frame
    assert frame.groupby("input", observed=True)["label"].first().tolist() == predicted
    zero = frame[(frame["k"] == "0") & (frame["metric"] == "accuracy")]
    assert zero["value"].eq(1).all()


def test_n_are_those_that_the_model_classifies_correctly():
    with torch.no_grad():
        labels = network()(inputs(count=12)).argmax(1)
    labels[::3] = (labels[::3] + 1) % CLASSES
    x = inputs(count=12)
    results = evaluated(x=x, labels=labels, n=5)
    assert {int(name) % 3 for name in results.frame["input"]} <= {1, 2}
    assert results.frame["input"].nunique() == 5
    assert evaluated(x=x, labels=labels).frame["input"].nunique() == 12
    assert evaluated(x=x, labels=labels, n=5, seed=3).frame["input"].unique().tolist() != (
        results.frame["input"].unique().tolist())  # fmt: skip


@pytest.mark.parametrize("n", [None, 4, 6])
@pytest.mark.parametrize("form", ["tensor", "only tensor of a mapping", "mapping", "file"])
def test_heatmaps_belong_to_the_inputs_whichever_are_drawn(form, n, tmp_path):
    x = inputs()
    maps = torch.randn(COUNT, 12, 20, generator=torch.Generator().manual_seed(5))
    np.save(tmp_path / "maps.npy", maps.numpy())
    source = {"tensor": maps, "only tensor of a mapping": {"relevance": maps}, "file": tmp_path / "maps.npy",
              "mapping": {str(number): one for number, one in enumerate(maps)}}[form]  # fmt: skip

    def looked_up(model, given, targets):
        places = [next(at for at, it in enumerate(x) if torch.equal(it, one)) for one in given]
        return maps[places][:, None].expand(-1, CHANNELS, -1, -1) / CHANNELS

    results = evaluated({"function": looked_up}, ["distance"], x=x, n=n, heatmaps={"ready": source})
    frame = results.frame
    one, other = (frame[frame["method"] == name]["value"].to_numpy() for name in ("function", "ready"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("space", SPACES)
def test_every_protocol_takes_any_number_of_dimensions(space, tmp_path):
    x = inputs(SPACES[space])
    results = evaluated(["rap", "random", "edge", "lrp_a1b0"], EVERY, network(len(SPACES[space])), x)
    assert results.runs[0].about["refused"] == {}
    assert set(results.frame["protocol"]) == set(EVERY)
    for name in EVERY:
        figure = results.plot(name)
        figure.canvas.draw()
        assert any(axes.lines or axes.containers for axes in figure.axes)
    results.report(tmp_path / "report")
    assert (tmp_path / "report/report.html").stat().st_size > 1_000_000
    assert not list(tmp_path.glob("report/*.parquet"))


# What is not asked for is not touched


def test_no_file_is_written_and_the_module_comes_back_as_it_was(tmp_path):
    module = network().train()
    module.register_forward_hook(lambda *_: None)
    before, hooks = copy.deepcopy(module.state_dict()), dict(module._forward_hooks)
    formats = [tensor.stride() for tensor in module.parameters()]
    generator = torch.get_rng_state()
    results = evaluated(["rap", "sensitivity", "random", mine], EVERY, module)
    results.table(), results.compare(), results.verdict(), results.ranks(), results.plot(), results._repr_html_()
    assert list(tmp_path.iterdir()) == []
    assert all(part.training for part in module.modules())
    assert module._forward_hooks == hooks
    assert [tensor.stride() for tensor in module.parameters()] == formats
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(tensor.requires_grad and tensor.grad is None for tensor in module.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_model_stays_where_it_is():
    model = rapbench.Model(network(), name="mine")
    formats = [tensor.stride() for tensor in model.parameters()]
    one = evaluated(["rap"], model=model).frame
    assert [tensor.stride() for tensor in model.parameters()] == formats
    same(evaluated(["rap"], model=model).frame, one)
    assert set(one["model"]) == {"mine"}
    same(evaluated(["rap"]).frame, one, but=("model",))


def test_a_store_is_gone_on_with(tmp_path):
    def counted(model, x, targets):  # what a function holds is a part of what it is: the count is kept elsewhere
        with open("calls", "a") as file:
            file.write(f"{len(x)}")
        return mine(model, x, targets)

    calls = tmp_path / "calls"
    settings = {"store": tmp_path / "store", "chunk": 4}
    first = evaluated({"counted": counted}, **settings).frame
    assert calls.read_text() == "42"
    same(evaluated({"counted": counted}, **settings).frame, first)
    assert calls.read_text() == "42"
    evaluated({"counted": counted}, [("removal", K), "distance"], **settings)
    assert calls.read_text() == "4242"
    evaluated({"counted": counted}, chunk=4)
    assert calls.read_text() == "424242"
    assert sorted(os.listdir(tmp_path)) == ["calls", "store"]


# What cannot be evaluated is said in one line


def test_a_method_that_raises_is_skipped_and_named(tmp_path):
    def raises(model, x, targets):
        raise ValueError("no such\nluck")

    def not_finite(model, x, targets):
        return x / 0

    results = evaluated([raises, not_finite, "random"])
    assert set(results.frame["method"]) == {"random"}
    refused = results.runs[0].about["refused"]
    assert refused["raises"].startswith("ValueError: no such luck (")
    assert "test_evaluate.py:" in refused["raises"]
    assert refused["not_finite"] == "NaN or infinite relevance for image 0"
    results.save(tmp_path / "out")
    assert "Methods that could not be used: raises: ValueError" in (tmp_path / "out/report.html").read_text()
    with pytest.raises(RapbenchError, match=r"^raises: ValueError.*; not_finite: NaN"):
        evaluated([raises, not_finite])


X = inputs(count=2)
BAD = {
    "no space": ({"x": torch.randn(4, 5)}, "inputs must be (N, C, ...) with 1 to 3 spatial dimensions"),
    "four dimensions": ({"x": torch.randn(2, 2, 2, 2, 2, 2)}, "1 to 3 spatial dimensions"),
    "nothing": ({"x": torch.randn(0, 2, 4, 4)}, "inputs must be"),
    "text": ({"x": "nothing"}, "unknown data set 'nothing'"),
    "several shapes": ({"x": [torch.randn(2, 4, 4), torch.randn(2, 5, 4)]}, "of one shape"),
    "NaN": ({"x": torch.full((2, 2, 12, 20), torch.nan)}, "input 0 holds NaN"),
    "bytes": ({"x": torch.zeros(2, 2, 12, 20, dtype=torch.uint8)}, "preprocess it"),
    "channels": ({"x": torch.randn(2, 3, 12, 20)}, "cannot be asked for an image of 3 x 12 x 20"),
    "model's name": ({"model": "nothing"}, "unknown model 'nothing'"),
    "no model": ({"model": 3}, "must be a torch.nn.Module"),
    "method's name": ({"methods": ["rapp"]}, "unknown method 'rapp' (did you mean 'rap'?)"),
    "no method": ({"methods": [3]}, "must be a function of (model, inputs, targets)"),
    "no methods": ({"methods": []}, "name a method at least"),
    "two methods": ({"methods": ["rap", ("rap", {"flow": "normal"})]}, "two methods are called 'rap'"),
    "option": ({"methods": [("rap", {"fow": "normal"})]}, "no option 'fow' (did you mean 'flow'?)"),
    "option's value": ({"methods": [("rap", {"flow": "up"})]}, "flow='up'"),
    "own option's value": ({"methods": [(scaled, {"floor": "low"})]}, "floor='low'"),
    "own option": ({"methods": [(mine, {"by": 2})]}, "no option 'by'"),
    "option's name": ({"methods": [("rap", {1: "up"})]}, "must be named by texts"),
    "label": ({"methods": {1: "rap"}}, "a method's label=1 is not a name"),
    "label's lines": ({"methods": {"a\nb": "rap"}}, "text on one line"),
    "label's text": ({"methods": {"a\udc80": "rap"}}, "text on one line"),
    "empty label": ({"methods": {" ": "rap"}}, "a method's label is empty"),
    "another's label": ({"methods": {"random": "rap"}}, "would have the wrong name"),
    "another's title": ({"methods": {"rap": "rap", "RAP": "random"}}, "would both be shown as 'RAP'"),
    "protocol's name": ({"protocols": ["removall"]}, "unknown protocol 'removall' (did you mean 'removal'?)"),
    "no protocol": ({"protocols": [int]}, "a class derived from rapbench.Protocol"),
    "no protocols": ({"protocols": []}, "name a protocol at least"),
    "two D_K": ({"protocols": {"distance": "distance", "b": ("distance", {"norm": "squared"})}}, "both measure D_K"),
    "regions": ({"protocols": ["regions"]}, "steps=100 is more than there are regions"),
    "normalisation": ({"protocols": [("removal", {"fill": "pixel_space_min"})]}, "needs the mean and std"),
    "K": ({"protocols": [("removal", {"k": {"positive": [-1]}})]}, "whole numbers of pixels, shares of all"),
    "K beyond": ({"protocols": [("removal", {"k": {"positive": [241]}})]}, "12 x 20 = 240 pixels"),
    "too few labels": ({"labels": [0]}, "labels must be 2 class indices"),
    "labels beyond": ({"labels": [0, 9]}, "input 1 has label 9, but Sequential has 4 classes, 0 to 3"),
    "negative label": ({"labels": [0, -1]}, "class indices start at 0"),
    "half a label": ({"labels": [0, 1.5]}, "labels must be 2 class indices"),
    "labels twice": ({"x": TensorDataset(X, torch.zeros(2).long()), "labels": [0, 1]}, "a data set has its own"),
    "precision": ({"precision": "fp16"}, "precision='fp16'; known: fp32, bf16"),
    "chunk": ({"chunk": 0}, "chunk=0 must be a whole number"),
    "batch": ({"batch": 1.5}, "batch=1.5 must be a whole number"),
    "n": ({"n": True}, "n=True must be a whole number"),
    "seed": ({"seed": -1}, "seed=-1 must be a whole number"),
    "large seed": ({"seed": 2**64}, "of 64 bits"),
    "device": ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
    "store": ({"store": 3}, "store= must be a path, got 3"),
    "store's place": ({"store": __file__}, "cannot be made a folder"),
    "heatmaps": ({"heatmaps": torch.ones(2, 12, 20)}, "heatmaps= must be a mapping"),
    "too few heatmaps": ({"heatmaps": {"a": torch.ones(3, 12, 20)}}, "method 'a': heatmaps has shape (3, 12, 20)"),
    "heatmaps' shape": ({"heatmaps": {"a": torch.ones(2, 12, 12)}}, "must have the input's, (12, 20)"),
    "heatmaps' file": ({"heatmaps": {"a": "nowhere.npy"}}, "nowhere.npy is neither a folder nor a file"),
    "a method's label": ({"heatmaps": {"random": torch.ones(2, 12, 20)}}, "both called 'random'"),
    "blind": ({"model": nn.Sequential(nn.Conv2d(2, 1, 3), nn.Flatten(), nn.Linear(180, 3))}, "same label and logit"),
}  # fmt: skip
nn.init.zeros_(BAD["blind"][0]["model"][2].weight)


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line(case, tmp_path):
    wrong, says = BAD[case]
    with pytest.raises(RapbenchError) as error:
        evaluated(**({"x": X} | wrong))
    assert says in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# Results


@pytest.fixture(scope="module")
def results():
    labels = [0, 1, 2, 3, 0, 1]
    return evaluated(["rap", "random", "edge", ("smoothgrad", {"samples": 3})], EVERY, labels=labels)


def test_the_frame_is_tidy(results):
    frame = results.frame
    assert list(frame) == COLUMNS
    texts = set(COLUMNS) - {"label", "value"}
    assert {name for name in COLUMNS if isinstance(frame[name].dtype, pd.CategoricalDtype)} == texts
    assert (frame["label"].dtype, frame["value"].dtype) == (np.int64, np.float64)
    assert not frame.duplicated(list(set(COLUMNS) - {"value"})).any()
    assert set(frame[frame["metric"] == "accuracy"]["value"]) <= {0.0, 1.0}
    assert set(frame[frame["method"] == "smoothgrad"]["options"]) == {"samples=3"}
    assert set(frame[frame["method"] != "smoothgrad"]["options"]) == {""}
    assert set(frame[frame["protocol"] == "regions"]["variant"]) == {"morf", "lerf", "random"}
    frame["value"] = 0.0  # a copy, whatever is done to it
    assert results.frame["value"].any()


def test_the_table_has_the_frames_means(results):
    table, frame = results.table(), results.frame
    keys = ["model", "data", "method", "options", "protocol", "variant", "metric", "k"]
    details = frame["metric"].isin(["selected", "predicted"]) | (
        (frame["protocol"] == "regions") & (frame["metric"] == "accuracy"))  # fmt: skip
    texts = frame[~details].astype(dict.fromkeys(keys, str))
    scale = np.where(texts["metric"].isin(["accuracy", "pointing_game"]), 100, 1)
    want = texts.assign(value=texts["value"] * scale).groupby(keys)["value"].agg(["mean", "count"])
    got = table.set_index(keys).sort_index()
    assert set(got.index) == set(want.index)
    want = want.loc[got.index]
    np.testing.assert_allclose(got["value"], want["mean"], rtol=1e-6)
    assert (got["n"] == want["count"]).all()
    known = table[table["n"] > 1]
    assert ((known["low"] <= known["value"] + 1e-9) & (known["value"] <= known["high"] + 1e-9)).all()
    sign = table[table["protocol"] == "removal"].groupby("variant")["better"].unique()
    assert (list(sign["positive"]), list(sign["negative"])) == (["lower"], ["higher"])


@pytest.mark.parametrize("protocol", [None, *EVERY])
def test_every_protocol_has_a_figure(results, protocol):
    figure = results.plot(protocol)
    picture = np.asarray(Image.open(io.BytesIO(figure._repr_png_())))[..., :3]
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10  # something in colours
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert "RAP" in names


def test_saved_results_come_back(results, tmp_path):
    assert results.save(tmp_path / "out") == tmp_path / "out"
    back = rapbench.load_results(tmp_path / "out")
    same(back.frame, results.frame)
    pd.testing.assert_frame_equal(back.table(), results.table())
    pd.testing.assert_frame_equal(back.verdict(), results.verdict())
    assert back.runs[0].about["refused"] == {}
    assert back.runs[0].subset.identity == results.runs[0].subset.identity
    assert repr(back) == repr(results)
    back.save(tmp_path / "again")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {path.name for path in (tmp_path / "again").iterdir()}
    for name in files - {"provenance.json"}:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    before = (tmp_path / "out/report.html").read_bytes()
    assert main(["report", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/report.html").read_bytes() == before


def test_a_report_into_a_folder_of_another_run_says_nothing_of_that(results, tmp_path):
    evaluated(["edge"], ["distance"], model=rapbench.Model(network(), name="Elsewhere")).save(tmp_path / "out")
    results.report(tmp_path / "out")
    assert "Elsewhere" not in (tmp_path / "out/report.html").read_text()
    results.report(tmp_path / "clean")
    for name in ("verdict.csv", "table1.md", "table1.tex", "report.html"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "clean" / name).read_bytes()


def test_a_notebook_shows_the_table(results):
    text = results._repr_html_()
    assert text.count("<tr") > 10
    assert "smoothgrad" in text


def test_the_file_is_read_by_others(results, tmp_path):
    results.save(tmp_path / "out")
    path = str(tmp_path / "out" / NAME)
    same(pd.read_parquet(path), results.frame)
    polars, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    means = {}
    for name, frame in {
        "pandas": pd.read_parquet(path).astype({"method": str}),
        "polars": polars.read_parquet(path).to_pandas().astype({"method": str}),
        "duckdb": duckdb.sql(f"SELECT * FROM '{path}'").df().astype({"method": str}),
    }.items():
        part = frame[(frame["metric"] == "logit") & (frame["k"] == "5")]
        means[name] = part.groupby("method")["value"].mean()
        assert len(frame) == len(results.frame)
    pd.testing.assert_series_equal(means["polars"], means["pandas"])
    pd.testing.assert_series_equal(means["duckdb"], means["pandas"])


def test_several_runs_are_results_too(results):
    other = evaluated(["rap", "random"], EVERY, rapbench.Model(network(), name="another"), labels=[0, 1, 2, 3, 0, 1])
    both = rapbench.Results([*results.runs, *other.runs])
    assert len(both.frame) == len(results.frame) + len(other.frame)
    assert set(both.table()["model"]) == {"Sequential", "another"}
    both.plot("removal").canvas.draw()


@pytest.mark.parametrize(("act", "says"), [
    (lambda results: results.plot("removall"), "no results of protocol 'removall' (did you mean 'removal'?)"),
    (lambda results: results.save(f"{__file__}/out"), "cannot write"),
    (lambda results: rapbench.load_results("nowhere"), "nowhere holds no results.parquet"),
    (lambda results: rapbench.Results([]), "one run at least"),
])  # fmt: skip
def test_what_results_cannot_do_is_one_line(results, act, says):
    with pytest.raises(RapbenchError) as error:
        act(results)
    assert says in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_run_multiplies_in_full_float32(monkeypatch):
    """Torch's default rounds factors to 10 bits in a GPU's convolutions, which moves heatmaps."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []

    def method(model, inputs, targets):
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return inputs

    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    rapbench.evaluate(network, torch.randn(2, 3, 4, 4), methods={"mine": method}, protocols=["distance"])
    assert set(seen) == {(False, False)}
    assert torch.backends.cudnn.allow_tf32
