"""A model by name or path; published classifiers work without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loopback import send_honestly, serve
from torch import Tensor, nn

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel, load_checkpoint, save_checkpoint
from touchline.models.classes import class_list
from touchline.models.errors import CheckpointError
from touchline.models.load import keep_labels, load_model
from touchline.models.training_record import PeakWidths
from touchline.models.weights.table import WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = ClipSpec(4, 2.5, 32)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """X3D with four classes that react to a clip, lively enough to differ."""
    torch.manual_seed(0)
    backbone = build_backbone("x3d_xs", 4, SPEC).eval()
    nn.init.normal_(backbone.get_submodule("head.linear").weight, 0.0, 20.0)
    return backbone


@pytest.fixture(scope="module")
def clips() -> Tensor:
    return torch.randn(3, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


def probs_of(model: TrainedModel, clips: Tensor) -> Tensor:
    with torch.no_grad():
        return model.probs(model.backbone(clips))


def test_the_kinetics_classes_are_in_the_order_of_the_classifiers() -> None:
    names = class_list("kinetics400")
    # pytorchvideo's kinetics_classnames.json and DeepMind's label_map.txt agree on these.
    places = {
        "abseiling": 0,
        "dunking basketball": 107,
        "eating ice cream": 115,
        "passing American football (in game)": 208,
        "playing cricket": 227,
        "playing kickball": 237,
        "sharpening knives": 290,
        "shooting goal (soccer)": 297,
        "zumba": 399,
    }
    assert len(set(names)) == 400
    assert {name: names.index(name) for name in places} == places


def test_kept_classes_are_as_probable_as_among_all(backbone: Backbone, clips: Tensor) -> None:
    labels = ("background", "goal", "card", "corner")
    model = TrainedModel(backbone, "x3d_xs", labels, temperature=2.0)
    all_probs = probs_of(model, clips)
    kept = keep_labels(model, ["corner", "goal"])
    assert kept.labels == ("background", "corner", "goal")
    probs = probs_of(kept, clips)
    torch.testing.assert_close(probs[:, 1:], all_probs[:, [3, 1]])
    torch.testing.assert_close(probs[:, 0], all_probs[:, 0] + all_probs[:, 2])
    assert all_probs.std() > 0.05
    # The model given is as it was.
    assert torch.equal(probs_of(model, clips), all_probs)


def test_without_background_the_others_become_it(backbone: Backbone, clips: Tensor) -> None:
    model = TrainedModel(
        backbone,
        "x3d_xs",
        ("background", "goal", "card", "corner"),
        has_background=False,
        thresholds={"goal": 0.3, "card": 0.4, "corner": 0.5},
    )
    all_probs = probs_of(model, clips)
    assert all_probs[:, 0].tolist() == [0.0] * 3
    kept = keep_labels(model, ["card"])
    assert kept.has_background
    assert kept.thresholds == {"card": 0.4}
    probs = probs_of(kept, clips)
    torch.testing.assert_close(probs[:, 1], all_probs[:, 2])
    torch.testing.assert_close(probs[:, 0], all_probs[:, 1] + all_probs[:, 3])


def test_keeping_every_class_only_orders_them(backbone: Backbone, clips: Tensor) -> None:
    labels = ("background", "goal", "card", "corner")
    model = TrainedModel(backbone, "x3d_xs", labels, has_background=False)
    kept = keep_labels(model, ["corner", "card", "goal", "card"])
    assert kept.labels == ("background", "corner", "card", "goal")
    assert not kept.has_background
    expected = probs_of(model, clips)[:, [0, 3, 2, 1]]
    torch.testing.assert_close(probs_of(kept, clips), expected)


def test_kept_classes_keep_their_operating_points(backbone: Backbone) -> None:
    labels = ("background", "goal", "card", "corner")
    widths = {label: PeakWidths(k / 4, 2.0) for k, label in enumerate(labels[1:])}
    model = TrainedModel(
        backbone, "x3d_xs", labels, thresholds={"goal": 0.3, "card": 0.4}, widths=widths
    )
    kept = keep_labels(model, ["card", "corner"])
    assert kept.thresholds == {"card": 0.4}
    assert kept.widths == {"card": PeakWidths(0.25, 2.0), "corner": PeakWidths(0.5, 2.0)}
    plain = keep_labels(replace(model, thresholds=None, widths=None), ["card"])
    assert (plain.thresholds, plain.widths) == (None, None)


def test_independent_classes_are_kept_as_they_are(backbone: Backbone, clips: Tensor) -> None:
    labels = ("background", "goal", "card", "corner")
    model = TrainedModel(backbone, "x3d_xs", labels, multi_label=True, temperature=3.0)
    kept = keep_labels(model, ["card"])
    expected = probs_of(model, clips)[:, [0, 2]]
    torch.testing.assert_close(probs_of(kept, clips), expected)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("dunking", "Did you mean 'dunking basketball'"),
        ("shooting gaol (soccer)", "'shooting goal .soccer.'"),
        ("DUNKING BASKETBALL", "'dunking basketball'"),
        ("qqqq", "no class 'qqqq'. Its 400 classes begin with 'abseiling'"),
        ("background", "no class 'background'"),
    ],
)
def test_an_unknown_class_is_refused_with_the_nearest(
    asked: str, message: str, backbone: Backbone
) -> None:
    model = TrainedModel(backbone, "x3d_xs", ("background", *class_list("kinetics400")))
    with pytest.raises(ValueError, match=message):
        keep_labels(model, ["yoga", asked])


def published_file(path: Path) -> Backbone:
    """X3D-XS with 400 classes, saved as pytorchvideo does; what it was made from."""
    torch.manual_seed(3)
    source = build_backbone("x3d_xs", 400).eval()
    nn.init.normal_(source.get_submodule("head.linear").bias)
    renamed = {
        "stages.stem.": "blocks.0.",
        **{f"stages.res{i}.": f"blocks.{i - 1}." for i in (2, 3, 4, 5)},
        "stages.conv5.": "blocks.5.pool.",
        "head.post_conv.": "blocks.5.pool.post_conv.",
        "head.linear.": "blocks.5.proj.",
    }
    state = {}
    for key, value in source.state_dict().items():
        prefix = next(p for p in renamed if key.startswith(p))
        state[renamed[prefix] + key.removeprefix(prefix)] = value
    torch.save({"model_state": state}, path)
    return source


def test_a_published_classifier_detects_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = published_file(tmp_path / "source.pyth")
    content = (tmp_path / "source.pyth").read_bytes()
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(lambda h, n: send_honestly(h, content)) as server:
        entry = replace(WEIGHTS["x3d_xs-kinetics400"], address=f"{server.url}/X3D_XS.pyth")
        monkeypatch.setitem(WEIGHTS, entry.name, entry)
        model = load_model("x3d_xs-kinetics400")
        few = load_model("x3d_xs-kinetics400", labels=["zumba", "dunking basketball"])
    assert len(server.requests) == 1
    assert model.labels[0] == "background"
    assert model.labels[1:] == class_list("kinetics400")
    assert model.spec == entry.spec
    assert not model.backbone.training
    assert model.record.weights.address == entry.address
    clip = torch.randn(1, 3, 4, 160, 160)
    with torch.no_grad():
        published = source(clip).softmax(dim=1)
    probs = probs_of(model, clip)
    assert probs[0, 0] == 0.0
    torch.testing.assert_close(probs[:, 1:], published)
    kept = probs_of(few, clip)
    torch.testing.assert_close(kept[:, 1:], published[:, [399, 107]])
    torch.testing.assert_close(kept.sum(), torch.tensor(1.0))

    path = tmp_path / "again.safetensors"
    save_checkpoint(path, model)
    torch.testing.assert_close(probs_of(load_checkpoint(path), clip), probs)


def test_a_path_gives_the_checkpoint_there(backbone: Backbone, tmp_path: Path) -> None:
    labels = ("background", "goal", "card", "corner")
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, TrainedModel(backbone, "x3d_xs", labels))
    assert load_model(path).labels == labels
    assert load_model(str(path), labels=["card"]).labels == ("background", "card")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_model(tmp_path / "gone.safetensors")


def test_weights_without_known_classes_are_refused_with_those_that_have_some() -> None:
    with pytest.raises(ValueError, match=r"train --weights mobilenet_v2-imagenet.*i3d-kinetics400"):
        load_model("mobilenet_v2-imagenet")
    with pytest.raises(ValueError, match="Did you mean 'slow_r50-kinetics400'"):
        load_model("slow_r50-kinetics40")
