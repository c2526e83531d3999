"""`elasticpypi completion`: has a shell complete commands, options and names of projects."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_ELASTICPYPI_COMPLETE"  # which Click derives from the name of the program


@click.command(short_help="Print what completes our commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a SHELL complete our commands.

    For bash: eval "$(elasticpypi completion bash)" in ~/.bashrc; likewise for zsh in ~/.zshrc. For fish:
    elasticpypi completion fish > ~/.config/fish/completions/elasticpypi.fish
    """
    completing = get_completion_class(shell)
    if completing is None:
        raise click.UsageError(f"Click cannot complete in {shell}.")
    click.echo(completing(ctx.find_root().command, {}, "elasticpypi", _VARIABLE).source())
