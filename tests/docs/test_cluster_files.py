"""The scripts and manifests for clusters, each held against its own checker."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from touchline.tools.cli import app

ROOT = Path(__file__).parents[2]
FILES = ROOT / "docs" / "cluster"
SCHEMA = ROOT / "tests" / "support" / "rayjob.schema.json"

# Kubernetes releases the pod templates must fit: an old one that is still run, and a new one.
KUBERNETES = ("1.28", "1.34")

SCRIPTS = sorted(FILES.glob("*.sh"))


def checker(name: str) -> Path:
    """A checker that pip installs beside Python."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip(f"{name} is not installed")
    return path


def command(name: str, *arguments: object) -> None:
    done = subprocess.run(
        [name, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def manifest() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    [job] = yaml.safe_load_all((FILES / "rayjob.yaml").read_text(encoding="utf-8"))
    return dict(job)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_slurm_scripts_pass_bash_and_shellcheck(script: Path) -> None:
    command("bash", "-n", script)
    command(str(checker("shellcheck")), script)


def test_the_dockerfile_passes_hadolint() -> None:
    command(str(checker("hadolint")), "--failure-threshold=info", FILES / "Dockerfile")


def test_the_dockerfile_copies_what_there_is() -> None:
    text = (FILES / "Dockerfile").read_text(encoding="utf-8")
    names = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for name in line.split()]
    assert {"pyproject.toml", "models", "pipeline", "tools"} <= set(names)
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_rayjob_has_only_documented_fields(manifest: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(manifest, schema)
    manifest["spec"]["rayClusterSpec"]["workerGroupSpec"] = []
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(manifest, schema)


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_pods_of_the_rayjob_are_valid(manifest: dict[str, Any], version: str) -> None:
    kubernetes = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    cluster = manifest["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod"},
            "spec": group["template"]["spec"],
        }
        kubernetes.validate(pod, version, strict=True)
    pod["spec"]["containers"][0]["image_name"] = "x"
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(pod, version, strict=True)


def test_manifest_and_dockerfile_agree(manifest: dict[str, Any]) -> None:
    dockerfile = (FILES / "Dockerfile").read_text(encoding="utf-8")
    cluster = manifest["spec"]["rayClusterSpec"]
    assert f"ARG RAY_VERSION={cluster['rayVersion']}\n" in dockerfile
    head = cluster["headGroupSpec"]["template"]["spec"]
    images = {
        container["image"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    }
    assert len(images) == 1
    # The model of the command lies where the head mounts it.
    mounts = [mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]]
    assert re.search(r"--model (\S+)/", manifest["spec"]["entrypoint"])[1] in mounts  # type: ignore[index]


def test_the_commands_of_all_files_know_their_options(manifest: dict[str, Any]) -> None:
    lines = [manifest["spec"]["entrypoint"]]
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8").replace("\\\n", " ")
        lines += re.findall(r"^\s*(touchline .+)$", text, re.M)
    assert len(lines) == 3
    from typer.main import get_command

    detect = get_command(app).commands["detect"]  # type: ignore[attr-defined]
    known = {name for parameter in detect.params for name in parameter.opts}
    for line in lines:
        program, name, *rest = shlex.split(line)
        assert (program, name) == ("touchline", "detect")
        assert {word for word in rest if word.startswith("-") and word != "-"} <= known


def stand_in(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def run(script: str, folder: Path, **variables: str) -> None:
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", FILES / script, folder / "season.txt", "model.safetensors", "out"],
        env={**os.environ, "PATH": path, **variables}, cwd=folder, timeout=60, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_tasks_of_the_array_share_the_list(tmp_path: Path) -> None:
    matches = [f"s3://footage/m{k}.mp4" for k in range(19)]
    (tmp_path / "season.txt").write_text("\n".join(matches) + "\n")
    stand_in(tmp_path, "touchline", 'echo "$@" >> told; cat >> "listed.$SLURM_ARRAY_TASK_ID"')
    for k in range(8):
        run("slurm_array.sh", tmp_path, SLURM_ARRAY_TASK_COUNT="8", SLURM_ARRAY_TASK_ID=str(k))
    listed = [(tmp_path / f"listed.{k}").read_text().splitlines() for k in range(8)]
    assert sorted(match for part in listed for match in part) == sorted(matches)
    assert max(map(len, listed)) - min(map(len, listed)) <= 1
    told = (tmp_path / "told").read_text().splitlines()
    assert told[3] == "detect - --model model.safetensors -o out/3 --device cuda"


def test_the_ray_script_starts_every_node_once_and_waits_for_all_gpus(tmp_path: Path) -> None:
    (tmp_path / "season.txt").write_text("match.mp4\n")
    stand_in(tmp_path, "scontrol", "printf 'n1\\nn2\\nn3\\n'")
    stand_in(tmp_path, "hostname", "echo 10.0.0.1 fe80::1")
    stand_in(
        tmp_path, "srun",
        'while [[ $1 == --* ]]; do [[ $1 == --nodelist=* ]] && node=${1#*=}; shift; done\n'
        '[[ $1 == hostname ]] && exec "$@"\necho "$node $*" >> started',
    )  # fmt: skip
    # It begins when all three nodes have started.
    stand_in(
        tmp_path, "python3",
        'echo "$@" >> waited\nfor _ in {1..100}; do\n'
        "[[ $(wc -l < started) == 3 ]] && exit; sleep 0.1\ndone\nexit 1",
    )  # fmt: skip
    stand_in(tmp_path, "touchline", 'echo "$@" >> told')
    run(
        "slurm_ray.sh", tmp_path,
        SLURM_JOB_NODELIST="n[1-3]", SLURM_GPUS_ON_NODE="8", SLURM_CPUS_PER_TASK="128",
    )  # fmt: skip
    start = "ray start --block --num-gpus=8 --num-cpus=128"
    assert sorted((tmp_path / "started").read_text().splitlines()) == [
        f"n1 {start} --head --node-ip-address=10.0.0.1 --port=6379",
        f"n2 {start} --address=10.0.0.1:6379",
        f"n3 {start} --address=10.0.0.1:6379",
    ]
    assert (tmp_path / "waited").read_text() == "- 10.0.0.1:6379 24\n"
    assert (tmp_path / "told").read_text() == (
        f"detect @{tmp_path}/season.txt --model model.safetensors -o out --on ray "
        "--ray-address 10.0.0.1:6379\n"
    )
