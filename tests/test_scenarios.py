"""The spoken scenarios pass with the offline models, and one that fails says in which stage."""

import copy
import importlib.util

import pytest
from conftest import EXAMPLES

pytestmark = pytest.mark.offline

SCRIPT = EXAMPLES.parent / "benchmarks" / "scenarios.py"


@pytest.fixture(scope="module")
def scenarios():
    specification = importlib.util.spec_from_file_location("scenarios", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def pipe(offline_pipe):
    return offline_pipe


def patient(scenarios) -> list[dict]:
    """The scenarios, with as much time as a busy machine may need."""
    found = scenarios.read_scenarios(scenarios.SCENARIOS)
    for scenario in found:
        for turn in scenario["turns"]:
            turn["within"] = 600
    return found


def test_all_scenarios_pass(scenarios, pipe):
    found = patient(scenarios)
    assert len(found) >= 10
    failures = {scenario["name"]: scenarios.run_scenario(pipe, scenario) for scenario in found}
    assert set(failures.values()) == {None}, failures


class Mumble:
    """A voice that nobody understands."""

    sampling_rate = 16_000

    def __init__(self, voice):
        self.voice = voice

    def __call__(self, text, language, speaker_wav=None, **options):
        return self.voice(text, language)[::-1].copy() if text.startswith("La") else self.voice(text, language)


@pytest.mark.parametrize("change, stage", [
    ({"heard": ["elefante"]}, "asr"),
    ({"answer": ["elefante"]}, "llm"),
    ({"within": 0}, "time"),
    ({"refused": "no speech"}, "asr"),
])  # fmt: skip
def test_a_failing_scenario_names_its_stage(scenarios, pipe, change, stage):
    scenario = copy.deepcopy(patient(scenarios)[0])
    scenario["turns"][0] |= change
    assert scenarios.run_scenario(pipe, scenario).stage == stage


def test_a_voice_that_is_not_understood_fails_in_its_stage(scenarios, pipe):
    scenario, own = patient(scenarios)[0], pipe.tts
    pipe.tts = Mumble(own)
    pipe.tts.sampling_rate = own.sampling_rate
    try:
        assert scenarios.run_scenario(pipe, scenario).stage == "tts"
    finally:
        pipe.tts = own


def test_what_is_wanted_has_alternatives(scenarios):
    assert scenarios.missing_words(["siete|7", "días"], "Tiene 7 dias.", "es") is None
    assert scenarios.missing_words(["ocho|8", "días"], "Tiene 7 dias.", "es") == "ocho|8"


def test_a_key_that_means_nothing_is_refused(scenarios, tmp_path):
    (tmp_path / "one.yaml").write_text("- {name: uno, turns: [{says: Hola, heards: [hola]}]}")
    with pytest.raises(ValueError, match="heards"):
        scenarios.read_scenarios(tmp_path / "one.yaml")
