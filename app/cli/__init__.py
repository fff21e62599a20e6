"""`hooper`: the command line, thin; every command is a module here that calls into one below."""

from app.cli.program import main as main  # what pyproject.toml names
