"""Servers of the tiny models."""

import pytest

import hfpipe

from .serving import running


@pytest.fixture(scope="session")
def server(voice_qa, tmp_path_factory):
    """A server of the tiny pipeline."""
    with running(voice_qa, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="session")
def client(server):
    """The official client of that server."""
    return server.client()


@pytest.fixture(scope="session")
def xtts_server(tiny_whisper, tiny_chat, tiny_xtts, tmp_path_factory):
    """A server whose voice can be saved, has names and a speed."""
    pipe = hfpipe.load(str(tiny_whisper), llm=str(tiny_chat), tts=str(tiny_xtts), precision="float32")
    short = {"do_sample": False, "max_new_tokens": 12}
    pipe.defaults = pipe.defaults.updated(max_new_tokens=8, tts_kwargs=short)
    with running(pipe, tmp_path_factory.mktemp("xtts_server")) as server:
        yield server
