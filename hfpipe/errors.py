"""The errors that callers tell apart; the others are Python's own."""

from .pipeline.engine_cancel import Cancelled
from .pipeline.errors import NoSpeech

__all__ = ["Cancelled", "NoSpeech"]
