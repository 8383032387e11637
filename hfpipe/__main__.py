"""Run the command line as `python -m hfpipe`."""

from .cli.app import app

if __name__ == "__main__":
    app(prog_name="python -m hfpipe")
