"""What all commands share: their options, how a result is written, progress, limits.

A command looks like this (imports of numpy, torch, … belong inside the function)::

    @click.command()
    @click.argument("checkpoint")
    @checkpoint_options
    @output_options()
    def inspect(checkpoint: str, source: CheckpointOptions, output: OutputOptions) -> int | None:
        ...
        emit(output, document, render)

It returns its exit code (None is 0).  Only :func:`emit` reaches the standard output.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click
from click.exceptions import Exit

from sparsemf_cli.stdout import StdoutGuard, silence_broken_pipe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from sparsemf.measures import Network

Command = TypeVar("Command", bound=Callable[..., Any])

_WIDTH_OF_A_FILE = 110
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class OutputOptions:
    """How to run and where the result goes (parameter ``output`` of a command)."""

    json: bool = False
    file: Path | None = None
    quiet: bool = False
    debug: bool = False
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    guard: StdoutGuard = field(default_factory=StdoutGuard, repr=False, compare=False)

    @property
    def talks(self) -> bool:
        """Whether progress and logs are shown: stderr is a terminal and -q was not given."""
        return not self.quiet and sys.stderr.isatty()

    def torch_device(self) -> str:
        """The device, decided: "cpu" or "cuda" (imports torch); ``--device cuda`` without one is an InputError."""
        if self.device == "cpu":
            return "cpu"
        import torch

        if torch.cuda.is_available():
            return "cuda"
        if self.device == "cuda":
            from sparsemf.exceptions import InputError

            raise InputError("--device cuda: expected a CUDA device, torch finds none; use --device cpu or auto")
        return "cpu"


@dataclass(frozen=True)
class CheckpointOptions:
    """Which block of a checkpoint, and how to read it (parameter ``source`` of a command)."""

    block: str | None = None
    activation: str | None = None
    map: str | None = None
    rho: str = "gaussian"

    def load_blocks(self, path: str | os.PathLike[str]) -> Iterator[Network]:
        """The networks of all matching blocks, one in memory at a time; InputError when there is none."""
        from sparsemf.checkpoints import load_blocks

        return load_blocks(path, self.block, activation=self.activation, map=self.map)

    def load(self, path: str | os.PathLike[str]) -> Network:
        """The one matching block; InputError (with the names) when there are several."""
        from sparsemf.checkpoints import load

        return load(path, self.block, activation=self.activation, map=self.map)


def affine_option(command: Command) -> Command:
    """``--affine``: what is free beside the atoms."""
    return click.option(
        "--affine",
        type=click.Choice(["free", "offset", "charged"]),
        default="free",
        show_default=True,
        help="What atoms need not make: an affine function (what flips cost), a constant c only, or nothing.",
    )(command)


def checkpoint_options(command: Command) -> Command:
    """Add --block, --activation, --map, --rho; the command gets them as ``source: CheckpointOptions``."""
    options = (
        click.option("--block", metavar="PATTERN", help="Glob over the names of the blocks; default: all of them."),
        click.option("--activation", metavar="A", help="Activation of the block, where the file does not say."),
        click.option("--map", "map_", metavar="SPEC", help="Tensor names: inner=a.weight,bias=a.bias,outer=b.weight."),
        click.option(
            "--rho",
            metavar="LAW",
            default="gaussian",
            show_default=True,
            help="Input law: gaussian, layernorm (the block's own LayerNorm), or DATA.npz.",
        ),
    )

    @functools.wraps(command)
    def packed(*args: Any, block: Any, activation: Any, map_: Any, rho: str, **kwargs: Any) -> Any:
        return command(*args, source=CheckpointOptions(block, activation, map_, rho), **kwargs)

    return _decorated(packed, options)


def output_options(*, file: bool = True) -> Callable[[Command], Command]:
    """Add --json, -o, -q, --debug, --seed, --device, --threads; the command gets ``output: OutputOptions``.

    While the command runs, the standard output is kept for :func:`emit`.  With
    ``file=False`` there is no -o: the command declares its own (a folder, an HTML file).
    """
    options = [
        click.option("--json", "json_", is_flag=True, help="Print one JSON document, and nothing else, on stdout."),
        click.option("-o", "--output", "file_", metavar="FILE", help="Write the same document to FILE, atomically."),
        click.option("-q", "--quiet", is_flag=True, help="No progress and no messages on stderr."),
        click.option("--debug", is_flag=True, help="Show tracebacks, warnings and what the solvers print."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all draws."),
        click.option(
            "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Device."
        ),
        click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads of torch and BLAS."),
    ]
    if not file:
        del options[1]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def packed(
            *args: Any, json_: bool, quiet: bool, debug: bool, seed: int, device: str, threads: Any, **kwargs: Any
        ) -> Any:
            name = kwargs.pop("file_", None)
            target = None if name is None else writable("-o", name)
            with ExitStack() as stack:
                guard = stack.enter_context(StdoutGuard(to_stderr=debug))
                stack.enter_context(_thread_limit(threads))
                stack.enter_context(_warnings(debug))
                output = OutputOptions(json_, target, quiet, debug, seed, device, threads, guard)
                try:
                    return command(*args, output=output, **kwargs)
                except Exit:
                    raise
                except BaseException:
                    if debug:
                        traceback.print_exc()
                    raise

        return _decorated(packed, options)

    return decorate


def emit(options: OutputOptions, document: Mapping[str, Any], render: Callable[[Console], None] | None = None) -> None:
    """The result: to the file of -o, and to stdout as JSON (--json) or as ``render(console)`` draws it."""
    from sparsemf.atomic import json_text, write_text

    text = json_text(document) if options.json or options.file is not None else ""
    if options.file is not None:
        write_text(options.file, text)
    with options.guard.released() as stream:
        try:
            if options.json:
                stream.write(text)
            elif render is not None:
                render(_console(stream))
            stream.flush()
        except BrokenPipeError:
            silence_broken_pipe()  # the reader has gone; the command's verdict still stands as its exit code


def say(options: OutputOptions, message: str) -> None:
    """A message for a person: on stderr when that is a terminal, else nowhere."""
    if options.talks:
        click.echo(message, err=True)


@contextmanager
def progress(options: OutputOptions, *, transient: bool = True) -> Iterator[Progress]:
    """A rich progress display on stderr; silent when stderr is no terminal or with -q."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns,
        console=Console(stderr=True),
        disable=not options.talks,
        transient=transient,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as display:
        yield display


