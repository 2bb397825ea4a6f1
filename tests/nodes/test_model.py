"""Random sequences of calls to three nodes in turn, compared with the model of one registry."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from api.test_model import RegistryModel
from support.wire import ANYBODY


@pytest.mark.long
def test_the_nodes_behave_like_the_model(client: httpx.Client) -> None:
    """No sequence of calls tells three nodes from one registry."""
    client.headers.update(ANYBODY)
    run_state_machine_as_test(
        type("Modelled", (RegistryModel,), {"client": client}),
        settings=settings(
            max_examples=10,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
