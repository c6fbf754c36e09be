"""The type of a command's checkpoint argument: a file, or ``dataset:NAME`` for one that ships with the package."""

from __future__ import annotations

from typing import Any

import rich_click as click
from click.shell_completion import CompletionItem

_PREFIX = "dataset:"


class CheckpointType(click.ParamType):
    """Turns ``dataset:NAME`` into the path of the file; completes both."""

    name = "checkpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Any other value stays as it is: whether the file exists is the reader's to say."""
        if not isinstance(value, str) or not value.startswith(_PREFIX):
            return value
        from sparsemf_datasets.trained_measures import located

        return located(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names of measures where ``dataset:`` is begun, files otherwise."""
        if incomplete and _PREFIX.startswith(incomplete[: len(_PREFIX)]) and incomplete[0] == "d":
            from sparsemf_datasets.trained_measures import measures

            found = [_PREFIX + known.name for known in measures() if (_PREFIX + known.name).startswith(incomplete)]
            if found:
                return [CompletionItem(name) for name in found]
        return [CompletionItem(incomplete, type="file")]


CHECKPOINT = CheckpointType()
