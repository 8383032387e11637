#!/bin/sh
# Create a virtual environment with everything that the two requirements files pin. Usage: sh setup.sh FOLDER
set -eu
venv=$1

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; }
find_python() {
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.14; do
        if fits "$candidate"; then echo "$candidate"; return; fi
    done
}
# A dependency of resemblyzer is compiled when it is installed, which takes a C compiler and Python's headers.
compiles() {
    printf '#include <Python.h>\n' | cc -E -I"$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')" - >/dev/null 2>&1
}
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

python=$(find_python)
if [ -z "$python" ] || ! compiles "$python" || ! has_venv "$python"; then
    packages="python3 python3-venv python3-dev gcc libc6-dev"
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "Installing the Debian packages $packages"
        apt-get update -qq && apt-get install -y -qq $packages
        python=$(find_python)
    fi
fi
if [ -z "$python" ]; then
    echo "No Python 3.11 to 3.14 here. Install one (python.org, pyenv, apt-get install python3) or set PYTHON=/path/to/python." >&2
    exit 1
fi
if ! has_venv "$python"; then
    echo "$python has no venv module. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2
    exit 1
fi
if ! compiles "$python"; then
    echo "No C compiler, or no headers of $python. On Debian or Ubuntu: sudo apt-get install gcc python3-dev" >&2
    echo "On macOS: xcode-select --install" >&2
    exit 1
fi

echo "Installing into $venv, once: a few minutes and 7 GB of disk"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-jupyter.txt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
"$venv/bin/python" -m pip check
# Its metadata pins versions that nothing else resolves with; the extra "chatterbox" has what it imports.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps chatterbox-tts==0.1.7
