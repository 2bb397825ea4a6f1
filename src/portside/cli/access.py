"""`portside access`: which rule allows or denies an action."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import click

from portside.auth.access_files import AccessFiles, AccessRules
from portside.auth.directory import Directory
from portside.auth.identities import ANONYMOUS, Identity
from portside.auth.policy import Decision, Rule, scope_map_rules
from portside.bootstrap import Stores, now
from portside.cli.options import CommandGroup
from portside.cli.output import json_option, show_json
from portside.cli.registry import opened_registry, read_settings, registry_command
from portside.config import Settings
from portside.spec.actions import Action, ActionInvalid, parse_actions
from portside.spec.names import RepositoryName
from portside.stores.access import IdentityKind

NOBODY = ("-", str(IdentityKind.ANONYMOUS))
"""How the command line names requests without credentials."""

NO_RULE = "no rule matches; denied by default"


class Question(NamedTuple):
    """Whether an identity may do an action in a repository."""

    who: str
    groups: frozenset[str]
    action: Action
    repository: RepositoryName


class Explanation(NamedTuple):
    """Whether the action is allowed, and why; `rules` is what the rules say, if they were asked.

    `kind` is None if no identity has the name. `unmatched` are all rules, if none matches.
    """

    kind: IdentityKind | None
    allowed: bool
    reason: str
    rules: Decision | None = None
    unmatched: tuple[Rule, ...] = ()


@click.group("access", cls=CommandGroup)
def access() -> None:
    """Show how access is decided."""


@access.command("explain")
@click.argument("identity")
@click.argument("action")
@click.argument("repository")
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="GROUP",
    help="Group of an identity of a trusted issuer, such as ci:deploy; repeatable.",
)
@json_option
@registry_command("open", "anonymous", "htpasswd", "access")
async def explain(
    *,
    identity: str,
    action: str,
    repository: str,
    groups: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> None:
    """Explain whether an action is allowed, and which rule decides.

    The question is whether IDENTITY may do ACTION in REPOSITORY.

    IDENTITY is a user or a token, a hyphen for requests without credentials, or an identity of a
    trusted issuer, such as ci:team/app. ACTION is pull, push, delete, metadata_read or
    metadata_write, or ACR's name for it, such as content/read. The exit code is 0 if the action is
    allowed and 1 if it is denied.
    """
    settings = read_settings(given)
    question = _ask(identity, groups, action, repository)
    async with opened_registry(settings) as stores:
        found = await _explain(settings, stores, question)
    if as_json:
        show_json(_document(question, found))
    else:
        _show(question, found)
    sys.exit(0 if found.allowed else 1)


def _ask(who: str, groups: tuple[str, ...], action: str, repository: str) -> Question:
    """Read the arguments; raises UsageError and NameInvalid."""
    try:
        actions = parse_actions(action)
    except ActionInvalid as error:
        raise click.UsageError(str(error)) from error
    if len(actions) != 1:
        raise click.UsageError(f"{action[:80]!r} is more than one action; ask for one at a time")
    issuer, colon, _ = who.partition(":")
    if groups and not colon:
        raise click.UsageError("--group needs an identity of a trusted issuer, such as ci:team/app")
    for group in groups:
        if not group.startswith(f"{issuer}:"):
            shape = f"groups of {issuer} begin with its name, such as {issuer}:deploy"
            raise click.UsageError(f"invalid group {group[:80]!r}: {shape}")
    name = "" if who in NOBODY else who
    (only,) = actions
    return Question(name, frozenset(groups), only, RepositoryName.parse(repository))


async def _explain(settings: Settings, stores: Stores, question: Question) -> Explanation:
    """Check all that a request would, in the same order; raises FileInvalid."""
    files = AccessFiles(
        anonymous=settings.anonymous, access_file=settings.access, htpasswd=settings.htpasswd
    )
    rules = files.read()
    is_closed = settings.requires_credentials or (await stores.access.access_state()).closed
    identity, obstacle = await _find(stores, rules, question)
    kind = identity.kind if identity is not None else None
    if settings.open or not is_closed:
        reason = "access control is off: everyone may do everything"
        return Explanation(kind, allowed=True, reason=reason)
    if identity is None:
        return Explanation(kind, allowed=False, reason=obstacle)
    decision = rules.policy.decide(identity, question.action, question.repository)
    if obstacle:
        return Explanation(kind, allowed=False, reason=obstacle, rules=decision)
    reason = str(decision.rule) if decision.rule is not None else NO_RULE
    every_rule = (*rules.policy.rules, *scope_map_rules(identity))
    unmatched = every_rule if decision.rule is None else ()
    return Explanation(kind, decision.allowed, reason, decision, unmatched)


async def _find(
    stores: Stores, rules: AccessRules, question: Question
) -> tuple[Identity | None, str]:
    """Return the identity that is asked about, and why it cannot authenticate at all."""
    name = question.who
    if not name:
        return ANONYMOUS, ""
    if ":" in name:
        issuer = name.partition(":")[0]
        if issuer not in {known.name for known in rules.issuers}:
            return None, f"no trusted issuer is named {issuer!r}"
        return Identity(name, IdentityKind.FOREIGN, question.groups), ""
    directory = Directory(stores.access, rules.htpasswd, rules.groups, now)
    found = await directory.find(name)
    if found is None:
        return None, f"there is no user or token named {name!r}"
    obstacle = directory.obstacle(found)
    return await directory.identify(found), obstacle and f"{found.kind} {name} {obstacle}"


def _why_not(rule: Rule, winner: Rule) -> str:
    """Return why another rule that matches does not decide."""
    if rule.pattern.specificity < winner.pattern.specificity:
        return "less specific repositories"
    if rule.subjects < winner.subjects:
        return "less specific identities"
    if rule.allows and not winner.allows:
        return "equally specific, and deny wins"
    return "the same effect"


def _why_unmatched(rule: Rule, question: Question) -> str:
    """Return why a rule does not match."""
    if not rule.pattern.matches(question.repository):
        return "other repositories"
    return "other identities" if question.action in rule.actions else "other actions"


def _show(question: Question, found: Explanation) -> None:
    verdict = "allowed" if found.allowed else "denied"
    who = question.who or "anonymous"
    click.echo(f"{verdict}: {who} {question.action} in {question.repository}")
    click.echo(f"  because {found.reason}")
    for rule in found.unmatched:
        click.echo(f"  does not match: {rule} ({_why_unmatched(rule, question)})")
    if found.rules is None or found.rules.rule is None:
        return
    if str(found.rules.rule) != found.reason:
        click.echo(f"  the rules alone: {found.rules.rule}")
    for rule in found.rules.others:
        click.echo(f"  overrides {rule} ({_why_not(rule, found.rules.rule)})")


def _document(question: Question, found: Explanation) -> dict[str, Any]:
    winner = found.rules.rule if found.rules is not None else None
    others = found.rules.others if found.rules is not None else ()
    return {
        "identity": question.who or "anonymous",
        "kind": found.kind,
        "action": question.action,
        "repository": question.repository,
        "allowed": found.allowed,
        "reason": found.reason,
        "rule": str(winner) if winner is not None else None,
        "others": [
            {"rule": str(rule), "reason": _why_not(rule, winner)}
            for rule in others
            if winner is not None
        ],
        "unmatched": [
            {"rule": str(rule), "reason": _why_unmatched(rule, question)}
            for rule in found.unmatched
        ],
    }
