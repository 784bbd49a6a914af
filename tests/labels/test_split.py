"""Our CSV, the classes of examples, and splits that keep groups whole."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.read import check_labels, class_names, read_labels
from touchline.pipeline.labels.split import Split, split_by_group
from touchline.pipeline.types import Example

HEADER = "video,label,start_s,end_s,group\n"


def write(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def example(label: str, group: object, *, path: str = "") -> Example:
    return Example(
        Path(path or f"{group}_{label}.mp4"), label, str(group), 0.0, 1.0, "labels.csv line 2"
    )


def examples_of(counts: dict[str, dict[str, int]]) -> list[Example]:
    """One file per group: {"match_A": {"goal": 3}} -> three goals of match_A."""
    return [
        example(label, group, path=f"{group}.mp4")
        for group, labels in counts.items()
        for label, number in labels.items()
        for _ in range(number)
    ]


def test_a_row_becomes_an_example(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "clips/a.mp4,goal,1.5,2.25,match_A\nb.mp4, card ,,,\n")
    assert read_labels(path) == [
        Example(tmp_path / "clips/a.mp4", "goal", "match_A", 1.5, 2.25, f"{path} line 2"),
        Example(tmp_path / "b.mp4", "card", "b.mp4", None, None, f"{path} line 3"),
    ]


def test_a_byte_order_mark_carriage_returns_and_blank_lines_do_not_matter(tmp_path: Path) -> None:
    text = (HEADER + "a.mp4,goal,1,2,g\n\n,,,,\nb.mp4,café,3,4,g\n").replace("\n", "\r\n")
    read = read_labels(write(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert [(e.label, e.start_s, e.source[-6:]) for e in read] == [
        ("goal", 1.0, "line 2"),
        ("café", 3.0, "line 5"),
    ]


def test_without_a_group_column_a_file_is_its_own_group(tmp_path: Path) -> None:
    path = write(tmp_path, "video,label,start_s,end_s\nx/a.mp4,goal,1,2\n./x/a.mp4,card,3,4\n")
    assert [e.group for e in read_labels(path)] == ["x/a.mp4", "x/a.mp4"]


def test_other_columns_in_any_order_are_accepted(tmp_path: Path) -> None:
    path = write(
        tmp_path, "score,end_s,start_s,label,video,start\n0.9,2,1,goal,a.mp4,0:00:01.000\n"
    )
    (read,) = read_labels(path)
    assert (read.label, read.start_s, read.end_s) == ("goal", 1.0, 2.0)


def test_footage_may_lie_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "a.mp4,goal,,,\n/abs/b.mp4,goal,,,\n")
    read = read_labels(path, footage_folder="/footage")
    assert [str(e.path) for e in read] == ["/footage/a.mp4", "/abs/b.mp4"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        "video;label;start_s;end_s;group\r\nspiel 1.mp4;Tor;754,25;760;A\r\n",
        "sep=;\r\nvideo;label;start_s;end_s;group\r\nspiel 1.mp4;Tor;754,25;760,0;A\r\n",
        "video\tlabel\tstart_s\tend_s\tgroup\nspiel 1.mp4\tTor\t754.25\t760\tA\n",
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    (example,) = read_labels(path)
    assert (example.path.name, example.label, example.group) == ("spiel 1.mp4", "Tor", "A")
    assert (example.start_s, example.end_s) == (754.25, 760.0)
    path.write_bytes(text.replace("760", "so").encode(encoding))
    with pytest.raises(LabelsError, match=r"line [23]: end_s is 'so"):
        read_labels(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        (HEADER, "no labels"),
        ("video,lable,start_s,end_s\n", "line 1: no column 'label'. Did you mean 'lable'?"),
        ("Video,label,start_s,end_s\n", "line 1: no column 'video'. Did you mean 'Video'?"),
        ("video;label;start_s\n", "line 1: no column 'end_s'"),
        ("video:label:start_s:end_s\n", "line 1: no column 'video'. The columns must be"),
        (HEADER + '"a.mp4",goal,"1,5",2,g\n', "line 2: start_s is '1,5'; it must be a number"),
        ("a,b\n", "line 1: no column 'video'. The columns must be video,label,start_s,end_s,group"),
        ("video,label,label,start_s,end_s\n", "line 1: 2 columns 'label'"),
        (HEADER + "a.mp4,goal,1,2,g\na.mp4,goal,5,4,g\n", "line 3: the end 4 s is before 5 s"),
        (HEADER + "a.mp4,goal,-1,2,g\n", "line 2: start_s is '-1'; it must be 0 or more"),
        (HEADER + "a.mp4,goal,1,nan,g\n", "line 2: end_s is 'nan'"),
        (HEADER + "a.mp4,goal,1,inf,g\n", "line 2: end_s is 'inf'"),
        (HEADER + "a.mp4,goal,1:61,95,g\n", "line 2: start_s: '1:61' is not a time"),
        (HEADER + "a.mp4,goal,1_0,95,g\n", "line 2: start_s is '1_0'; it must be a number"),
        (HEADER + "a.mp4,goal,1,,g\n", "line 2: start_s without end_s. Give both"),
        (HEADER + "a.mp4,goal,,1,g\n", "line 2: end_s without start_s. Give both"),
        (HEADER + "a.mp4, ,1,2,g\n", "line 2: the label is empty"),
        (HEADER + ",goal,1,2,g\n", "line 2: video is empty"),
        (HEADER + "a.mp4,goal,1,2\n", "line 2: 4 cells, but the first line names 5 columns"),
        (HEADER + "a.mp4,goal,1,2,g,\n", "line 2: 6 cells, but the first line names 5 columns"),
        (HEADER + 'a.mp4,"go\nal",1,2,g\nb,goal,x,2,g\n', "line 4: start_s is 'x'"),
        (HEADER + 'a.mp4,"goal,1,2,g\n', "line 2: not CSV"),
        ((HEADER + "a.mp4,caf\xe9,1,2,g\n").encode("latin-1"), "line 2: not UTF-8"),
        (HEADER.encode("utf-16") + b"x", "not UTF-8"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(LabelsError, match=message) as raised:
        read_labels(path)
    assert str(raised.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("match.mp4", b"\0\0\0\x20ftypisom\xff", "a video, not a label or events file. Give"),
        ("model.safetensors", b"\x90\x01" + b"\0" * 6 + b"{}", "a binary file, not a label or"),
    ],
)
def test_a_binary_file_is_refused_without_advice_to_save_it(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LabelsError, match=message) as raised:
        read_labels(path)
    assert "UTF-8" not in str(raised.value)


def test_a_missing_file_and_a_folder_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="no such file"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(LabelsError, match="no subfolders"):
        read_labels(tmp_path)


def test_a_list_of_no_events_may_be_read_where_it_makes_sense(tmp_path: Path) -> None:
    assert read_labels(write(tmp_path, HEADER), allow_empty=True) == []


def test_background_is_the_first_class_whether_labelled_or_not() -> None:
    assert class_names([example("goal", "a"), example("assist", "a")]) == (
        "background",
        "assist",
        "goal",
    )
    assert class_names([example("zero", "a"), example("background", "a")]) == ("background", "zero")


def test_an_unknown_class_names_its_line_and_the_nearest() -> None:
    check_labels([example("goal", "a"), example("background", "a")], ["goal"])
    with pytest.raises(LabelsError, match=r"labels\.csv line 2: .*'Gaol'.*Did you mean 'goal'"):
        check_labels([example("Gaol", "a")], ["card", "goal"])
    with pytest.raises(LabelsError, match="The classes are card, goal"):
        check_labels([example("swim", "a")], ["card", "goal"])


def test_no_group_is_divided_and_no_example_is_lost() -> None:
    examples = examples_of({f"match_{i}": {"goal": i + 1, "card": 3} for i in range(9)})
    for seed in range(5):
        split = split_by_group(examples, seed=seed, exclude_groups=["match_8"])
        parts = [{e.group for e in part} for part in (split.train, split.val, split.excluded)]
        assert not (parts[0] & parts[1])
        assert parts[2] == {"match_8"}
        together = Counter((*split.train, *split.val, *split.excluded))
        assert together == Counter(examples)


def test_the_best_groups_are_found_where_the_share_can_be_met() -> None:
    # Only {b, e} holds a fifth of both classes.
    counts = {
        "a": {"goal": 16, "card": 2},
        "b": {"goal": 3, "card": 1},
        "c": {"goal": 0, "card": 11},
        "d": {"goal": 0, "card": 3},
        "e": {"goal": 1, "card": 3},
    }
    split = split_by_group(examples_of(counts), val_share=0.2)
    assert {e.group for e in split.val} == {"b", "e"}
    assert split.not_validated == ()


def test_the_same_seed_chooses_the_same_groups_whatever_the_order() -> None:
    examples = examples_of({f"m{i}": {"goal": 2, "card": 2} for i in range(10)})
    chosen = {e.group for e in split_by_group(examples, seed=3).val}
    assert {e.group for e in split_by_group(examples[::-1], seed=3).val} == chosen
    assert len(chosen) == 2
    others = [{e.group for e in split_by_group(examples, seed=s).val} for s in range(4, 9)]
    assert any(other != chosen for other in others)


def test_a_class_of_one_group_stays_in_training_and_is_named() -> None:
    split = split_by_group(examples_of({"a": {"goal": 5, "card": 5}, "b": {"goal": 5}}))
    assert {e.group for e in split.val} == {"b"}
    assert split.not_validated == ("card",)


def test_events_out_of_the_picture_count_on_neither_side() -> None:
    examples = examples_of({"a": {"goal": 5, "red": 1}, "b": {"goal": 5}, "c": {"goal": 5}})
    hidden = [replace(example("red", group, path=f"{group}.mp4"), visible=False) for group in "bc"]
    for seed in range(5):
        split = split_by_group(examples + hidden, seed=seed)
        assert "red" in {e.label for e in split.train if e.visible}
        assert split.not_validated == ("red",)


def test_one_file_under_two_names_is_on_one_side_of_the_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    near, far = (example("goal", name, path=str(name)) for name in ("m.mp4", tmp_path / "m.mp4"))
    with pytest.raises(ValueError, match=r"divides footage .*m\.mp4 between training and valid"):
        Split(train=(near,), val=(far,))
    others = examples_of({"a": {"goal": 1}, "b": {"goal": 1}})
    for seed in range(5):
        split = split_by_group([near, far, *others], seed=seed, val_share=0.5)
        assert (near in split.val) == (far in split.val)


def test_named_groups_validate() -> None:
    examples = examples_of({"a": {"goal": 1}, "b": {"goal": 1}, "c": {"goal": 1}})
    split = split_by_group(examples, val_groups=["b"])
    assert {e.group for e in split.val} == {"b"}
    assert split_by_group(examples, val_share=0).val == ()


def test_bad_splits_are_refused() -> None:
    examples = examples_of({"match_A": {"goal": 2}, "match_B": {"goal": 2, "card": 1}})
    for options, message in [
        ({"val_groups": ["match_Q"]}, "--val-groups names 'match_Q'.*Did you mean 'match_[AB]'"),
        (
            {"exclude_groups": ["zzz"]},
            "--exclude-groups names 'zzz'.*The groups are match_A, match_B",
        ),
        ({"val_groups": "match_A"}, "list of group names"),
        ({"val_groups": ["match_B"]}, "no example of class 'card'.*match_B"),
        ({"val_groups": ["match_A", "match_B"]}, "nothing to train on"),
        ({"val_groups": ["match_A"], "exclude_groups": ["match_A"]}, "Choose one"),
        ({"exclude_groups": ["match_A"]}, "of one match .*or skip validation with --val-share 0"),
        ({"val_share": 1.0}, "--val-share is 1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            split_by_group(examples, **options)  # type: ignore[arg-type]


def test_two_classes_that_stand_in_one_match_each_cannot_be_validated() -> None:
    with pytest.raises(ValueError, match="no match can be used for validation"):
        split_by_group(examples_of({"a": {"goal": 2}, "b": {"card": 2}}))


def test_a_split_that_divides_a_group_or_a_file_is_refused() -> None:
    goal = example("goal", "a", path="x.mp4")
    with pytest.raises(ValueError, match="divides group 'a' between training and validation"):
        Split(train=(goal,), val=(example("goal", "a", path="y.mp4"),))
    with pytest.raises(ValueError, match=r"divides footage x\.mp4"):
        Split(train=(goal,), val=(example("goal", "b", path="x.mp4"),))
    with pytest.raises(ValueError, match="between training and excluded"):
        Split(train=(goal,), val=(), excluded=(example("goal", "a", path="z.mp4"),))


def test_groups_that_share_a_file_stay_together() -> None:
    examples = examples_of({f"m{i}": {"goal": 2} for i in range(6)})
    bound = [example("goal", f"half{i}", path="whole.mp4") for i in (1, 2)]
    for seed in range(6):
        val = {e.group for e in split_by_group([*examples, *bound], seed=seed, val_share=0.3).val}
        assert ("half1" in val) == ("half2" in val)


def test_labels_without_any_example_say_what_is_missing():
    with pytest.raises(ValueError, match=r"no example to train on.*'verified'.*Label events"):
        split_by_group([])
