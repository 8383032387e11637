"""Run pip and npm, which use the registries, proxies and caches that the user has set up."""

import subprocess
import sys
from pathlib import Path

SECONDS = 300  # for each command; some firewalls drop packets instead of refusing them


class RegistryUnreachable(OSError):
    """pip or npm, or the registry that it is set up with, can't be used."""


def pip(action: str, package: str, folder: Path, *options: str) -> None:
    """Have this Python's pip install or download a package, without those that it depends on.

    Args:
        action: "install" or "download".
        package: a requirement, such as "name==1.0".
        folder: where pip runs.
        options: of pip.

    Raises:
        RegistryUnreachable: pip fails, or is missing.
    """
    command = [sys.executable, "-m", "pip", action, "--quiet", "--disable-pip-version-check", "--no-deps", *options]
    run([*command, package], folder, f"pip {action} {package}")


def run(command: list[str], folder: Path, name: str) -> None:
    """Run a command in a folder.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        name: what an error calls it.

    Raises:
        RegistryUnreachable: it fails, or takes longer than `SECONDS`; with the first line of what it said.
    """
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise RegistryUnreachable(f"{name} failed: {lines[0]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryUnreachable(f"{name} failed: {error}") from error
