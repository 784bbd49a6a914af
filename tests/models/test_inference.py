import pytest
import torch
from tiny import small_3d_model
from torch import nn

from touchline.models import inference
from touchline.models.backbone import ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.inference import (
    ConvActivation,
    FlatConv3d,
    can_fuse_activations,
    computes_numbers,
    fast_copy,
    flatten_convolutions,
    fold_batchnorm,
    pick_device,
    pick_dtype,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "groups"),
    [
        ((3, 1, 1), (1, 1, 1), (1, 0, 0), 1),
        ((3, 1, 1), (2, 1, 1), (1, 0, 0), 1),
        ((5, 1, 1), (1, 1, 1), (2, 0, 0), 4),
        ((1, 3, 3), (1, 1, 1), (0, 1, 1), 1),
        ((1, 3, 3), (1, 2, 2), (0, 1, 1), 4),
        ((1, 1, 1), (1, 1, 1), (0, 0, 0), 1),
        ((1, 1, 1), (1, 2, 2), (0, 0, 0), 1),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_a_flat_convolution_is_the_same_convolution(kernel, stride, padding, groups, bias):
    torch.manual_seed(0)
    conv = nn.Conv3d(4, 8, kernel, stride, padding, groups=groups, bias=bias)
    x = torch.randn(2, 4, 6, 9, 7)
    assert FlatConv3d.fits(conv)
    torch.testing.assert_close(FlatConv3d(conv)(x), conv(x))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv3d(4, 8, 3, padding=1),
        nn.Conv3d(4, 8, (3, 1, 1), stride=(1, 2, 2)),
        nn.Conv3d(4, 8, (1, 3, 3), stride=(2, 1, 1)),
        nn.Conv3d(4, 8, (1, 3, 3), padding=(1, 1, 1)),
        nn.Conv3d(4, 8, (1, 3, 3), padding=(0, 1, 1), padding_mode="reflect"),
        nn.Conv3d(4, 8, (1, 3, 3), padding="same"),
    ],
)
def test_convolutions_that_mix_both_or_pad_otherwise_are_left_alone(conv):
    root = nn.Sequential(conv)
    flatten_convolutions(root)
    assert root[0] is conv


def with_statistics(backbone):
    """BatchNorm with statistics and weights of its own, so that folding has something to do."""
    generator = torch.Generator().manual_seed(1)
    for m in backbone.modules():
        if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d):
            for p in (m.weight, m.running_var):
                p.data.uniform_(0.5, 1.5, generator=generator)
            for p in (m.bias, m.running_mean):
                p.data.uniform_(-0.2, 0.2, generator=generator)
    return backbone.eval()


@pytest.mark.parametrize("name", ["motion_net", "cnn_lstm", "i3d"])
def test_folding_keeps_the_function_and_leaves_no_batchnorm(name):
    spec = ClipSpec(num_frames=8, rate_hz=8.0, size_px=64)
    backbone = with_statistics(build_backbone(name, 3, spec))
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.inference_mode():
        before = backbone.trunk(clip)
        fast = fast_copy(backbone, CPU, torch.float32)
        after = fast.trunk(clip)
        again = backbone.trunk(clip)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
    assert torch.equal(again, before), "the original must not change"
    assert not [m for m in fast.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]


def test_a_batchnorm_that_follows_no_convolution_stays():
    backbone = small_3d_model().backbone
    backbone.stages["stem"] = nn.Sequential(nn.BatchNorm3d(3), *backbone.stages["stem"])
    folded = fold_batchnorm(backbone.eval())
    assert folded == len([m for m in backbone.modules() if isinstance(m, nn.Identity)])
    assert isinstance(backbone.stages["stem"][0], nn.BatchNorm3d)


