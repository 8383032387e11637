"""What the notebooks import from `hfpipe.notebook` is there, and importing the package alone loads none of it."""

import pkgutil
import subprocess
import sys

import pytest

from hfpipe import notebook


@pytest.mark.parametrize("name", notebook.__all__)
def test_each_exported_name_is_a_function(name):
    assert callable(getattr(notebook, name)) and name in dir(notebook)


def test_no_module_is_named_like_an_exported_function():
    assert not {module.name for module in pkgutil.iter_modules(notebook.__path__)} & set(notebook.__all__)


def test_importing_the_package_loads_neither_torch_nor_its_modules():
    code = "import sys, hfpipe.notebook; print(*(m for m in sys.modules if m == 'torch' or 'hfpipe.notebook.' in m))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == ""


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'sing'.*record"):
        notebook.sing  # noqa: B018
