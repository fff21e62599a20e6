"""`hooper`: the command line, thin; every command is a function here that calls into a module below."""

from app.cli.commands import main as main  # what pyproject.toml names
