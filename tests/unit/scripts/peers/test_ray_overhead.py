"""What the comparison with Ray says of what was measured; the services themselves are started by whoever runs it."""

from __future__ import annotations

from scripts.bench.load import LoadResult, Sample
from scripts.peers.ray_overhead import TURNS, configuration, main, overhead


def test_what_ray_adds_is_the_difference_of_the_medians() -> None:
    plain = LoadResult([Sample(0.002, 200)] * 9 + [Sample(0.1, 503)], seconds=1)
    behind_ray = LoadResult([Sample(0.0055, 200)] * 5, seconds=1)
    figures = overhead(1, {"plain": [plain, plain], "ray": [behind_ray]})
    assert figures["added_p50_ms"] == 3.5
    assert figures["requests_per_s"] == {"plain": 9, "ray": 5}
    assert figures["failed"] == {"plain": 2, "ray": 0}


def test_neither_service_is_favoured_by_a_machine_that_changes_its_pace() -> None:
    places = {name: [place for place, turn in enumerate(TURNS) if turn == name] for name in set(TURNS)}
    assert {sum(of_service) for of_service in places.values()} == {3}


def test_ray_runs_one_replica_with_the_plain_service_s_settings() -> None:
    settings = {"models": "/m", "engine_threads": "1"}
    config = configuration(settings, 8107)
    (application,) = config["applications"]
    (deployment,) = application["deployments"]
    assert application["args"] == settings
    assert deployment["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 1}
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8107}


def test_a_service_that_cannot_start_is_told_in_one_sentence(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["--models", str(tmp_path), "--seconds", "0.1"]) == 2
    assert "ended with exit code 2 before it was ready" in capsys.readouterr().err
