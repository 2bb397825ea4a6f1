"""Queries and forms: fields as HTML's forms encode them (application/x-www-form-urlencoded)."""

from __future__ import annotations

from typing import Self
from urllib.parse import parse_qsl


class FieldsExceeded(ValueError):
    """There are more fields than the limit allows."""


class Fields:
    """The fields of a query or a form, in order and by name; read in one pass."""

    __slots__ = ("_by_name", "items")

    def __init__(self, items: list[tuple[str, str]]) -> None:
        self.items = items
        self._by_name: dict[str, list[str]] = {}
        for name, value in items:
            self._by_name.setdefault(name, []).append(value)

    @classmethod
    def parse(cls, text: str, *, limit: int) -> Self:
        """Decode fields, of which there may be `limit`.

        Raises FieldsExceeded.
        """
        try:
            return cls(parse_qsl(text, keep_blank_values=True, max_num_fields=limit))
        except ValueError as error:
            raise FieldsExceeded(f"at most {limit} fields are accepted") from error

    def first(self, name: str) -> str:
        """Return the first value of a field; empty if there is none."""
        values = self._by_name.get(name)
        return values[0] if values else ""

    def last(self, name: str) -> str | None:
        """Return the last value of a field, or None if there is none."""
        values = self._by_name.get(name)
        return values[-1] if values else None

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return self._by_name.get(name, [])
