"""Objects of Kubernetes, and the settings that they start a node with."""

from __future__ import annotations

from typing import Any

import pytest

from portside.cli.commands import commands
from portside.cli.registry import read_settings
from portside.config import HostPort, Settings, list_settings
from portside.spec.endpoints import ENDPOINTS

PATHS = {endpoint.path for endpoint in ENDPOINTS}

CONFINED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""What every container is confined to."""

API_VERSIONS = {
    "ServiceAccount": "v1",
    "Secret": "v1",
    "ConfigMap": "v1",
    "Service": "v1",
    "PersistentVolumeClaim": "v1",
    "Deployment": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "Ingress": "networking.k8s.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
}


def settings_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Read settings from variables as `portside serve` does."""
    for setting in list_settings():
        monkeypatch.delenv(setting.variable, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return read_settings(commands.commands["serve"].make_context("serve", []).params)


def port_of(settings: Settings) -> int:
    """Return the TCP port that a node listens on."""
    assert isinstance(settings.address, HostPort)
    return settings.address.port


def find(objects: list[dict[str, Any]], kind: str, name: str = "portside") -> dict[str, Any]:
    """Return the one object of a kind and name."""
    (found,) = [
        item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)
    ]
    return found
