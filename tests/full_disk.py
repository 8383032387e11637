"""A disk that is full, for files beyond 1 kB."""

import contextlib
import resource
import signal


@contextlib.contextmanager
def full_disk():
    """Limit the size of written files to 1 kB, so that writing more fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
