"""`deploy/helm`: helm accepts the chart, and what it renders starts the registry that is meant."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from portside.auth.access_files import parse_access_file
from portside.config import Settings
from portside.config.rules import parse_rules_file
from support.go_clients import built
from support.kubernetes import API_VERSIONS, CONFINED, PATHS, find, port_of, settings_of
from support.pages import ROOT, read_fences

CHART = ROOT / "deploy" / "helm"
IMAGE = ROOT / "deploy" / "Containerfile"
PAGE = ROOT / "docs" / "howto" / "kubernetes.md"

ONE, SEVERAL, FILES, METRICS = (
    yaml.safe_load(text) for language, text in read_fences(PAGE) if language == "yaml"
)
"""The values that the page prints: for one pod, for several, for files, and for metrics."""

Objects = list[dict[str, Any]]


def helm(folder: Path, command: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a command of helm on the chart."""
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    words = {
        "lint": ["lint", "--strict", str(CHART)],
        # One that is built with Go alone takes the oldest version of Kubernetes for its own.
        "template": ["template", "portside", str(CHART), "--kube-version", "1.30"],
    }[command]
    return subprocess.run(
        [built("helm"), *words, "--values", str(folder / "values.yaml")],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(folder)},
    )


def render(folder: Path, values: dict[str, Any]) -> Objects:
    """Return the objects that the chart makes of values."""
    done = helm(folder, "template", values)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def refuse(folder: Path, values: dict[str, Any]) -> str:
    """Return why the chart refuses values."""
    done = helm(folder, "template", values)
    assert done.returncode != 0
    return done.stderr


