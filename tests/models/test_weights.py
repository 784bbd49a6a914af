"""Weights load strictly or not at all, whatever they are saved in."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from backbone_cases import small_backbone
from loopback import send_honestly, serve
from safetensors.torch import save_file
from torch import Tensor

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel, read_metadata, save_checkpoint
from touchline.models.errors import WeightsError
from touchline.models.networks.cnn2d import mobilenet_v2_stages
from touchline.models.weights.files import read_weights_file
from touchline.models.weights.open import (
    PretrainedWeights,
    find_entry,
    fitting_backbones,
    open_weights,
    resize_positions,
)
from touchline.models.weights.table import WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")


def torchvision_mobilenet() -> dict[str, Tensor]:
    """Random MobileNetV2 weights under torchvision's names."""
    state: dict[str, Tensor] = {}
    for stage in mobilenet_v2_stages()[0].values():
        state |= {f"features.{k}": v for k, v in stage.state_dict().items()}
    state["classifier.1.weight"] = torch.zeros(1000, 1280)
    state["classifier.1.bias"] = torch.zeros(1000)
    return state


def openmmlab_c3d() -> dict[str, Tensor]:
    """C3D weights under OpenMMLab's names; the wide layers are one stored zero each."""
    widths = {"1a": (3, 64), "2a": (64, 128), "3a": (128, 256), "3b": (256, 256)}
    widths |= {"4a": (256, 512), "4b": (512, 512), "5a": (512, 512), "5b": (512, 512)}
    state: dict[str, Tensor] = {}
    for name, (c_in, c_out) in widths.items():
        state[f"conv{name}.conv.weight"] = torch.randn(c_out, c_in, 3, 3, 3) * 0.02
        state[f"conv{name}.conv.bias"] = torch.randn(c_out)
    state["fc6.weight"], state["fc6.bias"] = torch.zeros(1).expand(4096, 8192), torch.ones(4096)
    state["fc7.weight"], state["fc7.bias"] = torch.zeros(1).expand(4096, 4096), torch.arange(4096.0)
    return state


def spec_of(weights: PretrainedWeights, size_px: int = 32) -> ClipSpec:
    return weights.spec.with_sampling(num_frames=4, size_px=size_px)


def loaded(weights: PretrainedWeights) -> Backbone:
    backbone = build_backbone(weights.backbone, 3, spec_of(weights)).eval()
    weights.load_into(backbone)
    return backbone


SAVERS: dict[str, Callable[[dict[str, Tensor], Path], None]] = {
    "plain.pt": torch.save,
    "plain.pth": torch.save,
    "legacy.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "wrapped.pyth": lambda state, path: torch.save({"model_state": state, "epoch": 1}, path),
    "openmmlab.pth": lambda state, path: torch.save(
        {"meta": {"mmcv_version": "1.1.1"}, "state_dict": state}, path
    ),
    "parallel.pth": lambda state, path: torch.save(
        {f"module.{k}": v for k, v in state.items()}, path
    ),
    "plain.safetensors": lambda state, path: save_file(state, path),
}


@pytest.mark.parametrize("name", SAVERS)
def test_every_kind_of_file_gives_the_same_weights(name: str, tmp_path: Path) -> None:
    state = torchvision_mobilenet()
    path = tmp_path / name
    SAVERS[name](state, path)
    weights = open_weights(path, "cnn_lstm")
    assert weights.source == "torchvision MobileNetV2"
    assert sorted(weights.dropped) == ["classifier.1.bias", "classifier.1.weight"]
    own = loaded(weights).state_dict()
    assert torch.equal(own["stages.stem.0.0.weight"], state["features.0.0.weight"])
    last = "features.17.conv.2.weight"
    assert torch.equal(own["stages.block7.17.conv.2.weight"], state[last])
    assert torch.equal(own["stages.last.18.1.running_var"], state["features.18.1.running_var"])


