"""touchline studio: mark a few moments of your own match in a local page, and find the rest."""

from __future__ import annotations

import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from touchline.pipeline.files import safe_name
from touchline.pipeline.footage.address import footage_stem
from touchline.pipeline.footage.inputs import footage_files
from touchline.pipeline.teaching.options import StudioOptions
from touchline.tools import console

DEFAULTS = StudioOptions()
NETWORK = "The network (for a new project)"


def studio_command(
    matches: Annotated[
        list[Path] | None,
        typer.Argument(help="Footage files, or folders of footage.", metavar="MATCH"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The project's folder, new or old (default: <name of the first match>.studio).",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels of these matches, in any format, to start from."),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(
            help="events.json or an output folder of touchline detect: its events become "
            "proposals to review."
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            help="Port to listen at; 0 takes the project's last one again, or a free one.", min=0
        ),
    ] = 0,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen at. Other machines reach the page only if you change this."
        ),
    ] = "127.0.0.1",
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser.")
    ] = True,
    backbone: Annotated[
        str,
        typer.Option(
            help="A backbone that can run over a whole match (touchline models lists them).",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.backbone,
    weights: Annotated[
        str,
        typer.Option(help="Its pretrained weights, a name or a file.", rich_help_panel=NETWORK),
    ] = DEFAULTS.weights,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Frames per second (default: 4 for networks that see single frames, else as "
            "trained).",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.rate_hz,
    size: Annotated[
        int | None,
        typer.Option(
            help="Side of the network's picture in pixels (default: 224, likewise).",
            rich_help_panel=NETWORK,
        ),
    ] = DEFAULTS.size_px,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=NETWORK)
    ] = DEFAULTS.device,
    precision: Annotated[
        str, typer.Option(help="auto, float32 or bf16.", rich_help_panel=NETWORK)
    ] = DEFAULTS.precision,
) -> None:
    """Teach a model on your own match: mark a few moments in the browser, it proposes the rest.

    Everything you do is kept in the project's folder: start the command again and go on.
    """
    if any(find_spec(module) is None for module in ("starlette", "uvicorn")):
        raise ValueError("the studio needs a server. Run pip install 'touchline[studio]'.")
    from touchline.pipeline.studio.serve import serve
    from touchline.pipeline.teaching.project import Project
    from touchline.pipeline.teaching.start_from import add_events, add_labels

    files = footage_files(matches or [])
    if out is None and not files:
        raise ValueError("name a match, or the folder of a project with -o")
    if out is None:
        out = Path(f"{safe_name(footage_stem(files[0]), fallback='match')}.studio")
    options = StudioOptions(
        backbone=backbone,
        weights=weights,
        rate_hz=rate,
        size_px=size,
        device=device,
        precision=precision,
    )
    project = Project(out, files, options)
    try:
        if labels is not None:
            added = add_labels(project, labels)
            console.err.print(f"{added} marks from {console.escape(str(labels))}")
        if events is not None:
            added = add_events(project, events)
            console.err.print(f"{added} events to review from {console.escape(str(events))}")

        def ready(address: str) -> None:
            console.err.print(
                f"Touchline studio: open [bold]{address}[/bold]\n"
                f"Everything is kept in {console.escape(str(out))}. Stop with Ctrl+C.",
                soft_wrap=True,
            )
            if browser:
                webbrowser.open(address)

        serve(project, host=host, port=port, on_ready=ready)
    except KeyboardInterrupt:
        console.err.print(f"Stopped. Go on with: touchline studio -o {console.escape(str(out))}")
    finally:
        project.close()
