"""Count and time what the server does, for Prometheus."""

from collections.abc import Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from .work import WorkQueue

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
FACTORS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 5)
RATES = (2, 5, 10, 20, 40, 80, 160, 320)


class Metrics:
    """The metrics of one server, in a registry of their own.

    Args:
        work: the server's queue.
        sessions: its Realtime sessions.

    Attributes:
        requests: by route and status.
        stage_seconds: by stage ("asr", "llm", "tts").
        first_audio: seconds from a request's turn to its first sound.
        real_time_factor: seconds of computing per second of speech, heard or spoken, by stage.
        tokens_per_second: of the language model.
    """

    def __init__(self, work: WorkQueue, sessions: Sized):
        self.registry = CollectorRegistry()
        self.requests = Counter("hfpipe_requests", "Requests answered.", ["route", "status"], registry=self.registry)
        stages = "Seconds that a stage computed for a request."
        self.stage_seconds = Histogram(
            "hfpipe_stage_seconds", stages, ["stage"], buckets=SECONDS, registry=self.registry
        )
        first = "Seconds from the start of computing to the first sound."
        self.first_audio = Histogram("hfpipe_first_audio_seconds", first, buckets=SECONDS, registry=self.registry)
        factor = "Seconds of computing per second of sound."
        self.real_time_factor = Histogram(
            "hfpipe_real_time_factor", factor, ["stage"], buckets=FACTORS, registry=self.registry
        )
        rate = "Tokens per second of the language model."
        self.tokens_per_second = Histogram("hfpipe_tokens_per_second", rate, buckets=RATES, registry=self.registry)
        Gauge("hfpipe_requests_running", "Requests that compute.", registry=self.registry).set_function(
            lambda: work.running
        )
        Gauge("hfpipe_requests_waiting", "Requests in the queue.", registry=self.registry).set_function(
            lambda: work.waiting
        )
        Gauge("hfpipe_sessions", "Realtime sessions.", registry=self.registry).set_function(lambda: len(sessions))

    def observe(self, timings: dict[str, float], *, heard: float = 0.0, spoken: float = 0.0, tokens: int = 0) -> None:
        """Count a request's stages.

        Args:
            timings: as `Clock.timings` gives them.
            heard, spoken: seconds of the recording and of the speech.
            tokens: that the language model wrote.
        """
        for stage in ("asr", "llm", "tts"):
            if stage in timings:
                self.stage_seconds.labels(stage).observe(timings[stage])
        for stage, seconds in (("asr", heard), ("tts", spoken)):
            if seconds and stage in timings:
                self.real_time_factor.labels(stage).observe(timings[stage] / seconds)
        if "first_audio" in timings:
            self.first_audio.observe(timings["first_audio"])
        if tokens and timings.get("llm"):
            self.tokens_per_second.observe(tokens / timings["llm"])
