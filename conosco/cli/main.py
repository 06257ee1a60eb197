"""The command `conosco`: one file per subcommand, put together here."""

import os

import typer

from conosco.cli.backup import backup
from conosco.cli.demo import demo
from conosco.cli.doctor import doctor
from conosco.cli.exporting import export_people
from conosco.cli.importing import import_file
from conosco.cli.replay import replay
from conosco.cli.restore import restore
from conosco.cli.retention import retention
from conosco.cli.serve import serve
from conosco.cli.source import app as source
from conosco.cli.verify import verify

app = typer.Typer(
    name="conosco",
    help="A customer data platform for one company: collect, unify, segment, act. Start with `conosco demo`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(serve)
app.command()(replay)
app.command()(doctor)
app.add_typer(source, name="source")
app.command()(verify)
app.command()(retention)
app.command()(backup)
app.command()(restore)
app.command("import")(import_file)
app.command("export")(export_people)


def main() -> None:
    """Entry point. Whatever this process and those that it starts write is readable by its owner only."""
    os.umask(0o077)
    app()


if __name__ == "__main__":
    main()
