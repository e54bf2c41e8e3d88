"""What was measured, in a file beside the report: written after every cell, so that long work may be interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Results:
    """Cells by key, and whatever else was measured, by name. A new figure takes the place of the old one."""

    def __init__(self, path: Path | None):
        """``path``: the file; None keeps them in memory alone. Raises SystemExit for a file that is none."""
        self.path = path
        self.kept: dict[str, Any] = {"cells": {}}
        if path is not None and path.exists():
            try:
                self.kept |= json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise SystemExit(f"{path} holds no results: {error}. Name another file with --out") from None

    @property
    def cells(self) -> dict[str, dict[str, Any]]:
        return self.kept["cells"]

    def get(self, name: str) -> Any:
        return self.kept.get(name)

    def put_cell(self, key: str, result: dict[str, Any]) -> None:
        """Keeps a cell; one that was measured is not replaced by one that failed."""
        if "failed" not in result or "failed" in self.cells.get(key, result):
            self.cells[key] = result
        self.save()

    def put(self, name: str, value: Any) -> None:
        self.kept[name] = value
        self.save()

    def save(self) -> None:
        """Writes the file under another name first: an interrupt leaves the old one or the new one."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = self.path.with_suffix(".json.new")
            new.write_text(json.dumps(self.kept, indent=1), encoding="utf-8")
            os.replace(new, self.path)