def test_c3d_takes_what_openmmlab_publishes(tmp_path: Path) -> None:
    state = openmmlab_c3d()
    path = tmp_path / "c3d_sports1m.pth"
    torch.save(state, path)
    weights = open_weights(path, "c3d")
    assert weights.spec.mean == (104 / 255, 117 / 255, 128 / 255)
    backbone = build_backbone("c3d", 3, weights.spec.with_sampling(size_px=32)).eval()
    weights.load_into(backbone)
    with torch.no_grad():
        features = backbone.trunk(torch.randn(1, 3, 16, 32, 32))
    # fc7 has no weights here: its biases come out.
    assert torch.equal(features[0, :, 0], torch.arange(4096.0))


def test_a_resnet50_of_torchvision_fits_the_r50_lstm(tmp_path: Path) -> None:
    theirs = {
        k.removeprefix("stages.").removeprefix("stem."): v
        for k, v in build_backbone("cnn_lstm_r50", 2).state_dict().items()
        if k.startswith("stages.")
    }
    theirs |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    path = tmp_path / "resnet50.pth"
    torch.save(theirs, path)
    weights = open_weights(path, "cnn_lstm_r50")
    own = loaded(weights).state_dict()
    assert torch.equal(own["stages.layer3.5.conv2.weight"], theirs["layer3.5.conv2.weight"])
    assert weights.dropped == ("fc.weight", "fc.bias")


def save_changed(tmp_path: Path, change: Callable[[dict[str, Tensor]], Any]) -> Path:
    state = torchvision_mobilenet()
    change(state)
    path = tmp_path / "changed.pt"
    torch.save(state, path)
    return path


def test_a_missing_tensor_is_refused(tmp_path: Path) -> None:
    path = save_changed(tmp_path, lambda s: s.pop("features.5.conv.1.1.running_mean"))
    weights = open_weights(path, "cnn_lstm")
    with pytest.raises(WeightsError, match=r"lacks 1 tensor.*block3\.5\.conv\.1\.1\.running_mean"):
        loaded(weights)


def test_an_unknown_tensor_is_refused(tmp_path: Path) -> None:
    path = save_changed(tmp_path, lambda s: s.update(extra=torch.zeros(1)))
    with pytest.raises(WeightsError, match="unknown key 'extra'"):
        open_weights(path, "cnn_lstm")


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    path = save_changed(tmp_path, lambda s: s.update({"features.5.conv.9.weight": torch.zeros(1)}))
    with pytest.raises(WeightsError, match="no place for 1 tensor"):
        loaded(open_weights(path, "cnn_lstm"))


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = save_changed(
        tmp_path, lambda s: s.update({"features.0.0.weight": torch.zeros(8, 3, 3, 3)})
    )
    with pytest.raises(WeightsError, match=r"\(8, 3, 3, 3\).*\(32, 3, 3, 3\)"):
        loaded(open_weights(path, "cnn_lstm"))


def test_only_image_kernels_are_inflated(tmp_path: Path) -> None:
    path = save_changed(tmp_path, lambda s: None)
    inflated = loaded(open_weights(path, "mobilenet3d")).state_dict()
    state = torch.load(path, weights_only=True)
    depthwise = state["features.1.conv.0.0.weight"]
    own = inflated["stages.block1.1.conv.0.0.weight"]
    assert own.shape == (32, 1, 3, 3, 3)
    torch.testing.assert_close(own.sum(dim=2), depthwise)


def test_counters_of_batchnorm_may_be_absent(tmp_path: Path) -> None:
    def drop(state: dict[str, Tensor]) -> None:
        for key in [k for k in state if k.endswith("num_batches_tracked")]:
            del state[key]

    loaded(open_weights(save_changed(tmp_path, drop), "cnn_lstm"))


def test_weights_of_another_network_are_refused_with_what_they_fit(tmp_path: Path) -> None:
    path = save_changed(tmp_path, lambda s: None)
    with pytest.raises(WeightsError, match=r"not weights for i3d.*would fit cnn_lstm, mobilenet3d"):
        open_weights(path, "i3d")
    assert fitting_backbones(read_weights_file(path)) == ["cnn_lstm", "mobilenet3d"]


