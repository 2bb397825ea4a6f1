"""What the documentation says of many nodes can be done: settings, commands, files and names exist.

Containers are not started here. What is checked is that the files name what there is, agree with
one another, and give settings that a node starts with.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from portside.auth.access_files import parse_access_file
from portside.cli import health
from portside.cli.commands import commands
from portside.config import Settings, list_settings, make_settings
from support.kubernetes import API_VERSIONS, CONFINED, PATHS, find, port_of, settings_of
from support.spoken import check_command, spoken_commands

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "scale-out.md"
CONSISTENCY = ROOT / "docs" / "topics" / "consistency.md"
FOLDER = PAGE.with_suffix("")
IMAGE = ROOT / "deploy" / "Containerfile"
CONTAINERS = ROOT / "docs" / "howto" / "containers.md"

VARIABLES = {setting.variable for setting in list_settings()}
OPTIONS = {option for command in commands.commands.values() for option in command.params}


def read(name: str) -> str:
    """Read one of the files beside the page."""
    return (FOLDER / name).read_text("utf-8")


def fences(text: str, language: str) -> list[str]:
    """Return the blocks of a page that are in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


class TestWords:
    """Settings, commands and tests that are named exist."""

    @pytest.mark.parametrize(
        "path",
        [*(FOLDER / name for name in ("env.example", "compose.yaml", "kubernetes.yaml")), IMAGE],
        ids=lambda path: path.name,
    )
    def test_variables(self, path: Path) -> None:
        """Every variable of Portside in the files is one of a setting."""
        assert set(re.findall(r"PORTSIDE_[A-Z_]*[A-Z]", path.read_text("utf-8"))) <= VARIABLES

    @pytest.mark.parametrize("page", [PAGE, CONSISTENCY], ids=lambda page: page.stem)
    def test_options(self, page: Path) -> None:
        """Every option that a page names by itself is one of Portside's."""
        known = {name for option in OPTIONS for name in (*option.opts, *option.secondary_opts)}
        named = set(re.findall(r"`(--[a-z][a-z-]*)[^`]*`", page.read_text("utf-8")))
        assert named
        assert named <= known

    @pytest.mark.parametrize("name", [PAGE.name, "compose.yaml", "kubernetes.yaml"])
    def test_commands(self, name: str) -> None:
        """Every command that is named exists, and has the options that are given to it."""
        text = PAGE.read_text("utf-8") if name == PAGE.name else read(name)
        named = list(spoken_commands(text))
        assert named
        for words in named:
            check_command(words)


