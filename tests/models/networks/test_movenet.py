"""MoveNet computes what its published graph computes; posture is described relative to the body."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from backbone_cases import formula
from torch import Tensor, nn

from touchline.models.backbone import Backbone, normalise
from touchline.models.catalog import build_backbone
from touchline.models.errors import WeightsError
from touchline.models.networks.movenet import joints_of, movenet_stages
from touchline.models.networks.pose import (
    THUNDER,
    appearance_at,
    posture_features,
    squares_at,
)
from touchline.models.weights.cache import local_path
from touchline.models.weights.movenet_file import layout, read_movenet
from touchline.models.weights.open import open_weights
from touchline.models.weights.table import WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")

PUBLISHED = WEIGHTS["movenet_thunder-coco"]


def made_halves(name: str, shape: tuple[int, ...], phase: float) -> Tensor:
    """A tensor in TensorFlow's shape that lets signals neither fade nor grow."""
    values = formula(shape, phase)
    if len(shape) == 4:
        fan_in = 9 if "depthwise" in name else math.prod(shape[:3])
        return (values * math.sqrt(6 / fan_in)).half()
    return (0.1 * values).half()


def made_file(path: Path) -> Path:
    """A file as MoveNet's, made by `formula`; zeros for the constants of the graph."""
    parts = [
        bytes(part) if isinstance(part, int) else made_halves(*part, i).numpy().tobytes()
        for i, part in enumerate(layout())
    ]
    path.write_bytes(b"".join(parts))
    return path


def drawn_player() -> Tensor:
    """A picture (1, 3, 256, 256) uint8: a figure on a court with the left arm up, a ball above."""
    picture = torch.zeros(3, 256, 256, dtype=torch.uint8)
    picture += torch.tensor([150, 140, 120], dtype=torch.uint8)[:, None, None]
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")

    def disc(cy: float, cx: float, r: float, colour: tuple[int, int, int]) -> None:
        limb(cy, cx, cy, cx, r, colour)

    def limb(
        y0: float, x0: float, y1: float, x1: float, r: float, colour: tuple[int, int, int]
    ) -> None:
        """All pixels at most r from the line."""
        length = max((y1 - y0) ** 2 + (x1 - x0) ** 2, 1e-9)
        t = (((y - y0) * (y1 - y0) + (x - x0) * (x1 - x0)) / length).clamp(0, 1)
        near = (y - y0 - t * (y1 - y0)) ** 2 + (x - x0 - t * (x1 - x0)) ** 2 <= r * r
        picture[:, near] = torch.tensor(colour, dtype=torch.uint8)[:, None]

    skin, shirt, shorts, ball = (205, 160, 130), (190, 30, 40), (30, 30, 90), (220, 120, 40)
    for y0, x0, y1, x1 in ((150, 118, 195, 112), (150, 138, 195, 144)):
        limb(y0, x0, y1, x1, 9, shorts)
    for y0, x0, y1, x1 in ((190, 112, 232, 110), (190, 144, 232, 146)):
        limb(y0, x0, y1, x1, 6, skin)
    for line in ((90, 112, 120, 100), (120, 100, 145, 96), (90, 144, 66, 160), (66, 160, 38, 158)):
        limb(*line, 6, skin)
    for y0, x0, y1, x1 in ((92, 116, 142, 119), (92, 140, 142, 137), (92, 128, 142, 128)):
        limb(y0, x0, y1, x1, 10, shirt)
    limb(74, 128, 84, 128, 6, skin)
    disc(60, 128, 14, skin)
    disc(52, 128, 12, (60, 40, 30))
    disc(62, 128, 11, skin)
    disc(22, 158, 12, ball)
    return picture[None]


def network(path: Path) -> nn.ModuleDict:
    stages = nn.ModuleDict(movenet_stages()).eval()
    stages.load_state_dict(read_movenet(path))
    return stages


def scaled(picture: Tensor) -> Tensor:
    """A uint8 picture in [-1, 1], as the graph scales it: by the half float nearest to 2 / 255."""
    return picture * torch.tensor(2 / 255).half().float() - 1


