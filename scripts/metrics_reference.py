"""Write the tables of docs/reference/metrics.md from the declarations: `make reference`."""

from __future__ import annotations

from pathlib import Path

from portside.telemetry.catalogue import METRICS, Metric

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "metrics.md"
START = (
    "<!-- The tables are made by `make reference` from src/portside/telemetry/catalogue.py. -->\n"
)
END = "<!-- End of the tables. -->\n"

HEADINGS = {
    "Requests": ("http",),
    "Database": ("database",),
    "Blob store": ("storage",),
    "Logins": ("logins",),
    "Background tasks": ("collection", "expired", "retention"),
    "Webhooks": ("webhook",),
    "Content": (
        "repositories",
        "manifests",
        "tags",
        "manifest",
        "blobs",
        "blob",
        "uploads",
        "counted",
    ),
    "Health": ("ready", "disk"),
    "Processes": ("build", "workers", "process"),
}
"""Under which heading a metric is listed, by the first word of its name."""


def heading_of(metric: Metric) -> str:
    """Return the heading under which a metric is listed."""
    word = metric.name.split("_")[1]
    (heading,) = (heading for heading, words in HEADINGS.items() if word in words)
    return heading


def row_of(metric: Metric) -> str:
    """Return the row of a table about a metric."""
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |\n"


def tables() -> str:
    """Return a section with a table for each heading."""
    text = ""
    for heading in HEADINGS:
        text += f"\n## {heading}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"
        text += "".join(row_of(metric) for metric in METRICS if heading_of(metric) == heading)
    return f"{START}{text}\n{END}"


def renewed(page: str) -> str:
    """Return the page with the tables of today."""
    before, _, rest = page.partition(START)
    return before + tables() + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text("utf-8")), "utf-8")
