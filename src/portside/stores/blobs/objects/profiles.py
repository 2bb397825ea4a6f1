"""Profiles of AWS: credentials that stand in files, or that a login or a role gives.

obstore reads the environment and asks the machine for its identity; profiles are boto3's, which is
an extra of Portside: they may name roles, logins and programs to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider

_FILES = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}


class ProfileInvalid(ValueError):
    """A profile that the environment names cannot be used; says why in one line."""


def find_profile(environment: Mapping[str, str]) -> Boto3CredentialProvider | None:
    """Give the credentials of the profile that is in force; None if there is no profile.

    A key in the environment goes before the profile that everybody has by default, and the profile
    that AWS_PROFILE names before all. Raises ProfileInvalid.
    """
    name = environment.get("AWS_PROFILE") or None
    if name is None and ("AWS_ACCESS_KEY_ID" in environment or not _has_files(environment)):
        return None
    try:
        from boto3.session import Session  # noqa: PLC0415  # an extra, and slow to import
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
    except ImportError as error:
        if name is None:
            return None
        missing = f"AWS_PROFILE is {name}, and profiles need boto3: pip install 'portside[aws]'"
        raise ProfileInvalid(missing) from error
    try:
        session = Session(profile_name=name)
        if name is None and session.get_credentials() is None:
            return None
        return Boto3CredentialProvider(session)
    except (BotoCoreError, ValueError) as error:
        raise ProfileInvalid(f"the profile {name or 'default'}: {error}") from error


def _has_files(environment: Mapping[str, str]) -> bool:
    home = Path(environment.get("HOME", "/")) / ".aws"
    return any(
        Path(environment.get(variable) or home / file).expanduser().is_file()
        for variable, file in _FILES.items()
    )