def run(stages: nn.ModuleDict, x: Tensor) -> tuple[Tensor, Tensor]:
    """Joints (17, 3) and the features at a 16th of the size of one picture in [-1, 1]."""
    with torch.no_grad():
        for stage in stages.values():
            x = stage(x)
        maps, coarse, _ = x
        return joints_of(maps)[0][0], coarse[0]


# What the published graph (movenet-thunder.json) gave for the drawn player, interpreted by numpy in
# float64 node by node: joints 0, 5, 10 and 16, and every 7th cell of a feature map at a 16th of
# the picture's size. With made weights, and with the published ones.
MADE = (
    [
        [0.53022, 0.45985, 0.83064],
        [0.55109, 0.50708, 0.91811],
        [0.5266, 0.5115, 0.68123],
        [0.50441, 0.48411, 0.8421],
    ],
    [[0.0885, 2.0159, 0.5896], [-0.193, 2.7406, 0.8152], [-0.3573, 2.0202, 0.5111]],
)
REAL = (
    [
        [0.25213, 0.49657, 0.42678],
        [0.34003, 0.56858, 0.60835],
        [0.53441, 0.38207, 0.43848],
        [0.77247, 0.55974, 0.32193],
    ],
    [[-1.385, 0.0379, -0.138], [-0.4066, -0.0255, -0.7833], [-2.7619, -0.2259, -0.8302]],
)


def assert_as_published(stages: nn.ModuleDict, expected: tuple[list[list[float]], ...]) -> None:
    joints, coarse = run(stages, scaled(drawn_player()))
    some, cells = (torch.tensor(values) for values in expected)
    torch.testing.assert_close(joints[[0, 5, 10, 16]], some, rtol=0, atol=2e-5)
    torch.testing.assert_close(coarse[0, ::7, ::7], cells, rtol=0, atol=2e-4)


def test_joints_are_those_of_the_published_graph(tmp_path: Path) -> None:
    assert_as_published(network(made_file(tmp_path / "made.bin")), MADE)


@pytest.fixture(scope="module")
def published() -> nn.ModuleDict:
    path = local_path(PUBLISHED)
    if path is None:
        pytest.skip(f"needs the weights: touchline models pull {PUBLISHED.name}")
    return network(path)


def test_published_weights_give_the_published_joints(published: nn.ModuleDict) -> None:
    assert_as_published(published, REAL)


def test_published_weights_find_the_upper_body_of_a_drawn_player(
    published: nn.ModuleDict,
) -> None:
    joints, _ = run(published, scaled(drawn_player()))
    drawn = {0: (62, 128), 5: (90, 144), 6: (90, 112), 9: (38, 158), 10: (145, 96)}
    found = joints[list(drawn), :2] * 256
    distance = torch.linalg.vector_norm(found - torch.tensor(list(drawn.values())), dim=1)
    assert distance.max() < 10, distance


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.bin"
    path.write_bytes(bytes(100))
    with pytest.raises(WeightsError, match="100 bytes instead of 12477112"):
        read_movenet(path)


def test_the_file_loads_by_name_into_the_backbone(tmp_path: Path) -> None:
    weights = open_weights(made_file(tmp_path / "made.bin"), "pose")
    backbone = build_backbone("pose", 2, weights.spec)
    weights.load_into(backbone)
    assert weights.spec == PUBLISHED.spec == THUNDER
    assert weights.dropped == ()
    kernel = read_movenet(tmp_path / "made.bin")["mobilenet.stem.conv.weight"]
    state = backbone.state_dict()
    assert torch.equal(state["stages.mobilenet.stem.conv.weight"], kernel)
    # The file has no network for the hands. It comes from its own weights.
    hands = open_weights("efficientnet_lite0-imagenet", "cnn_lstm_lite0").state
    assert torch.equal(
        state["stages.hands.network.stem.conv.weight"], hands["stages.stem.conv.weight"]
    )


def test_pixels_are_normalised_as_published() -> None:
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 1, 2).expand(1, 3, 1, 1, 2)
    assert normalise(pixels, THUNDER)[0, 0, 0, 0].tolist() == [-1.0, 1.0]


def blank_maps() -> dict[str, Tensor]:
    """Maps of 16 x 16 cells in which nothing is to be seen."""
    return {
        "center": torch.full((1, 16, 16), -9.0),
        "regress": torch.zeros(34, 16, 16),
        "heatmap": torch.full((17, 16, 16), -9.0),
        "offset": torch.zeros(34, 16, 16),
    }