def pod_of(objects: Objects) -> dict[str, Any]:
    """Return what a pod is made of."""
    spec: dict[str, Any] = find(objects, "Deployment")["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that reads the settings with which a pod starts.

    The password of the first user is in a file, which is the one that is mounted.
    """
    password = tmp_path / "password"
    password.write_text("correct horse battery\n")

    def read(objects: Objects) -> Settings:
        data = dict(find(objects, "ConfigMap")["data"])
        named = data.get("PORTSIDE_ADMIN_PASSWORD_FILE")
        if named is not None:
            (mount,) = (
                mount
                for mount in pod_of(objects)["containers"][0]["volumeMounts"]
                if mount["name"] == "admin"
            )
            assert named == f"{mount['mountPath']}/password"
            data["PORTSIDE_ADMIN_PASSWORD_FILE"] = str(password)
        return settings_of(data, monkeypatch)

    return read


@pytest.mark.parametrize(
    "values",
    [{}, ONE, SEVERAL, FILES, METRICS],
    ids=["none", "one", "several", "files", "metrics"],
)
class TestEveryKind:
    """The defaults, and what the page prints."""

    def test_accepted(self, tmp_path: Path, values: dict[str, Any]) -> None:
        """Helm finds nothing to say; the version of an object is that of its kind."""
        done = helm(tmp_path, "lint", values)
        assert done.returncode == 0, done.stdout
        for item in render(tmp_path, values):
            assert item["apiVersion"] == API_VERSIONS[item["kind"]]

    def test_starts(self, tmp_path: Path, values: dict[str, Any], start: Any) -> None:
        """A pod starts with the settings, asks for a password, and listens where it is asked."""
        objects = render(tmp_path, values)
        settings = start(objects)
        assert settings.admin_password
        for name, value in values.get("settings", {}).items():
            found = getattr(settings, name.replace("-", "_"))
            assert found == (tuple(value) if isinstance(value, list) else value)
        (container,) = pod_of(objects)["containers"]
        assert container["args"] == ["serve"]
        port, *metrics = container["ports"]
        assert bool(metrics) is (settings.metrics_address is not None)
        assert port["containerPort"] == port_of(settings)
        (service,) = find(objects, "Service")["spec"]["ports"]
        assert service["targetPort"] == port["name"]
        probes = [
            container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")
        ]
        assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
        assert {probe["path"] for probe in probes} <= PATHS
        assert {probe["port"] for probe in probes} == {port["name"]}
        _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
        end = pod_of(objects)["terminationGracePeriodSeconds"]
        assert end > int(pause) + settings.shutdown_timeout

    def test_confined(self, tmp_path: Path, values: dict[str, Any]) -> None:
        """Pods run as the image's user, with no rights, and mount what they name."""
        pod = pod_of(render(tmp_path, values))
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        user = pod["securityContext"]["runAsUser"]
        assert f"USER {user}:{user}\n" in IMAGE.read_text("utf-8")
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert container["securityContext"] == CONFINED
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes

    def test_selected(self, tmp_path: Path, values: dict[str, Any]) -> None:
        """All that selects pods selects these."""
        objects = render(tmp_path, values)
        deployment = find(objects, "Deployment")["spec"]
        selector = deployment["selector"]["matchLabels"]
        assert selector.items() <= deployment["template"]["metadata"]["labels"].items()
        assert find(objects, "Service")["spec"]["selector"] == selector


def kinds(objects: Objects) -> set[str]:
    """Return the kinds of objects."""
    return {item["kind"] for item in objects}


class TestOne:
    """One pod, with a volume."""

    def test_volume(self, tmp_path: Path) -> None:
        """The data is in the volume, which stays, and which two pods never share."""
        objects = render(tmp_path, ONE)
        assert "PodDisruptionBudget" not in kinds(objects)
        claim = find(objects, "PersistentVolumeClaim")
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert claim["spec"]["resources"]["requests"]["storage"] == "200Gi"
        assert find(objects, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
        pod = pod_of(objects)
        (data,) = (volume for volume in pod["volumes"] if volume["name"] == "data")
        assert data["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "data")
        assert f"PORTSIDE_DATA={mount['mountPath']}\n" in IMAGE.read_text("utf-8")
        assert "initContainers" not in pod

    def test_ingress(self, tmp_path: Path, start: Any) -> None:
        """It leads to the pod, under the name to which clients are sent."""
        objects = render(tmp_path, ONE)
        (rule,) = find(objects, "Ingress")["spec"]["rules"]
        assert start(objects).public_url == f"https://{rule['host']}"
        (path,) = rule["http"]["paths"]
        (port,) = find(objects, "Service")["spec"]["ports"]
        backend = {"name": "portside", "port": {"name": port["name"]}}
        assert path["backend"]["service"] == backend


class TestSeveral:
    """Several pods, over a database and a bucket."""

    def test_no_volume(self, tmp_path: Path) -> None:
        """Nothing is kept in pods; one may always go, and the schema is made before they serve."""
        objects = render(tmp_path, SEVERAL)
        assert "PersistentVolumeClaim" not in kinds(objects)
        deployment = find(objects, "Deployment")["spec"]
        assert deployment["replicas"] == SEVERAL["replicas"]
        assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert find(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
        (migrate,), (serve,) = pod_of(objects)["initContainers"], pod_of(objects)["containers"]
        assert migrate["args"] == ["migrate"]
        assert migrate["image"] == serve["image"]
        assert migrate["envFrom"] == serve["envFrom"]
        assert {"secretRef": {"name": SEVERAL["secret"]}} in serve["envFrom"]


def test_files(tmp_path: Path) -> None:
    """Files are where their settings say, and are ones that Portside reads; secrets likewise."""
    objects = render(tmp_path, FILES)
    files = find(objects, "ConfigMap", "portside-files")["data"]
    mounts = pod_of(objects)["containers"][0]["volumeMounts"]
    paths = {mount["name"]: mount["mountPath"] for mount in mounts}
    for setting, path in FILES["settings"].items():
        assert path == f"{paths['files']}/{setting}.toml"
    assert parse_access_file(files["access.toml"], name="access.toml").rules
    (webhook,) = parse_rules_file(files["rules.toml"], name=FILES["settings"]["rules"]).webhooks
    assert webhook.secret.file == f"{paths['secrets']}/deploy"


def test_metrics(tmp_path: Path, start: Any) -> None:
    """The pods listen where they are scraped, under the job that the alerts expect."""
    objects = render(tmp_path, METRICS)
    pod = pod_of(objects)
    (port,) = (one for one in pod["containers"][0]["ports"] if one["name"] == "metrics")
    assert start(objects).metrics_address == ("0.0.0.0", port["containerPort"])
    template = find(objects, "Deployment")["spec"]["template"]["metadata"]
    assert template["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    monitor = find(objects, "PodMonitor")["spec"]
    assert template["labels"][monitor["jobLabel"]] == "portside"
    assert monitor["selector"]["matchLabels"].items() <= template["labels"].items()
    assert monitor["podMetricsEndpoints"][0]["port"] == port["name"]
    assert len(find(objects, "Service")["spec"]["ports"]) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"max-blob-bytes": 10737418240}, 10737418240),
        ({"max-blob-bytes": 10**15}, 10**15),
        ({"body-timeout": 7.5}, 7.5),
        ({"delete": False}, False),
        ({"access-log": True}, True),
        ({"anonymous": ["public/*:pull", "team/*:pull"]}, ("public/*:pull", "team/*:pull")),
    ],
)
def test_values(tmp_path: Path, start: Any, given: dict[str, Any], expected: Any) -> None:
    """Numbers, switches and lists arrive as they are written."""
    (name,) = given
    found = getattr(start(render(tmp_path, {"settings": given})), name.replace("-", "_"))
    assert found == expected
    assert type(found) is type(expected) or isinstance(expected, tuple)


def test_no_first_user(tmp_path: Path, start: Any) -> None:
    """Without a Secret for the first user, nothing waits for one."""
    objects = render(tmp_path, {"admin": {"secret": ""}, "settings": {"open": True}})
    assert not start(objects).admin_password
    assert "admin" not in {volume["name"] for volume in pod_of(objects)["volumes"]}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"replicas": 2}, "replicas: more than one pod needs"),
        ({"persistence": {"enabled": False}}, "persistence.enabled: without a volume"),
        ({"settings": {"data": "/elsewhere"}}, "settings: the chart sets data itself"),
        ({"settings": {"metrics-listen": "127.0.0.1:1"}}, "set metrics.enabled and metrics.port"),
        ({"metrics": {"podMonitor": {"enabled": True}}}, "metrics.enabled is needed as well"),
    ],
)
def test_refused(tmp_path: Path, values: dict[str, Any], reason: str) -> None:
    """Values with which no pod could start, or which would lose data, are refused."""
    assert reason in refuse(tmp_path, values)


def test_version() -> None:
    """The chart is about this version of Portside."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    text = (ROOT / "src" / "portside" / "__init__.py").read_text("utf-8")
    assert re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE) == [chart["appVersion"]]