def _decorated(command: Any, options: Any) -> Any:
    for option in reversed(options):
        command = option(command)
    return command


def writable(option: str, name: str) -> Path:
    """The file that ``option`` names, checked before any work is done; InputError when it cannot be written."""
    from sparsemf.exceptions import InputError

    target = Path(name)
    if target.is_dir():
        raise InputError(f"{option} {name}: expected a file to write, got a folder")
    if not target.parent.is_dir():
        raise InputError(f"{option} {name}: the folder {target.parent} does not exist; make it first")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"{option} {name}: no permission to write in the folder {target.parent}")
    return target


def apart(files: Mapping[str, str | os.PathLike[str] | None]) -> None:
    """InputError where two of a command's files, by the options that name them, are one: it would be overwritten."""
    from sparsemf.exceptions import InputError

    seen: dict[Path, str] = {}
    for option, name in files.items():
        if name is None:
            continue
        place = Path(name).resolve()
        if place in seen:
            raise InputError(
                f"{option} {os.fspath(name)}: expected a file of its own, got that of {seen[place]}; name another"
            )
        seen[place] = option


def sealed(certificates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One document of certificates: the one there is, or several of one kind under a seal of their own."""
    from sparsemf.certificates.checker.document import seal, wrapper_seal
    from sparsemf.exceptions import InputError

    certificates = [{**c, "seal": seal(c)} for c in certificates]
    if len(certificates) == 1:
        return certificates[0]
    kinds = sorted({c["schema"].rpartition("/")[0] for c in certificates})
    if len(kinds) > 1:
        raise InputError(f"--cert: expected blocks of one kind of certificate, got {' and '.join(kinds)}; use --block")
    # of plain and gated blocks alike: the newest of theirs
    several = {"schema": max(c["schema"] for c in certificates), "results": certificates}
    return {**several, "seal": wrapper_seal(several)}


@contextmanager
def _warnings(debug: bool) -> Iterator[None]:
    """Python warnings are for developers; users meet errors of one line and the ``warnings`` of a document."""
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
        yield


@contextmanager
def _thread_limit(threads: int | None) -> Iterator[None]:
    """At most ``threads`` threads in the libraries loaded already, in those loaded later, and in child processes."""
    if threads is None:
        yield
        return
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    with ExitStack() as stack:
        if "numpy" in sys.modules:
            try:
                from threadpoolctl import threadpool_limits
            except ImportError:  # it comes with scikit-learn; without it the environment alone must do
                pass
            else:
                stack.enter_context(threadpool_limits(threads))
        if "torch" in sys.modules:
            import torch

            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _console(stream: Any) -> Console:
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            """rich would exit with 1, which must not read as *distinct*."""
            self.quiet = True
            silence_broken_pipe()

    width = None if stream.isatty() else max(int(os.environ.get("COLUMNS", "0") or 0), _WIDTH_OF_A_FILE)
    return Quiet(file=stream, highlight=False, width=width)
