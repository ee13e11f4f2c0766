"""Manifests are what Kubernetes, JobSet and Kubeflow Trainer take, to the last key; nothing is applied."""

import copy
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from torch.distributed.run import config_from_args, parse_args

from emojigan.launch.commands.serve import TOKEN
from emojigan.trainer.serving.server.api import document

from ..test_cluster_files import containers

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "launch" / "kubernetes"
VERSION = "1.37"
DEFINITIONS = {
    kind: yaml.safe_load(Path(__file__).with_name(f"{kind.lower()}.crd.yaml").read_text(encoding="utf-8"))
    for kind in ("JobSet", "TrainJob")
}
MANIFESTS = {
    f"{path.name}: {part['kind']}": part
    for path in sorted(FOLDER.glob("*.yaml"))
    for part in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}
TRAININGS = ("job.yaml: Job", "jobset.yaml: JobSet", "trainjob.yaml: TrainJob")
PODS = [name for name in MANIFESTS if not name.endswith("Service")]


def is_taken(part: dict[str, Any]) -> bool:
    """Whether it has no key that nobody knows, lacks none, and all values are what they may be."""
    try:
        if definition := DEFINITIONS.get(part["kind"]):
            jsonschema.validate(part, closed(definition))
            jobs = [each["template"] for each in part["spec"].get("replicatedJobs", [])]
            parts = [{"apiVersion": "batch/v1", "kind": "Job", **job} for job in jobs]
        else:
            parts = [part]
        for each in parts:
            kubernetes_validate.validate(each, VERSION, strict=True)
    except (kubernetes_validate.ValidationError, jsonschema.ValidationError):
        return False
    return True


