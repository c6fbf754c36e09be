"""The console script: a group that imports a command only when it runs, and the exit codes of every outcome.

0 done · 1 certify: distinct, verify: invalid · 2 option syntax · 3 certify: undecided · 4 bad input ·
5 some files of a batch failed · 70 internal error · 130 interrupted · 141 the reader of the output went away.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import rich_click as click
from click.exceptions import Abort, Exit, NoArgsIsHelpError

from sparsemf_cli.stdout import silence_broken_pipe

OK, USAGE, BAD_INPUT, INTERNAL, INTERRUPTED, BROKEN_PIPE = 0, 2, 4, 70, 130, 141

# name -> what `sparsemf --help` says; the module is sparsemf_cli.commands.<name>, the object is called <name>
COMMANDS: dict[str, str] = {
    "train": "Train a long-time μP measure by noisy gradient descent.",
    "moments": "Growth of a run's moments, the bound that is proved, critical weights.",
    "richardson": "What the step size adds to a run's stationary means.",
    "scaling": "μP check: are sizes and the best learning rate stable over widths?",
    "chaos": "Propagation of chaos: how coupled systems approach the limit, in N and time.",
    "cell": "The learning cell (w*, D*_orb, S*) of checkpoints, compared in one table.",
    "budget": "Where the error of a trained measure comes from: terms, sum, rates.",
    "reproduce": "The four results of arXiv:2605.24710 as experiments, with one report.",
    "tasks": "List the data sets and teachers that `train` knows.",
    "datasets": "List or write trained measures and planted suites with known truth.",
    "inspect": "Show what a checkpoint holds and which blocks are found in it.",
    "analyze": "Sparse dictionary and certified S* staircase of a checkpoint.",
    "certify": "Are two networks the same function? A verdict with a certificate.",
    "depth": "How many Hermite tensors identify the atoms: brackets of D_var and D_orb.",
    "verify": "Check a certificate again from the two checkpoints, without the solver.",
    "compress": "Write a copy of a checkpoint with few neurons, and the certified error.",
    "batch": "Analyze many checkpoints; resumes, isolates failures, finds equal ones.",
    "report": "Write the HTML report of a result.",
    "completion": "Print the completion script of bash, zsh or fish.",
}


class Interrupted(KeyboardInterrupt):
    """A command that has saved its state before it stopped says so: ``Interrupted("state saved in RUN/")``."""


class LazyGroup(click.RichGroup):
    """Lists commands by name and one line of help; imports a command's module only to run that command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A placeholder with the name and the help line: enough for the list of commands."""
        if cmd_name not in COMMANDS:
            return None
        return click.Command(cmd_name, help=COMMANDS[cmd_name], short_help=COMMANDS[cmd_name])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, placeholder, rest = super().resolve_command(ctx, args)
        if name is None or placeholder is None:
            return name, placeholder, rest
        module = importlib.import_module(f"sparsemf_cli.commands.{name}")
        return name, getattr(module, name), rest

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and turn every outcome into an exit code of the contract.

        click's own ``main`` answers 1 for some exceptions, which must not read as *distinct*.
        """
        arguments = list(sys.argv[1:] if args is None else args)
        name = prog_name or "sparsemf"
        self._main_shell_completion(extra, name, complete_var)

        def work() -> Any:
            with self.make_context(name, arguments, **extra) as ctx:
                return self.invoke(ctx)

        code = exit_code(work)
        if standalone_mode:
            sys.exit(code)
        return code


def exit_code(work: Callable[[], Any]) -> int:
    """The exit code of ``work()``: the integer it returns, 0 for anything else; errors become one line on stderr."""
    try:
        value = work()
        sys.stdout.flush()
    except Exit as stop:
        return stop.exit_code
    except NoArgsIsHelpError as usage:
        click.echo(usage.ctx.get_help() if usage.ctx else usage.message, err=True)
        return USAGE
    except click.UsageError as usage:
        _show_usage(usage)
        return USAGE
    except (KeyboardInterrupt, Abort) as stop:
        _complain("interrupted" + "".join(f"; {part}" for part in stop.args))
        return INTERRUPTED
    except BrokenPipeError:
        silence_broken_pipe()
        return BROKEN_PIPE
    except Exception as error:  # the outermost frame: whatever it is must end in a code of the contract
        return _failure(error)
    return value if type(value) is int else OK


def _failure(error: Exception) -> int:
    from sparsemf.exceptions import InputError

    if isinstance(error, (InputError, click.ClickException)):
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        _complain(f"error: {text}")
        return BAD_INPUT
    if isinstance(error, OSError) and error.filename is not None:
        _complain(f"error: {os.fspath(error.filename)!s}: {error.strerror or type(error).__name__}")
        return BAD_INPUT
    detail = str(error) or "no message"
    _complain(f"internal error: {type(error).__name__}: {detail} (run again with --debug for the traceback)")
    return INTERNAL


def _show_usage(usage: click.UsageError) -> None:
    command = usage.ctx.command_path if usage.ctx else "sparsemf"
    click.echo(f"error: {usage.format_message()} (see '{command} --help')", err=True)


def _complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    line = "".join(c if c.isprintable() else " " for c in message)
    try:
        click.echo(" ".join(line.split()), err=True)
    except OSError:  # stderr is closed as well: the exit code alone must do
        return


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from sparsemf.atomic import tool_version

        click.echo(f"sparsemf {tool_version()}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def cli() -> None:
    """Which features did a two-layer network learn, how many are there, and is this other network the same function?

    Numbers that carry proofs: a sparse dictionary modulo the realization symmetries, a certified staircase of S*,
    and verdicts of equivalence that can be checked again.
    """


def entry() -> NoReturn:
    """The console script ``sparsemf``.  SIGTERM ends it as Ctrl-C does: state is saved, workers end, exit code 130."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    sys.exit(cli.main(prog_name="sparsemf", standalone_mode=False))