class UsesConvTwice(nn.Module):
    """A convolution whose output goes to BatchNorm and past it: folding would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 16, (1, 5, 5), (1, 2, 2), (0, 2, 2), bias=False)
        self.bn = nn.BatchNorm3d(16)

    def forward(self, x):
        y = self.conv(x)
        return y + self.bn(y)


def test_a_copy_that_would_compute_something_else_is_refused():
    backbone = small_3d_model().backbone
    backbone.stages["stem"] = UsesConvTwice()
    with pytest.raises(RuntimeError, match="computes other features"):
        fast_copy(with_statistics(backbone), CPU, torch.float32)


def test_a_network_that_computes_no_numbers_is_refused():
    backbone = small_3d_model().backbone
    assert computes_numbers(backbone)
    with torch.no_grad():
        for weights in backbone.parameters():
            weights.mul_(1e30)  # finite still
    assert not computes_numbers(backbone)
    with pytest.raises(ValueError, match="not finite numbers, as after training that diverged"):
        fast_copy(backbone, CPU, torch.float32)


@pytest.mark.parametrize(
    ("name", "fused", "left"),
    [
        ("motion_net", 6, 0),  # convolutions over space, time and both
        ("cnn_lstm", 35, 0),
        ("cnn_lstm_lite0", 33, 0),  # with TensorFlow's padding
        ("cnn_lstm_r50", 33, 16),  # the others follow a sum
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_convolution_and_activation_in_one_pass_give_the_same(
    monkeypatch, name, fused, left, dtype
):
    if not can_fuse_activations():
        pytest.skip("this build of PyTorch has no oneDNN")
    spec = ClipSpec(num_frames=8, rate_hz=8.0, size_px=72)
    backbone = with_statistics(build_backbone(name, 3, spec))
    clip = torch.randn(1, 3, 8, 72, 72).to(dtype)
    one_pass = fast_copy(backbone, CPU, dtype)
    monkeypatch.setattr(inference, "can_fuse_activations", lambda: False)
    two_passes = fast_copy(backbone, CPU, dtype)
    assert count(one_pass, ConvActivation) == fused
    assert count(one_pass, nn.ReLU, nn.ReLU6) == left
    assert count(two_passes, nn.ReLU, nn.ReLU6) == fused + left
    with torch.inference_mode():
        found, expected = one_pass.features(clip), two_passes.features(clip)
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def count(root, *kinds):
    return sum(isinstance(module, kinds) for module in root.modules())


class SharesActivation(nn.Module):
    """One ReLU after two convolutions, and one after a sum: none of them may be joined."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(3, 16, (1, 5, 5), (1, 2, 2), (0, 2, 2))
        self.second = nn.Conv3d(16, 16, 1)
        self.relu, self.last = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.relu(self.first(x))
        return self.last(x - self.relu(self.second(x)))


def test_an_activation_that_several_places_use_stays():
    backbone = small_3d_model().backbone
    backbone.stages["stem"] = SharesActivation()
    clip = torch.randn(1, 3, backbone.spec.num_frames, 64, 64)
    with torch.inference_mode():
        expected = backbone.eval().features(clip)
        fast = fast_copy(backbone, CPU, torch.float32)
        assert count(fast.stages["stem"], ConvActivation) == 0
        torch.testing.assert_close(fast.features(clip), expected, rtol=1e-3, atol=1e-4)


def test_without_the_operator_activations_stay_as_they_are(monkeypatch):
    def missing(*_):
        raise AttributeError("no such operator")

    can_fuse_activations.cache_clear()
    monkeypatch.setattr(ConvActivation, "forward", missing)
    assert not can_fuse_activations()
    can_fuse_activations.cache_clear()


def test_a_device_that_is_not_there_is_refused_by_name():
    with pytest.raises(ValueError, match="device 'cuda:99'"):
        pick_device("cuda:99")
    with pytest.raises(
        ValueError, match=r"^device is 'gpu'\. Use auto, cpu, cuda, cuda:1 or mps\.$"
    ):
        pick_device("gpu")


def test_precision_is_what_was_asked_for_and_else_follows_the_processor(monkeypatch):
    assert pick_dtype("float32", CPU) is torch.float32
    assert pick_dtype("bf16", CPU) is torch.bfloat16
    for has_amx, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has=has_amx: has)
        assert pick_dtype("auto", CPU) is dtype
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert pick_dtype("auto", CPU) is torch.float32
    with pytest.raises(ValueError, match="auto, float32, bf16"):
        pick_dtype("half", CPU)


def test_a_framewise_trunk_gives_the_same_features_in_small_passes():
    torch.manual_seed(0)
    backbone = build_backbone("cnn_lstm", 2, ClipSpec(3, 2.0, 32)).eval()
    clips = torch.randn(2, 3, 3, 32, 32)  # six frames: a pass of four and one of two
    with torch.inference_mode():
        whole = backbone.leave(backbone.run_stages(backbone.enter(clips)), 2)
        passes = backbone.features(clips)
    assert float((passes - whole).abs().max()) < 1e-3 * float(whole.abs().max())
