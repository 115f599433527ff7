"""The examples for clusters are what their programs can read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import yaml

from fanbench.cli.commands.serve import serve

CLUSTER = Path(__file__).parent.parent / "examples/cluster"


def test_the_job_script_is_a_script() -> None:
    """Bash can parse it, and its options of `fanbench serve` exist."""
    script = CLUSTER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    (line,) = [line for line in script.read_text().splitlines() if line.startswith("fanbench serve")]
    assert {*re.findall(r"--[\w-]+", line)} <= _options(serve)


def test_the_manifest_is_consistent() -> None:
    """What the containers mount, read and run is defined, and the options of `fanbench serve` exist."""
    secret, claim, service, cluster = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    pod = cluster["spec"]["headGroupSpec"]["template"]["spec"]
    server = {each["name"]: each for each in pod["containers"]}["fanbench"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= {*volumes}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    for variable in server["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        assert reference is None or reference["key"] in secret["stringData"]
    assert {port["port"] for port in service["spec"]["ports"]} == {
        port["containerPort"] for port in server["ports"]
    }
    words = [*server["command"], *server["args"]]
    assert words[:2] == ["fanbench", "serve"]
    assert {word for word in words if word.startswith("--")} <= _options(serve)


def _options(command: click.Command) -> set[str]:
    return {option for param in command.params for option in param.opts}


def test_the_image_has_the_extras() -> None:
    """The image is installed with the extras that the manifest needs."""
    (extras,) = re.findall(r"fanbench\[([\w,]+)\]", (CLUSTER / "Dockerfile").read_text())
    assert {*extras.split(",")} == {"local", "ray", "postgres", "files"}
