"""Settings: what they are, and how they are read from values that a person wrote.

The command line, the environment and the TOML file are three spellings of the same fields:
`--page-limit`, `PORTSIDE_PAGE_LIMIT` and `page-limit = …`.
"""

from portside.config.addresses import HostPort, SettingsInvalid
from portside.config.listing import Setting, check_values, list_settings, make_settings
from portside.config.settings import Group, LogFormat, LogLevel, Redirect, Settings, TracesTrust

__all__ = [
    "Group",
    "HostPort",
    "LogFormat",
    "LogLevel",
    "Redirect",
    "Setting",
    "Settings",
    "SettingsInvalid",
    "TracesTrust",
    "check_values",
    "list_settings",
    "make_settings",
]
