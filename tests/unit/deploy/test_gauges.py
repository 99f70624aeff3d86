"""How busy an engine is, out of its metrics."""

from __future__ import annotations

import pytest

from quantry_core.engines import ENGINES
from quantry_core.jobs import EngineKind
from quantry_deploy.drivers.gauges import Load, read_load

VLLM = ENGINES[EngineKind.VLLM].gauges
TEXT = """
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="chat"} 2.0
vllm:num_requests_waiting{engine="1",model_name="chat} with a brace"} 1.0 1795415383
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 40.0
vllm:num_requests_running{engine="0",model_name="chat"} 5.0
vllm:kv_cache_usage_perc{engine="0",model_name="chat"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="chat"} 0.75
"""


def test_requests_of_all_ranks_are_added_up_and_the_fullest_cache_counts() -> None:
    assert read_load(TEXT, VLLM) == Load(num_running=5.0, num_waiting=3.0, kv_use=0.75)


def test_an_engine_without_a_gauge_of_its_cache_says_nothing_of_it() -> None:
    text = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 4\n"
    assert read_load(text, ENGINES[EngineKind.LLAMA_CPP].gauges) == Load(num_running=1.0, num_waiting=4.0, kv_use=None)


@pytest.mark.parametrize(
    "text", ["", "<html>no</html>", "vllm:num_requests_waiting", "vllm:num_requests_waiting NaN", "vllm:num_requests_waiting{} x"]
)
def test_what_is_not_said_is_not_known(text: str) -> None:
    assert read_load(text, VLLM) == Load()


@pytest.mark.parametrize(("said", "known"), [("1.5", 1.0), ("-0.25", 0.0)])
def test_a_share_is_a_share(said: str, known: float) -> None:
    assert read_load(f"vllm:kv_cache_usage_perc {said}", VLLM).kv_use == known