def closed(schema: Any) -> Any:
    """The schema that refuses keys that it does not name, wherever it names some."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **schema} if "properties" in schema else schema


def only(name: str) -> dict[str, Any]:
    """The container of a manifest."""
    (found,) = containers(MANIFESTS[name])
    return found


def environment(name: str) -> dict[str, str]:
    return {each["name"]: each["value"] for each in only(name)["env"] if "value" in each}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_taken(name: str):
    assert is_taken(MANIFESTS[name])


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("fault", ["unknown key", "wrong type"])
def test_a_fault_anywhere_deep_in_a_manifest_is_seen(name: str, fault: str):
    """So the test above can fail."""
    part = copy.deepcopy(MANIFESTS[name])
    inner = next(containers(part), None) or part["spec"]["ports"][0]
    if fault == "unknown key":
        inner["imagge"] = "registry.example/emojigan"
    else:
        inner["args" if "args" in inner else "port"] = "one word"
    assert not is_taken(part)


@pytest.mark.parametrize("name", TRAININGS)
def test_the_promised_ranks_are_those_that_are_started(name: str):
    spec, container = MANIFESTS[name]["spec"], only(name)
    promised = int(container["args"][container["args"].index("--world-size") + 1])
    if name == "trainjob.yaml: TrainJob":
        nodes, resources = spec["trainer"]["numNodes"], container["resourcesPerNode"]
    else:
        job = spec["replicatedJobs"][0]["template"]["spec"] if "replicatedJobs" in spec else spec
        nodes, resources = job["completions"], container["resources"]
        assert job["parallelism"] == nodes == int(environment(name)["PET_NNODES"])
    assert promised == nodes * int(resources["limits"]["nvidia.com/gpu"])


def test_all_trainings_are_one_command():
    first, *others = ({key: only(name)[key] for key in ("image", "args")} for name in TRAININGS)
    assert others == [first] * 2


def test_the_first_pod_has_the_name_by_which_the_others_look_for_it():
    service, job, jobset = (
        MANIFESTS[name] for name in ("job.yaml: Service", "job.yaml: Job", "jobset.yaml: JobSet")
    )
    called = job["metadata"]["name"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": called}
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert environment("job.yaml: Job")["PET_MASTER_ADDR"] == f"{called}-0.{service['metadata']['name']}"
    assert service["spec"]["ports"][0]["port"] == int(environment("job.yaml: Job")["PET_MASTER_PORT"])
    called, node = jobset["metadata"]["name"], jobset["spec"]["replicatedJobs"][0]["name"]
    assert environment("jobset.yaml: JobSet")["PET_MASTER_ADDR"] == f"{called}-{node}-0-0.{called}"


@pytest.mark.parametrize("name", TRAININGS)
def test_nodes_wait_a_day_for_each_other(name: str, monkeypatch: pytest.MonkeyPatch):
    """A node that is slow to come uses up no try."""
    for variable, value in environment(name).items():
        monkeypatch.setenv(variable, value)
    config, _, _ = config_from_args(parse_args(["--nproc-per-node", "1", "emojigan"]))
    assert int(config.rdzv_configs["timeout"]) == 86400


@pytest.mark.parametrize("name", [*TRAININGS, "build.yaml: Job"])
def test_the_keys_of_a_store_come_from_the_secret_that_its_head_says_how_to_make(name: str):
    container, text = only(name), (FOLDER / name.partition(":")[0]).read_text(encoding="utf-8")
    (secret,) = re.findall("^# kubectl create secret generic (\\S+) --from-env-file=store.env", text, re.M)
    if "envFrom" in container:
        secrets = [each["secretRef"] for each in container["envFrom"]]
    else:
        found = [each for each in container["env"] if "valueFrom" in each]
        secrets = [each["valueFrom"]["secretKeyRef"] for each in found]
        assert [each["name"] for each in found] == [each["key"] for each in secrets]
        assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} < {each["name"] for each in found}
    assert secrets and all(each["name"] == secret and each["optional"] for each in secrets)


def test_a_build_has_as_many_tasks_as_pods():
    args, spec = only("build.yaml: Job")["args"], MANIFESTS["build.yaml: Job"]["spec"]
    assert int(args[args.index("--task-count") + 1]) == spec["completions"] == spec["parallelism"]


@pytest.mark.parametrize("name", PODS)
def test_no_pod_is_roots(name: str):
    assert "'runAsNonRoot': True" in str(MANIFESTS[name])
    if name != "trainjob.yaml: TrainJob":  # whose containers are of the runtime
        security = only(name)["securityContext"]
        assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}


def test_the_server_is_asked_where_it_answers_and_told_its_token():
    container = only("serve.yaml: Deployment")
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert {probe["path"] for probe in probes} == {"/health", "/ready"} <= document()["paths"].keys()
    (port,), args = container["ports"], container["args"]
    assert {probe["port"] for probe in probes} == {port["name"]}
    assert str(port["containerPort"]) == args[args.index("--port") + 1]
    (token,) = (each for each in container["env"] if "valueFrom" in each)
    assert token["name"] == TOKEN and token["valueFrom"]["secretKeyRef"]["key"] == "token"


# The image.


DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
LINES = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and line[0] != "#"]


def test_what_the_image_copies_is_built_into_a_wheel_with_all_files(tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    for words in (rest.split() for word, rest in LINES if word == "COPY" and "--from" not in rest):
        *paths, to = words
        for path in map(ROOT.joinpath, paths):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, source / to)
    (line,) = (rest for word, rest in LINES if word == "RUN" and "pip install" in rest)
    *_, option, constraints, what = shlex.split(line)
    assert option == "-c" and (source / constraints).is_file()
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*words, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = {*file.namelist()}
        (about,) = (file.read(name).decode() for name in names if name.endswith("/METADATA"))
    assert {
        "emojigan/launch/cli.py",
        "emojigan/launch/slurm/train.sbatch",
        "emojigan/asking/py.typed",
    } <= names
    extras = {*what.removeprefix(".[").removesuffix("]").split(",")}
    assert extras and extras <= {*re.findall("^Provides-Extra: (.*)$", about, re.M)}


def test_the_first_process_of_the_image_is_one_that_passes_signals_on():
    """torchrun as the first would not hear SIGTERM before all nodes are there."""
    (entry,) = (json.loads(rest) for word, rest in LINES if word == "ENTRYPOINT")
    (installed,) = (rest for word, rest in LINES if word == "RUN" and "apt-get install" in rest)
    assert entry == ["tini", "--"] and "tini" in installed.split()
    assert "'command':" not in str(MANIFESTS)  # it would come in the place of the entry


def test_the_image_is_of_a_named_version_and_not_roots():
    stages = [rest.split()[0] for word, rest in LINES if word == "FROM"]
    assert len(stages) == 2 and len({*stages}) == 1 and stages[0].startswith("python:3.11.")
    (user,) = (rest for word, rest in LINES if word == "USER")
    assert user.isdecimal() and user != "0" and f"--uid {user} " in DOCKERFILE
