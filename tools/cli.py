"""The command `touchline` and its sub-commands."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.main import get_command

from touchline.models.errors import TouchlineError
from touchline.tools import console
from touchline.tools.bench.command import bench_app
from touchline.tools.calibrate import calibrate_command
from touchline.tools.clock import clock_command
from touchline.tools.demo import demo_command
from touchline.tools.detect import detect_command
from touchline.tools.labels import labels_command
from touchline.tools.language.chat import chat_command
from touchline.tools.language.command import language_app
from touchline.tools.models import models_app
from touchline.tools.players.command import players_app
from touchline.tools.probe import probe_command
from touchline.tools.results.ask import ask_command
from touchline.tools.results.commentate import commentate_command
from touchline.tools.results.evaluate import evaluate_command
from touchline.tools.results.export import export_command
from touchline.tools.results.highlights import highlights_command
from touchline.tools.results.report import report_command
from touchline.tools.studio import studio_command
from touchline.tools.train.command import train_command
from touchline.tools.watch import watch_command

# Options whose name differs from that of the Python argument by more than its unit.
OTHER_NAMES = {
    "tolerances_s": "--tolerance",
    "widths_s": "--tolerance",
    "tious": "--tiou",
    "label_smoothing": "--smoothing",
    "focal_gamma": "--focal",
}

app = typer.Typer(
    name="touchline",
    help="Match footage in, timestamped events out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("detect")(detect_command)
app.command("watch")(watch_command)
app.command("studio")(studio_command)
app.command("train")(train_command)
app.command("calibrate")(calibrate_command)
app.command("evaluate")(evaluate_command)
app.command("export")(export_command)
app.command("highlights")(highlights_command)
app.command("report")(report_command)
app.command("ask")(ask_command)
app.command("commentate")(commentate_command)
app.command("chat")(chat_command)
app.command("labels")(labels_command)
app.add_typer(models_app, name="models")
app.command("clock")(clock_command)
app.add_typer(players_app, name="players")
app.add_typer(language_app, name="language")
app.command("probe")(probe_command)
app.command("demo")(demo_command)
app.add_typer(bench_app, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"touchline {version('touchline')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Match footage in, timestamped events out."""


def spread_lists(arguments: list[str]) -> list[str]:
    """Rewrite `detect --labels A B` as `detect --labels A --labels B`."""
    spread: list[str] = []
    listing = False
    for argument in arguments:
        if argument.startswith("-"):
            listing = argument == "--labels" and "detect" in spread[:1]
        elif listing and spread[-1] != "--labels":
            spread.append("--labels")
        spread.append(argument)
    return spread


def with_option_names(message: str, arguments: Sequence[str]) -> str:
    """Write options in an error as the user typed them: "hop_s is 0" becomes "--hop is 0".

    Args:
        message: An error of the Python interface, which names its arguments.
        arguments: The command line without the program's name.
    """
    command: Any = get_command(app)
    for argument in arguments:
        command = getattr(command, "commands", {}).get(argument, command)
    names = {}
    for parameter in command.params:
        option = next((o for o in parameter.opts if o.startswith("--")), None)
        for unit in ("", "_s", "_hz", "_px") if option and parameter.name else ():
            names[f"{parameter.name}{unit}"] = option
        names |= {python: option for python, typed in OTHER_NAMES.items() if typed == option}

    def renamed(match: re.Match[str]) -> str:
        return names.get(match[0]) or match[0]

    # A single word may be a plain word of the sentence, except where the sentence is about it.
    message = re.sub(r"^[a-z]+(?= (is|are|has) )", renamed, message)
    return re.sub(r"\b(?<![-/.])[a-z]+(_[a-z]+)+\b(?![/.]\w)", renamed, message)


def _unimportable(error: ImportError) -> str:
    """Say which module cannot be imported, why, and what to install."""
    module = error.name or "a module"
    if isinstance(error, ModuleNotFoundError):
        return f"{module} is not installed ({error}). Install it with pip."
    # Slim container images lack system libraries that opencv-python needs.
    on_debian = " On Debian: apt-get install libgl1 libglib2.0-0." if module == "cv2" else ""
    lacks = "cannot open shared object" in str(error)
    what_to_do = f" Install the missing system library.{on_debian}" if lacks else ""
    return f"{module} cannot be imported ({error}).{what_to_do}"


def _system_error(error: OSError) -> str:
    """Say which file the system refuses, why, and what to do where that is known."""
    if error.filename is None:
        return error.strerror or str(error)
    path = Path(os.fsdecode(error.filename))
    if isinstance(error, IsADirectoryError):
        return f"{path} is a folder. Name the file to write in it."
    if isinstance(error, FileExistsError | NotADirectoryError):
        blocking = next((one for one in (path, *path.parents) if one.is_file()), path)
        return f"{blocking} is a file, but a folder is needed. Choose another name."
    return f"{path}: {error.strerror or error}"


def _terminated(*_: object) -> NoReturn:
    console.fail("terminated")
    sys.exit(128 + signal.SIGTERM)


def _open_closed_streams() -> None:
    """Read nothing and discard what is printed where the caller closed a standard stream.

    Else a file that is opened later would get its number, and what is printed would go there.
    """
    for name, flags in (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, flags)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w"))


def _let_waiting_threads_sleep() -> None:
    """Set how long the threads of a network wait for each other before they sleep.

    By default they wait busily, and keep decoders from the processor. The library reads this when
    torch is loaded; what the user has set stays.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "10000"


def main() -> None:
    """Run the command line. A bad input prints one line and exits with 1, without traceback.

    Set TOUCHLINE_DEBUG=1 to see the traceback.
    """
    _open_closed_streams()
    _let_waiting_threads_sleep()
    # Unlike the default, this removes temporary files on the way out.
    signal.signal(signal.SIGTERM, _terminated)
    try:
        try:
            app(spread_lists(sys.argv[1:]))
        finally:
            # Flush here, while an error can still be reported.
            sys.stdout.flush()
    except (TouchlineError, ValueError) as error:
        if os.environ.get("TOUCHLINE_DEBUG"):
            raise
        is_file = isinstance(error, TouchlineError)
        console.fail(str(error) if is_file else with_option_names(str(error), sys.argv[1:]))
        sys.exit(1)
    except ImportError as error:
        if os.environ.get("TOUCHLINE_DEBUG"):
            raise
        console.fail(_unimportable(error))
        sys.exit(1)
    except KeyboardInterrupt:
        console.fail("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader has closed the pipe (`touchline ... | head`), so no message is needed.
        console.give_up_stdout()
        sys.exit(1)
    except OSError as error:
        # For example a missing folder or a full disk: print the file and the system's message.
        # Standard output has no file name.
        if os.environ.get("TOUCHLINE_DEBUG"):
            raise
        console.fail(_system_error(error))
        if error.filename is None:
            console.give_up_stdout()
        sys.exit(1)


if __name__ == "__main__":
    main()
