"""Write the tables of docs/reference/settings.md from the declarations: `make reference`."""

from __future__ import annotations

from pathlib import Path

from portside.config import Group, Setting, list_settings

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
START = "<!-- The tables are made by `make reference` from src/portside/config/settings.py. -->\n"
END = "<!-- End of the tables. -->\n"

SIZES = ((1 << 50, "PiB"), (1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
TIMES = ((24 * 3600, "days"), (3600, "hours"), (60, "minutes"))
LARGEST = 2**63 - 1


def rounded(number: float, unit: str) -> str:
    """Return a number of bytes or seconds in a larger unit; empty if it is not a whole number."""
    larger = {"bytes": SIZES, "seconds": TIMES}.get(unit, ())
    for size, name in larger:
        if number >= size and number % size == 0:
            count = int(number // size)
            return f"{count} {name.removesuffix('s') if count == 1 else name}"
    return ""


def default_of(setting: Setting) -> str:
    """Return the default, in a readable unit as well."""
    if not setting.shown_default:
        return "none"
    is_number = isinstance(setting.default, int | float) and not setting.is_flag
    readable = rounded(setting.default, setting.unit) if is_number else ""
    return f"`{setting.shown_default}`" + (f" ({readable})" if readable else "")


def values_of(setting: Setting) -> str:
    """Return the choices, or the bounds with their unit."""
    if setting.choices:
        return ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.most is None:
        return setting.unit
    largest = rounded(setting.most, setting.unit) or f"{setting.most:,}"
    if setting.most == LARGEST:
        largest = "2^63-1"
    if setting.above is not None:
        return f"{setting.unit}, above {setting.above}, up to {largest}"
    return f"{setting.unit}, {setting.least:,} to {largest}"


def meaning_of(setting: Setting) -> str:
    """Return the sentences about a setting."""
    return " ".join(filter(None, (f"{setting.summary}.", setting.details, setting.off)))


def row_of(setting: Setting) -> str:
    """Return the row of a table about a setting."""
    no = f", `--no-{setting.option}`" if setting.is_flag else ""
    spellings = f"`--{setting.option}`{no}<br>`{setting.variable}`"
    if setting.is_secret:
        spellings += f"<br>`{setting.file_variable}`"
    cells = (spellings, default_of(setting), values_of(setting), meaning_of(setting))
    return f"| {' | '.join(cells)} |\n"


def tables() -> str:
    """Return a section with a table for each group of settings."""
    text = ""
    for group in Group:
        text += f"\n## {group}\n\n| setting | default | values | meaning |\n|---|---|---|---|\n"
        text += "".join(row_of(setting) for setting in list_settings() if setting.group is group)
    return f"{START}{text}\n{END}"


def renewed(page: str) -> str:
    """Return the page with the tables of today."""
    before, _, rest = page.partition(START)
    return before + tables() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text("utf-8")), "utf-8")
