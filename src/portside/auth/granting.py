"""Granting: what of the scopes that a client asks for goes into its token."""

from __future__ import annotations

from collections.abc import Iterable

from portside.auth.callers import Caller
from portside.auth.grants import EVERY_REPOSITORY, NOTHING, Grants
from portside.auth.identities import Identity
from portside.auth.policy import Policy
from portside.spec.actions import Actions
from portside.spec.errors import NameInvalid
from portside.spec.names import RepositoryName
from portside.spec.scopes import REGISTRY, Scope


def grant(policy: Policy, caller: Caller, asked: Iterable[Scope]) -> Grants:
    """Give what is asked for, allowed, and covered by the credentials; less is no error."""
    identity, limit = caller.identity, caller.grants
    repositories: dict[str, Actions] = {}
    catalog = False
    for scope in asked:
        if scope.type == REGISTRY:
            is_known = not identity.is_anonymous or policy.knows_anonymous
            catalog = is_known and (limit is None or limit.catalog)
        else:
            actions = _allowed(policy, identity, scope)
            if limit is not None:
                actions = frozenset(a for a in actions if limit.cover(a, scope.name))
            if actions:
                known = repositories.get(scope.name, NOTHING)
                repositories[scope.name] = known | actions
    return Grants(repositories, catalog)


def _allowed(policy: Policy, identity: Identity, scope: Scope) -> Actions:
    if scope.name == EVERY_REPOSITORY:
        return scope.actions
    try:
        name = RepositoryName.parse(scope.name)
    except NameInvalid:
        return NOTHING
    return frozenset(a for a in scope.actions if policy.allows(identity, a, name))