def test_normalisation_follows_the_metadata_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    metadata = {"mean": "0.5,0.5,0.5", "std": "0.25,0.5,1"}
    save_file(torchvision_mobilenet(), path, metadata=metadata)
    weights = open_weights(path, "cnn_lstm")
    assert weights.spec == ClipSpec(16, 8.0, 224, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    other = build_backbone("cnn_lstm", 2, ClipSpec(4, 8.0, 32))
    with pytest.raises(ValueError, match="Build the backbone with the spec of the weights"):
        weights.load_into(other)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("mean", "0.5"),
        ("mean", "a,b,c"),
        ("mean", "1,2,3,4"),
        ("std", "0,0,0"),
        ("mean", "nan,0,0"),
    ],
)
def test_unusable_normalisation_is_refused(name: str, values: str, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file(torchvision_mobilenet(), path, metadata={name: values})
    with pytest.raises(WeightsError, match="mean and std are unusable"):
        open_weights(path, "cnn_lstm")


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return eval, ("__import__('pathlib').Path('evil-ran').touch()",)


def test_a_pickle_with_code_in_it_is_refused_and_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in (2, 4):
        path = tmp_path / "evil.pth"
        path.write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=protocol))
        with pytest.raises(WeightsError, match=r"evil\.pth: refused"):
            open_weights(path, "cnn_lstm")
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(WeightsError, match=r"evil\.pth: refused"):
        open_weights(path, "cnn_lstm")
    assert not Path("evil-ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pt", b"", "an empty file"),
        ("text.pth", b"this is no pickle", "damaged|refused"),
        ("zip.pyth", b"PK\x03\x04half a zip", "damaged|refused"),
        ("empty.safetensors", b"", "an empty file"),
        ("model.onnx", b"x", r"the suffix is '\.onnx'"),
    ],
)
def test_what_is_no_weights_file_is_refused_by_name(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name}: .*({message})"):
        open_weights(tmp_path / name, "cnn_lstm")


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, {"state_dict": {"w": 1}}])
def test_a_pickle_without_tensors_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "odd.pt"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="no state dict"):
        open_weights(path, "cnn_lstm")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.pt: no such weights file"):
        open_weights(tmp_path / "gone.pt", "cnn_lstm")


def test_a_folder_is_no_weights_file_and_hides_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("i3d-kinetics400", "run.safetensors", "run"):
        Path(name).mkdir()
    assert find_entry("i3d-kinetics400") is WEIGHTS["i3d-kinetics400"]
    for path in (tmp_path, Path("run.safetensors")):
        told = f"{path}: a folder, not a weights file. Name the file"
        with pytest.raises(WeightsError, match=told):
            open_weights(path, "cnn_lstm")
    with pytest.raises(ValueError, match="'run' is a folder, and no weights have this name"):
        find_entry("run")


