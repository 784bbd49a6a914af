"""On a still clip an inflated network computes what its image network does."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from touchline.models.catalog import build_backbone
from touchline.models.networks.inflate import inflate_kernel, inflate_module
from touchline.models.weights.open import open_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_kernel_is_repeated_over_time_and_divided_by_its_length() -> None:
    flat = torch.tensor([[[[3.0, 6.0], [9.0, 12.0]]]])
    inflated = inflate_kernel(flat, 3)
    assert inflated.shape == (1, 1, 3, 2, 2)
    assert inflated[0, 0].tolist() == [[[1.0, 2.0], [3.0, 4.0]]] * 3


@pytest.mark.parametrize(("shape", "length"), [((1, 1, 3, 2, 2), 3), ((1, 1, 2, 2), 0)])
def test_what_is_no_2d_kernel_or_no_length_is_refused(shape: tuple[int, ...], length: int) -> None:
    with pytest.raises(ValueError, match="the kernel must be 2-D"):
        inflate_kernel(torch.zeros(shape), length)


def test_an_inflated_module_keeps_names_and_biases() -> None:
    flat = nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(4, 3, 1))
    biases = flat[0].bias.detach().clone()
    inflated = inflate_module(flat, length=3, stride=2)
    assert {k: tuple(v.shape) for k, v in inflated.state_dict().items()} == {
        "0.weight": (4, 2, 3, 3, 3),
        "0.bias": (4,),
        "1.weight": (3, 4, 1, 1, 1),
        "1.bias": (3,),
    }
    assert torch.equal(inflated[0].bias, biases)
    assert inflated(torch.zeros(1, 2, 8, 16, 16)).shape == (1, 3, 4, 8, 8)


def test_every_frame_of_a_still_clip_gives_the_features_of_the_image_network(
    shared: Path,
) -> None:
    file = shared / "weights" / "mobilenet_v2-imagenet.safetensors"
    flat_weights = open_weights(file, "cnn_lstm")
    assert flat_weights.spec.mean == (0.5, 0.5, 0.5)
    sampling = {"num_frames": 16, "size_px": 96}
    flat = build_backbone("cnn_lstm", 2, flat_weights.spec.with_sampling(**sampling)).eval()
    flat_weights.load_into(flat)
    weights = open_weights(file, "mobilenet3d")
    solid = build_backbone("mobilenet3d", 2, weights.spec.with_sampling(**sampling)).eval()
    weights.load_into(solid)
    image = torch.rand(2, 3, 1, 96, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = flat.trunk(image)  # (B, 1280, 1)
        features = solid.trunk(image.expand(-1, -1, 16, -1, -1))
    assert features.shape == (2, 1280, 2)
    assert expected.mean() > 0.1
    torch.testing.assert_close(features, expected.expand(-1, -1, 2), rtol=1e-3, atol=1e-3)


INCEPTION = {  # Szegedy et al. 2015, table 1, with 3x3 where torchvision has 3x3 for 5x5
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def googlenet_state() -> dict[str, Tensor]:
    """Random weights under torchvision's names, heads included."""
    state: dict[str, Tensor] = {}

    def unit(name: str, c_in: int, c_out: int, kernel: int) -> None:
        g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        fan_in = c_in * kernel * kernel
        weight = torch.randn(c_out, c_in, kernel, kernel, generator=g) * (2 / fan_in) ** 0.5
        state[f"{name}.conv.weight"] = weight
        state[f"{name}.bn.weight"] = 1 + 0.2 * torch.rand(c_out, generator=g)
        state[f"{name}.bn.bias"] = 0.2 * torch.randn(c_out, generator=g)
        state[f"{name}.bn.running_mean"] = 0.2 * torch.randn(c_out, generator=g)
        state[f"{name}.bn.running_var"] = 1 + torch.rand(c_out, generator=g)
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(5)

    unit("conv1", 3, 64, 7)
    unit("conv2", 64, 64, 1)
    unit("conv3", 64, 192, 3)
    for block, (c_in, c1, c3r, c3, c5r, c5, cp) in INCEPTION.items():
        name = f"inception{block}"
        unit(f"{name}.branch1", c_in, c1, 1)
        unit(f"{name}.branch2.0", c_in, c3r, 1)
        unit(f"{name}.branch2.1", c3r, c3, 3)
        unit(f"{name}.branch3.0", c_in, c5r, 1)
        unit(f"{name}.branch3.1", c5r, c5, 3)
        unit(f"{name}.branch4.1", c_in, cp, 1)
    for head in ("aux1", "aux2"):
        unit(f"{head}.conv", 512, 128, 1)
    state["aux1.fc1.weight"] = torch.zeros(4, 4)
    state["fc.weight"], state["fc.bias"] = torch.zeros(1000, 1024), torch.zeros(1000)
    return state


def image_features(state: dict[str, Tensor], image: Tensor) -> Tensor:
    """Inception-v1 on (B, 3, 64, 64) with I3D's paddings, written out: (B, 1024)."""

    def unit(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        k = weight.shape[2]
        # At even sizes stride 2 wants one zero less before than after.
        pad = (2, 3, 2, 3) if stride == 2 else (k // 2,) * 4
        x = F.conv2d(F.pad(x, pad), weight, stride=stride)
        stats = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
        norm = state[f"{name}.bn.weight"], state[f"{name}.bn.bias"]
        return F.relu(F.batch_norm(x, *stats, *norm, eps=1e-3))

    def inception(block: str, x: Tensor) -> Tensor:
        name = f"inception{block}"
        pooled = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1)
        branches = [
            unit(f"{name}.branch1", x),
            unit(f"{name}.branch2.1", unit(f"{name}.branch2.0", x)),
            unit(f"{name}.branch3.1", unit(f"{name}.branch3.0", x)),
            unit(f"{name}.branch4.1", pooled),
        ]
        return torch.cat(branches, dim=1)

    def halve(x: Tensor) -> Tensor:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)

    x = halve(unit("conv1", image, stride=2))
    x = halve(unit("conv3", unit("conv2", x)))
    x = halve(inception("3b", inception("3a", x)))
    for block in ("4a", "4b", "4c", "4d", "4e"):
        x = inception(block, x)
    x = F.max_pool2d(x, 2, 2)
    return inception("5b", inception("5a", x)).mean(dim=(2, 3))


def test_i3d_inflated_from_inception_gives_its_features_on_a_still_clip(tmp_path: Path) -> None:
    state = googlenet_state()
    path = tmp_path / "googlenet.pth"
    torch.save(state, path)
    weights = open_weights(path, "i3d")
    assert "fc.weight" in weights.dropped
    assert "aux1.fc1.weight" in weights.dropped
    # I3D pads time with zeros, and each feature sees 99 frames: only in the middle of a long
    # clip are there some that see none of the padding.
    spec = weights.spec.with_sampling(num_frames=136, size_px=64)
    backbone = build_backbone("i3d", 2, spec)
    weights.load_into(backbone.eval())
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = image_features(state, image)
        features = backbone.trunk(image[:, :, None].expand(-1, -1, 136, -1, -1))
    assert features.shape == (1, 1024, 17)
    middle = features[:, :, 8]
    assert expected.std() > 0.1
    torch.testing.assert_close(middle, expected, rtol=1e-3, atol=1e-3 * float(expected.max()))
    assert not torch.allclose(features[:, :, 0], expected, rtol=1e-2)