def read(maps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    joints, posture = joints_of(torch.cat(list(maps.values()))[None])
    return joints[0], posture[0]


def test_the_main_person_is_the_one_near_the_middle() -> None:
    maps = blank_maps()
    maps["center"][0, 1, 1] = 3.0
    maps["center"][0, 7, 9] = 2.0  # less sure, but near
    _, posture = read(maps)
    assert posture.tolist() == [[7 / 16, 9 / 16]] * 17


def test_a_joint_is_the_best_near_where_its_person_expects_it_and_lies_within_a_cell() -> None:
    maps = blank_maps()
    maps["center"][0, 8, 8] = 2.0
    maps["regress"][2 * 9 : 2 * 9 + 2, 8, 8] = torch.tensor([-3.0, 2.5])  # the left wrist
    maps["heatmap"][9, 5, 11] = 1.0
    maps["heatmap"][9, 15, 0] = 2.0  # of someone else
    maps["offset"][2 * 9 : 2 * 9 + 2, 5, 11] = torch.tensor([0.25, 0.5])
    joints, posture = read(maps)
    assert posture[9].tolist() == [5 / 16, 10.5 / 16]
    sure = 1 / (1 + math.exp(-1))
    assert joints[9].tolist() == pytest.approx([5.25 / 16, 11.5 / 16, sure])


def standing() -> Tensor:
    """A body (17, 2): shoulders at y 0.3, hips at 0.5, the left arm at a right angle."""
    body = torch.zeros(17, 2)
    body[:, 1] = 0.5
    body[:5, 0] = 0.2
    body[[5, 6]] = torch.tensor([[0.3, 0.55], [0.3, 0.45]])
    body[[7, 9]] = torch.tensor([[0.4, 0.55], [0.4, 0.65]])
    body[[8, 10]] = torch.tensor([[0.4, 0.45], [0.5, 0.45]])
    body[[11, 12]] = torch.tensor([[0.5, 0.55], [0.5, 0.45]])
    body[[13, 15]] = torch.tensor([[0.7, 0.55], [0.9, 0.55]])
    body[[14, 16]] = torch.tensor([[0.7, 0.45], [0.9, 0.45]])
    return body


def described(body: Tensor) -> dict[str, Tensor]:
    features = posture_features(body[None], torch.full((1, 17), 0.7))[0]
    names = ("body", "confidence", "place", "angles", "distances")
    parts = zip(features.split([34, 17, 5, 8, 136]), (4, 6, 16, 4, 4), strict=True)
    return dict(zip(names, (part / scale for part, scale in parts), strict=True))


def test_posture_is_relative_to_the_trunk() -> None:
    found = described(standing())
    body = found["body"].view(17, 2)
    # The trunk is 0.2 long and its middle lies at (0.4, 0.5).
    assert body[9].tolist() == pytest.approx([0.0, 0.75], abs=1e-5)
    assert body[15].tolist() == pytest.approx([2.5, 0.25], abs=1e-5)
    assert found["confidence"].tolist() == pytest.approx([0.7] * 17)
    assert found["place"][:4].tolist() == pytest.approx([0.4, 0.5, 0.2, 0.2])
    # Left elbow bent, right arm straight; both knees straight.
    assert found["angles"][:4].tolist() == pytest.approx([0, -1, -1, -1], abs=1e-5)
    # From the nose to the left eye, which lie in one place, and from ankle to ankle.
    assert found["distances"][[0, -1]].tolist() == pytest.approx([0, 0.5], abs=1e-5)


def test_place_and_size_change_only_the_numbers_that_tell_them() -> None:
    near, far = described(standing()), described(standing() * 0.4 + 0.3)
    for name in ("body", "confidence", "angles", "distances"):
        torch.testing.assert_close(near[name], far[name], rtol=0, atol=1e-4)
    assert far["place"].tolist()[:3] == pytest.approx([0.46, 0.5, 0.08])


def test_a_trunk_that_points_at_the_camera_does_not_blow_the_body_up() -> None:
    body = standing()
    body[[11, 12]] = body[[5, 6]]
    found = described(body)
    assert found["body"].abs().max() < 10
    assert described(torch.full((17, 2), 0.5))["body"].tolist() == [0.0] * 34


def test_appearance_is_read_at_the_joints() -> None:
    features = torch.arange(16.0).view(1, 1, 4, 4).repeat(1, 2, 1, 1)
    features[:, 1] += 100
    # The middles of cells (0, 0) and (2, 1), half way between two, and a point outside.
    points = torch.tensor([[[0.125, 0.125], [0.625, 0.375], [0.125, 0.25], [2.0, 2.0]]])
    found = appearance_at(features, points) / 0.6
    assert found[0].tolist() == pytest.approx([0, 100, 9, 109, 0.5, 100.5, 15, 115])


def test_squares_are_cut_around_points_and_black_outside() -> None:
    picture = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    inside, outside = (
        squares_at(picture, torch.tensor([point]), torch.tensor([[0.25]]))
        for point in ([0.25, 0.5], [0.0, 0.5])
    )
    # Rows 2 to 6 and columns 6 to 10, each pixel magnified to 32; -1 above the picture.
    assert inside.shape == (1, 3, 128, 128)
    middles = inside[0, 0, 15:128:32, 15:128:32] * 255
    expected = torch.tensor([[16.0 * y + x for x in range(6, 10)] for y in range(2, 6)])
    torch.testing.assert_close(middles, expected, rtol=0, atol=0.5)
    assert (outside[0, 0, :48] == -1).all()
    torch.testing.assert_close(outside[0, 0, 80, 15::32] * 255, expected[0] - 32, rtol=0, atol=0.5)


def test_features_of_the_backbone_are_posture_ends_of_the_body_and_hands(tmp_path: Path) -> None:
    backbone = loaded(made_file(tmp_path / "made.bin"))
    clip = normalise(drawn_player()[:, :, None], backbone.spec)
    with torch.no_grad():
        features = backbone.trunk(clip)
    joints, coarse = run(network(tmp_path / "made.bin"), clip[:, :, 0])
    assert features.shape == (1, 2040, 1)
    torch.testing.assert_close(features[0, 34:51, 0] / 6, joints[:, 2], rtol=0, atol=1e-4)
    ends = appearance_at(coarse[None], joints[None, [0, 9, 10, 15, 16], :2])[0]
    torch.testing.assert_close(features[0, 200:760, 0], ends, rtol=1e-3, atol=1e-3)


def test_hands_are_seen_by_an_image_network_as_it_sees_pictures(tmp_path: Path) -> None:
    path = made_file(tmp_path / "made.bin")
    backbone = loaded(path)
    with torch.no_grad():
        features = backbone.trunk(normalise(drawn_player()[:, :, None], backbone.spec))
        hands = image_network_at_hands(network(path))
    torch.testing.assert_close(features[0, 760:, 0] / 0.7, hands, rtol=1e-3, atol=1e-3)


def image_network_at_hands(stages: nn.ModuleDict) -> Tensor:
    """The larger features (1280,) of both hands of the drawn player, cut from its picture."""
    other = open_weights("efficientnet_lite0-imagenet", "cnn_lstm_lite0")
    lite0 = build_backbone("cnn_lstm_lite0", 2, other.spec.with_sampling(num_frames=1, size_px=128))
    other.load_into(lite0.eval())
    x = picture = normalise(drawn_player()[:, :, None], THUNDER)[:, :, 0]
    for stage in stages.values():
        x = stage(x)
    joints, posture = joints_of(x[0])
    trunk = (posture[0, [5, 6]].mean(dim=0) - posture[0, [11, 12]].mean(dim=0)).norm()
    spread = (posture[0] - posture[0].mean(dim=0)).norm() / 17**0.5
    side = 1.3 * torch.maximum(trunk, 0.6 * spread).view(1, 1)
    seen = []
    for wrist in (9, 10):
        pixels = (squares_at(picture, joints[:, wrist, :2], side) + 1) * 127.5
        seen.append(lite0.trunk(normalise(pixels[:, :, None], other.spec))[0, :, 0])
    return torch.maximum(*seen)


def loaded(path: Path) -> Backbone:
    weights = open_weights(path, "pose")
    backbone = build_backbone("pose", 2, weights.spec.with_sampling(num_frames=1)).eval()
    weights.load_into(backbone)
    return backbone