def test_a_checkpoint_of_ours_can_be_gone_on_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = small_backbone("cnn_lstm", 4).eval()
    path = tmp_path / "model.safetensors"
    labels = ("background", "a", "b", "c")
    save_checkpoint(path, TrainedModel(trained, "cnn_lstm", labels))
    weights = open_weights(path, "cnn_lstm")
    assert weights.spec == trained.spec
    other = build_backbone("cnn_lstm", 7, weights.spec).eval()
    weights.load_into(other)
    clip = torch.randn(1, 3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(other.trunk(clip), trained.trunk(clip))
    assert torch.equal(other.head.lstm.weight_hh_l0, trained.head.lstm.weight_hh_l0)
    with pytest.raises(WeightsError, match="checkpoint of 'cnn_lstm', not of i3d"):
        open_weights(path, "i3d")


@pytest.mark.parametrize("record", ["[]", "null", pytest.param("[" * 100_000, id="deep")])
def test_a_checkpoint_to_go_on_from_must_have_a_record(record: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    backbone = small_backbone("cnn_lstm", 2)
    save_checkpoint(path, TrainedModel(backbone, "cnn_lstm", ("background", "a")))
    metadata = read_metadata(path) | {"record": record}
    save_file(read_weights_file(path).tensors, path, metadata=metadata)
    with pytest.raises(WeightsError, match=r"model\.safetensors: a damaged Touchline checkpoint"):
        open_weights(path, "cnn_lstm")


def test_the_published_classifier_loads_only_when_asked_for(tmp_path: Path) -> None:
    source = build_backbone("x3d_xs", 4)
    blocks = {"stem": 0, "res2": 1, "res3": 2, "res4": 3, "res5": 4}
    theirs = {}
    for key, value in source.state_dict().items():
        for name, number in blocks.items():
            key = key.replace(f"stages.{name}.", f"blocks.{number}.")
        key = key.replace("stages.conv5.", "blocks.5.pool.")
        key = key.replace("head.post_conv.", "blocks.5.pool.post_conv.")
        theirs[key.replace("head.linear.", "blocks.5.proj.")] = value
    path = tmp_path / "X3D_XS.pyth"
    torch.save({"model_state": theirs}, path)
    weights = open_weights(path, "x3d_xs")
    spec = spec_of(weights, 32)
    trunk_only, whole = (build_backbone("x3d_xs", 4, spec) for _ in range(2))
    weights.load_into(trunk_only)
    weights.load_into(whole, classifier=True)
    assert torch.equal(whole.head.linear.weight, source.head.linear.weight)
    assert not torch.equal(trunk_only.head.linear.weight, source.head.linear.weight)
    # What stands before the last layer is pretrained too.
    assert torch.equal(trunk_only.head.post_conv.weight, source.head.post_conv.weight)


def test_a_name_is_fetched_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "source.pt"
    torch.save(torchvision_mobilenet(), path)
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(lambda h, n: send_honestly(h, path.read_bytes())) as server:
        entry = replace(
            WEIGHTS["mobilenet_v2-imagenet"], address=f"{server.url}/toy.pt", digest=None
        )
        monkeypatch.setitem(WEIGHTS, entry.name, entry)
        weights = open_weights("mobilenet_v2-imagenet", "cnn_lstm")
    assert weights.path == tmp_path / "cache" / "weights" / "toy.pt"
    assert weights.spec == entry.spec


def test_a_name_for_another_backbone_is_refused_with_those_that_fit() -> None:
    with pytest.raises(ValueError, match=r"for cnn_lstm and mobilenet3d, not i3d.*i3d-kinetics400"):
        open_weights("mobilenet_v2-imagenet", "i3d")


def test_an_unknown_name_is_refused_with_the_nearest_named() -> None:
    with pytest.raises(ValueError, match="Did you mean 'i3d-kinetics400'"):
        find_entry("i3d-kinetic400")


def test_what_looks_like_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_entry("i3d-kinetics400") is WEIGHTS["i3d-kinetics400"]
    assert find_entry("runs/best") is None
    assert find_entry("best.pt") is None
    monkeypatch.chdir(tmp_path)
    Path("i3d-kinetics400").touch()
    assert find_entry("i3d-kinetics400") is None


def test_positions_are_interpolated_over_their_grid() -> None:
    line = torch.tensor([[[0.0], [2.0]]])
    # Halfway points of two cells seen from four: 0, 0.25, 0.75 and 1 of the way.
    assert resize_positions(line, 4, square=False).flatten().tolist() == [0.0, 0.5, 1.5, 2.0]
    rows = torch.tensor([0.0, 0.0, 0.0, 3.0, 3.0, 3.0, 6.0, 6.0, 6.0]).reshape(1, 9, 1)
    grid = resize_positions(rows, 36, square=True).reshape(6, 6)
    assert torch.allclose(grid, grid[:, :1].expand(6, 6), atol=1e-5)
    assert grid[0, 0] < grid[2, 0] < grid[5, 0]
    with pytest.raises(ValueError, match="do not make a square"):
        resize_positions(rows, 35, square=True)


def test_a_deflate_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(64 << 20))
    with pytest.raises(WeightsError, match=r"refused, because its [\d,]+ bytes unpack to 67,10"):
        read_weights_file(path)


def test_what_torch_saves_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(5_000_000)}, path)
    assert read_weights_file(path).tensors["a"].shape == (5_000_000,)
