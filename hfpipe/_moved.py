"""The import paths of hfpipe 0.1 that README and notebooks showed: each still works, with a DeprecationWarning."""

import importlib
import importlib.abc
import importlib.util
import sys
import types
import warnings

MOVED = {  # by old module, the room and module where its names are now
    "asr": "pipeline.asr_whisper",
    "audio": "pipeline.audio",
    "check": "cli.machine",
    "colab": "notebook.colab",
    "hub": "pipeline.hub_access",
    "lab": "notebook.laboratory",
    "players": "notebook.playback",
    "plots": "notebook.plots",
    "speakable": "pipeline.text_speakable",
}


class _Moved(types.ModuleType):
    """A module whose names are another's. It may be called where it hides a function of its name."""

    def __getattr__(self, name):
        return getattr(self._target(), name)

    def __call__(self, *args, **kwargs):
        return getattr(self._target(), self.__name__.rpartition(".")[2])(*args, **kwargs)

    def _target(self) -> types.ModuleType:
        package, _, name = self.__name__.rpartition(".")
        return importlib.import_module(f"{package}.{MOVED[name]}")


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find the old modules, and load each as a `_Moved`."""

    def find_spec(self, fullname: str, path=None, target=None):
        package, _, name = fullname.rpartition(".")
        if package != __package__ or name not in MOVED:
            return None
        warnings.warn(
            f"{fullname} is now {package}.{MOVED[name]}; its public names are in {package}, or in {package}.notebook.",
            DeprecationWarning,
            stacklevel=2,
        )
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec) -> types.ModuleType:
        return _Moved(spec.name)

    def exec_module(self, module) -> None:
        """Do nothing: the names are looked up in the new module."""


sys.meta_path.append(_Finder())