class TestBlocks:
    """What the page prints in other languages."""

    def test_toml(self) -> None:
        """A node starts with the file as it is printed."""
        (block,) = fences(PAGE.read_text("utf-8"), "toml")
        known = {setting.option: setting.name for setting in list_settings()}
        given = {known[key]: value for key, value in tomllib.loads(block).items()}
        assert {"database", "storage"} <= set(given)
        settings = make_settings(given)
        assert settings.requires_credentials

    def test_json(self) -> None:
        """Policies and rules are about the bucket that the nodes are told to use."""
        page = PAGE.read_text("utf-8")
        policy, lifecycle = [json.loads(block) for block in fences(page, "json")]
        (storage,) = re.findall(r'^storage = "s3://(.+)"$', page, re.MULTILINE)
        bucket, _, prefix = storage.partition("/")
        resources = [statement["Resource"] for statement in policy["Statement"]]
        assert resources == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{storage}/*"]
        (rule,) = lifecycle["Rules"]
        assert rule["Filter"] == {"Prefix": f"{prefix}/"}
        assert set(rule) == {"ID", "Status", "Filter", "AbortIncompleteMultipartUpload"}


class TestContainerfile:
    """The image."""

    def test_copies_what_there_is(self) -> None:
        """Its context is the checkout."""
        text = IMAGE.read_text("utf-8")
        (copied,) = re.findall(r"^COPY (pyproject.*) \./$", text, re.MULTILINE)
        assert all((ROOT / name).is_file() for name in copied.split())
        sent = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        assert {f"!{name}" for name in (*copied.split(), "src")} == {
            line for line in sent if line.startswith("!")
        }

    def test_commands(self) -> None:
        """The commands of the page about containers have the options that they are given."""
        text = CONTAINERS.read_text("utf-8").replace("\\\n", "")
        named = re.findall(r"(?:docker|podman) run .*?portside:local ?(.*)$", text, re.MULTILINE)
        assert len(named) == 3
        for words in named:
            check_command((words or "serve").split())

    def test_health(self) -> None:
        """It is asked by a command that there is, for a while that the command keeps."""
        text = IMAGE.read_text("utf-8")
        ((timeout, command),) = re.findall(
            r"^HEALTHCHECK .*--timeout=(\d+)s .*CMD (.+)$", text, re.MULTILINE
        )
        entry, *words = json.loads(command)
        assert entry == "portside"
        check_command(words)
        assert int(timeout) > health.TIMEOUT

    def test_serves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It starts a command that there is, on the port that it exposes, not as root."""
        text = IMAGE.read_text("utf-8")
        environment = dict(re.findall(r"(PORTSIDE_\w+)=(\S+)", text))
        settings = settings_of(environment, monkeypatch)
        assert re.findall(r"^EXPOSE (\d+)$", text, re.MULTILINE) == [str(port_of(settings))]
        assert re.findall(r"^USER (\d+):\d+$", text, re.MULTILINE) == ["10001"]
        (entry,), (command,) = (
            json.loads(re.findall(rf"^{word} (.+)$", text, re.MULTILINE)[0])
            for word in ("ENTRYPOINT", "CMD")
        )
        assert entry == "portside"
        check_command([command])


class TestCompose:
    """Everything on one machine."""

    @pytest.fixture
    def services(self) -> dict[str, Any]:
        """Read the services, with the example's values for variables."""
        given = dict(re.findall(r"^(\w+)=(.*)$", read("env.example"), re.MULTILINE))
        text = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: given[found[1]], read("compose.yaml"))
        document = yaml.safe_load(text)
        assert set(document) == {"name", "x-node", "services", "networks", "volumes"}
        services: dict[str, Any] = document["services"]
        return services

    @pytest.fixture
    def nodes(self, services: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the services that are nodes."""
        return [service for name, service in services.items() if name.startswith("node")]

    def test_settings(self, nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
        """All nodes have the same, and start with them."""
        assert len(nodes) == 3
        assert all(node["environment"] == nodes[0]["environment"] for node in nodes)
        settings = settings_of(nodes[0]["environment"], monkeypatch)
        assert settings.requires_credentials
        assert float(nodes[0]["stop_grace_period"].removesuffix("s")) > settings.shutdown_timeout

    def test_addresses(
        self, services: dict[str, Any], nodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The balancer's configuration is used as it is: it finds the nodes, and they trust it."""
        settings = settings_of(nodes[0]["environment"], monkeypatch)
        servers = re.findall(r"^\s*server ([0-9.]+:\d+)", read("nginx.conf"), re.MULTILINE)
        at = [node["networks"]["default"]["ipv4_address"] for node in nodes]
        assert servers == [f"{address}:{port_of(settings)}" for address in at]
        balancer = services["nginx"]["networks"]["default"]["ipv4_address"]
        assert settings.trusted_proxies == (balancer,)
        inside = {volume.split(":")[1] for volume in services["nginx"]["volumes"]}
        certificates = re.findall(r"ssl_certificate(?:_key)? +(\S+);", read("nginx.conf"))
        assert inside == {"/etc/nginx/nginx.conf", *certificates}

    def test_health(self, nodes: list[dict[str, Any]]) -> None:
        """Nodes are asked whether they are ready, for longer than they may take to answer."""
        for node in nodes:
            kind, program, *words = node["healthcheck"]["test"]
            assert (kind, program) == ("CMD", "portside")
            check_command(words)
            assert "--ready" in words
            assert float(node["healthcheck"]["timeout"].removesuffix("s")) > health.TIMEOUT

    def test_files_and_services(self, services: dict[str, Any]) -> None:
        """What is mounted, built from, run or waited for is there."""
        mounted = re.findall(r"^\s*- (\./[a-z.]+):", read("compose.yaml"), re.MULTILINE)
        assert set(mounted) == {"./access.toml", "./nginx.conf"}
        assert all((FOLDER / name).is_file() for name in mounted)
        build = services["migrate"]["build"]
        assert (FOLDER / build["context"]).resolve() == ROOT
        assert set(build) == {"context", "dockerfile"}
        assert ROOT / build["dockerfile"] == IMAGE
        check_command(services["migrate"]["command"])
        for service in services.values():
            assert set(service.get("depends_on", ())) <= set(services)


class TestKubernetes:
    """The nodes in a cluster."""

    @pytest.fixture
    def objects(self) -> list[dict[str, Any]]:
        """Read every object."""
        return list(yaml.safe_load_all(read("kubernetes.yaml")))

    @pytest.fixture
    def pod(self, objects: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what a pod is made of."""
        spec: dict[str, Any] = find(objects, "Deployment")["spec"]["template"]["spec"]
        return spec

    @pytest.fixture
    def settings(
        self, objects: list[dict[str, Any]], pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> Settings:
        """Read the settings that a node starts with."""
        (container,) = pod["containers"]
        data: dict[str, str] = {}
        for source in container["envFrom"]:
            ((kind, reference),) = source.items()
            kinds = {"configMapRef": "ConfigMap", "secretRef": "Secret"}
            item = find(objects, kinds[kind], reference["name"])
            data |= item.get("data") or item["stringData"]
        return settings_of(data, monkeypatch)

    def test_kinds(self, objects: list[dict[str, Any]]) -> None:
        """Each object has the version of its kind, and a name."""
        assert {item["kind"] for item in objects} == set(API_VERSIONS) - {
            "PersistentVolumeClaim",
            "PodMonitor",
        }
        for item in objects:
            assert item["apiVersion"] == API_VERSIONS[item["kind"]]
            assert re.fullmatch(r"[a-z][a-z-]*", item["metadata"]["name"])

    def test_selectors(self, objects: list[dict[str, Any]]) -> None:
        """All that selects pods selects these, and some of them may always go."""
        deployment = find(objects, "Deployment")["spec"]
        labels = deployment["template"]["metadata"]["labels"]
        budget = find(objects, "PodDisruptionBudget")["spec"]
        assert deployment["selector"]["matchLabels"] == labels
        assert budget["selector"]["matchLabels"] == labels
        assert find(objects, "Service")["spec"]["selector"] == labels
        assert 0 < budget["minAvailable"] < deployment["replicas"]

    def test_commands(self, pod: dict[str, Any]) -> None:
        """The schema is made before the node serves, from the same image and settings."""
        (migrate,), (serve,) = pod["initContainers"], pod["containers"]
        assert (migrate["args"], serve["args"]) == (["migrate"], ["serve"])
        assert migrate["image"] == serve["image"]
        assert migrate["envFrom"] == serve["envFrom"]

    def test_ports_and_probes(
        self, objects: list[dict[str, Any]], pod: dict[str, Any], settings: Settings
    ) -> None:
        """Everything leads to the port where a node listens, and asks for paths that there are."""
        (container,) = pod["containers"]
        port, metrics = container["ports"]
        assert port["containerPort"] == port_of(settings)
        assert settings.metrics_address == ("0.0.0.0", metrics["containerPort"])
        annotations = find(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == str(metrics["containerPort"])
        (service,) = find(objects, "Service")["spec"]["ports"]
        assert service["targetPort"] == port["name"]
        (rule,) = find(objects, "Ingress")["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        assert path["pathType"] == "Prefix"
        assert path["backend"]["service"]["port"]["name"] == service["name"]
        asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness")}
        assert {name: get["path"] for name, get in asked.items()} == {
            "liveness": "/healthz",
            "readiness": "/readyz",
        }
        assert {get["path"] for get in asked.values()} <= PATHS
        assert {get["port"] for get in asked.values()} == {port["name"]}

    def test_end(self, pod: dict[str, Any], settings: Settings) -> None:
        """A pod gets the time for which requests in flight may take, and what goes before."""
        (container,) = pod["containers"]
        _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
        assert pod["terminationGracePeriodSeconds"] > int(pause) + settings.shutdown_timeout

    def test_confined(self, pod: dict[str, Any]) -> None:
        """No root, no rights, nothing to write to, and no variables that look like settings."""
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        assert f"USER {pod['securityContext']['runAsUser']}:" in IMAGE.read_text("utf-8")
        for container in (*pod["initContainers"], *pod["containers"]):
            assert container["securityContext"] == CONFINED

    def test_access(
        self, objects: list[dict[str, Any]], pod: dict[str, Any], settings: Settings
    ) -> None:
        """The registry is closed from the start, by the file beside this page."""
        assert settings.requires_credentials
        (mount,) = pod["containers"][0]["volumeMounts"]
        (volume,) = pod["volumes"]
        assert volume["name"] == mount["name"]
        (name,) = (files := find(objects, "ConfigMap", volume["configMap"]["name"])["data"])
        assert settings.access == f"{mount['mountPath']}/{name}"
        assert rules_in(files[name]) == rules_in(read("access.toml"))
        assert len(rules_in(files[name])) == 1


def rules_in(text: str) -> list[str]:
    """Write the rules of an access file as sentences."""
    return [str(rule) for rule in parse_access_file(text, name="access.toml").rules]
