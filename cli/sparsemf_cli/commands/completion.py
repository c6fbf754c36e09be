"""``sparsemf completion``: the script that makes a shell complete commands, options, files and dataset names."""

from __future__ import annotations

import rich_click as click

from sparsemf_cli.common import OutputOptions, emit, output_options

SHELLS = {
    "bash": 'eval "$(sparsemf completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(sparsemf completion zsh)"    # in ~/.zshrc, after compinit',
    "fish": "sparsemf completion fish | source   # in ~/.config/fish/config.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
@output_options(file=False)
def completion(shell: str, output: OutputOptions) -> None:
    """Print the completion script of a shell.

    Put one line into its start-up file: for bash and zsh eval "$(sparsemf completion SHELL)", for fish
    sparsemf completion fish | source.
    """
    from click.shell_completion import get_completion_class

    from sparsemf.atomic import header
    from sparsemf_cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    script = found(cli, {}, "sparsemf", "_SPARSEMF_COMPLETE").source()
    emit(
        output,
        header("completion", 1) | {"shell": shell, "script": script},
        lambda console: console.print(script, markup=False, soft_wrap=True),
    )
