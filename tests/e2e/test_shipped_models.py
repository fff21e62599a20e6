"""The models of this repository, served as `make serve` serves them, asked what a person would ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.serving.repository import Repository
from tests.support.live_service import ROOT, LiveService

MODELS = ROOT / "models"

PRAISE = [
    "I laughed, I cried, and I would see it again tomorrow.",
    "A masterpiece: every scene is beautiful and the actors are superb.",
    "The kindest, funniest and most moving story of the year.",
    "Wonderful from the first minute to the last.",
]
BLAME = [
    "A dreadful waste of two hours; I walked out before the end.",
    "The plot is stupid, the acting is wooden and the jokes are painfully unfunny.",
    "Boring, predictable and far too long.",
    "This is the worst film I have ever had to sit through.",
]
PLAIN = "They sat at the table and talked about the weather while the train went by. "
LONG = PLAIN * 60 + "It was a terrible, boring, ugly film and I hated every minute of it. " * 15


@pytest.fixture
def client(shipped_service: LiveService) -> Iterator[httpx.Client]:
    with shipped_service.client() as made:
        yield made


def classify(client: httpx.Client, inputs: Any, **options: Any) -> Any:
    response = client.post("/v1/classify", json={"inputs": inputs, "model": "sentiment", **options})
    assert response.status_code == 200, response.text
    return response.json()["results"]


def test_every_published_model_is_loaded_and_says_what_it_runs_on(client: httpx.Client) -> None:
    repository = Repository(MODELS)
    assert "sentiment" in repository.names()
    loaded = {entry["name"]: entry for entry in client.get("/v1/models").json()["models"]}
    assert list(loaded) == repository.names()
    for entry in loaded.values():
        assert entry["state"] == "ready"
        assert entry["execution_providers"]
        assert entry["parity"]["fp32"]["passed"]


def test_the_shipped_models_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in MODELS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 200e6
    assert sum(size for path, size in sizes.items() if path.parts[-3] == "sentiment") < 30e6


@pytest.mark.parametrize(("texts", "label"), [(PRAISE, "positive"), (BLAME, "negative")])
def test_what_is_obvious_is_told_right(client: httpx.Client, texts: list[str], label: str) -> None:
    for text, result in zip(texts, classify(client, texts), strict=True):
        best = result["labels"][0]
        assert best["label"] == label, text
        assert best["score"] > 0.8, text


def test_a_text_alone_scores_as_it_does_in_a_list(client: httpx.Client) -> None:
    together = classify(client, [*PRAISE, LONG, *BLAME])
    (alone,) = classify(client, PRAISE[0])
    assert alone["labels"][0]["score"] == pytest.approx(together[0]["labels"][0]["score"], abs=0.02)


def test_a_long_text_is_cut_refused_or_read_in_windows_as_the_caller_wishes(client: httpx.Client) -> None:
    limit = client.get("/v1/models/sentiment").json()["limits"]["max_tokens"]
    (cut,) = classify(client, LONG, truncation="truncate")
    assert (cut["num_tokens"], cut["truncated"]) == (limit, True)
    (read,) = classify(client, LONG, truncation="window")
    assert read["num_tokens"] > 2 * limit
    assert not read["truncated"]
    # what is said only at the end is lost with the cut
    score = {
        mode: {entry["label"]: entry["score"] for entry in result["labels"]} for mode, result in (("cut", cut), ("read", read))
    }
    assert score["read"]["negative"] > score["cut"]["negative"]
    refused = client.post("/v1/classify", json={"inputs": LONG, "model": "sentiment", "truncation": "error"})
    assert refused.status_code == 413
    assert str(limit) in refused.json()["detail"]


def test_the_examples_of_the_docs_page_run_on_the_shipped_models(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    for route in ("classify", "answer", "summarize", "tag", "explain"):
        body = f"{route.capitalize()}Request"
        for example in schema["components"]["schemas"][body]["examples"]:
            response = client.post(f"/v1/{route}", json=example)
            if response.status_code == 404:  # of a task without a model that ships
                assert "no loaded model does text-ranking" in response.text
                continue
            assert response.status_code == 200, response.text
            assert all("error" not in entry for entry in response.json()["results"])


# --- question answering


def answer(client: httpx.Client, question: str, context: str, **options: Any) -> Any:
    inputs = {"question": question, "context": context}
    response = client.post("/v1/answer", json={"inputs": inputs, "model": "qa", **options})
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    for entry in result["answers"]:
        assert context[entry["start"] : entry["end"]] == entry["answer"]
        assert 0 <= entry["score"] <= 1
    return result


@pytest.mark.parametrize(
    ("question", "context", "expected"),
    [
        ("Who painted the portrait?", "The portrait was painted by Maria Lopez in 1899 and hangs in Madrid.", "Maria Lopez"),
        ("When was it painted?", "The portrait was painted by Maria Lopez in 1899 and hangs in Madrid.", "1899"),
        ("Where does it hang?", "The portrait was painted by Maria Lopez in 1899 and hangs in Madrid.", "Madrid"),
        ("How many people live there?", "About 4,200 people live in the village, most of them farmers.", "4,200"),
    ],
)
def test_what_a_text_says_plainly_is_found_in_it(client: httpx.Client, question: str, context: str, expected: str) -> None:
    best = answer(client, question, context)["answers"][0]
    assert expected in best["answer"]
    assert len(best["answer"]) < len(expected) + 20


@pytest.mark.parametrize(
    "filler", ["🙂👩\u200d👩\u200d👧 ", "电影很好。", "Cafe\u0301 e\u0301tude ", "\tone\r\n", "¿Ünïcödé? "]
)
def test_offsets_are_counted_in_the_callers_own_characters(client: httpx.Client, filler: str) -> None:
    context = f"{filler * 8}The bridge was repaired by Anna Schmidt in 2011.{filler * 3}"
    best = answer(client, "Who repaired the bridge?", context)["answers"][0]
    assert "Anna Schmidt" in best["answer"]


def test_an_answer_far_into_a_long_text_is_found(client: httpx.Client) -> None:
    context = PLAIN * 60 + "The password of the old safe is marmalade, said the clerk. " + PLAIN * 60
    found = answer(client, "What is the password of the old safe?", context)
    assert "marmalade" in found["answers"][0]["answer"]
    assert not found["truncated"]
    cut = answer(client, "What is the password of the old safe?", context, truncation="truncate")
    assert cut["truncated"]
    assert "marmalade" not in cut["answers"][0]["answer"]


@pytest.mark.parametrize(
    ("question", "sentence", "whole"),
    [
        ("How much did the bridge cost?", "the bridge cost $1,250,000 and was paid by the state.", "$1,250,000"),
        pytest.param(
            *("When did the bridge open?", "the bridge opened on 27 September 1883 with a parade.", "27 September 1883"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("Who built the bridge?", "the bridge was built by Hollingsworth in the old days.", "Hollingsworth"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_answer_is_whole_wherever_a_windows_border_falls(
    client: httpx.Client, question: str, sentence: str, whole: str
) -> None:
    for num_words in range(358, 374, 2):  # the border lies before, in and behind the answer
        found = answer(client, question, "rain " * num_words + sentence + " " + PLAIN * 4, top_k=3)["answers"]
        assert whole in found[0]["answer"]
        assert len(found[0]["answer"]) < len(whole) + 4


def test_no_answer_is_likelier_where_there_is_none(client: httpx.Client) -> None:
    context = "The portrait was painted by Maria Lopez in 1899 and hangs in Madrid."
    there = answer(client, "Who painted the portrait?", context, allow_no_answer=True)
    missing = answer(client, "How many moons does Jupiter have?", context, allow_no_answer=True, top_k=3)
    assert there["answers"][0]["answer"]
    assert missing["no_answer_score"] > there["no_answer_score"]
    assert "" in [entry["answer"] for entry in missing["answers"]]


def test_several_answers_do_not_overlap(client: httpx.Client) -> None:
    context = "Anna repaired the bridge in 2011, Ben the road in 2015 and Clara the tower in 2020."
    found = answer(client, "Who repaired something?", context, top_k=5)["answers"]
    assert len(found) > 1
    assert all(
        match["end"] <= other["start"] or match["start"] >= other["end"] for match in found for other in found if match != other
    )


# --- summarization


def summarize(client: httpx.Client, text: str, **options: Any) -> Any:
    response = client.post("/v1/summarize", json={"inputs": text, "model": "summary", **options})
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    for entry in result["sentences"]:
        assert text[entry["start"] : entry["end"]] == entry["text"]
    return result


NEWS = (
    "The city council voted on Tuesday to close the old market hall. Engineers had warned for years that its roof could fall."
    " About forty traders will move to a tent on the station square by March. It rained on the day of the vote. Some of them"
    " have sold fish there for three generations. The mayor wore a blue coat. The council expects the repair to cost four"
    " million euros and to take two years. Nobody spoke for a while."
)


def test_a_summary_keeps_what_matters(client: httpx.Client) -> None:
    found = summarize(client, NEWS)
    assert 1 <= len(found["sentences"]) <= 3
    assert "market hall" in found["summary"]
    assert "blue coat" not in found["summary"]


@pytest.mark.parametrize(
    "text",
    ["One", "...", "- eggs\n- milk\n- flour\n- sugar", "HALL CLOSES", "word " * 3000, "电影很好。我喜欢它。"],
)  # fmt: skip
def test_whatever_a_text_looks_like_some_of_it_is_kept(client: httpx.Client, text: str) -> None:
    assert summarize(client, text)["sentences"]


@pytest.mark.slow
def test_two_hundred_kilobytes_are_summed_up(client: httpx.Client) -> None:
    text = " ".join(
        f"On day {number} the expedition walked {number % 17} miles and saw {number % 5} birds." for number in range(3500)
    )
    found = summarize(client, text, max_sentences=5)
    assert len(text) > 200_000
    assert 1 <= len(found["sentences"]) <= 5
    assert not found["truncated"]


# --- token classification


def tag(client: httpx.Client, text: str, **options: Any) -> list[tuple[str, str]]:
    response = client.post("/v1/tag", json={"inputs": text, "model": "ner", **options})
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    for entity in result["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
        assert 0 <= entity["score"] <= 1
    return [(entity["label"], entity["text"]) for entity in result["entities"]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Angela Merkel met Emmanuel Macron.", [("PER", "Angela Merkel"), ("PER", "Emmanuel Macron")]),
        ("BAYERN MUNICH BEAT BARCELONA", [("ORG", "BAYERN MUNICH"), ("ORG", "BARCELONA")]),
        ("She flew from london to tokyo on monday.", [("LOC", "london"), ("LOC", "tokyo")]),
        ("🙂 Zoë Müller lives in São Paulo.", [("PER", "Zoë Müller"), ("LOC", "São Paulo")]),
        ("Nobody came, and nothing happened.", []),
    ],
)  # fmt: skip
def test_plain_names_are_found_however_they_are_written(
    client: httpx.Client, text: str, expected: list[tuple[str, str]]
) -> None:
    assert tag(client, text) == expected


def test_a_name_is_found_wherever_it_stands_in_a_long_text(client: httpx.Client) -> None:
    text = PLAIN * 60 + "Then Angela Merkel flew to Tokyo. " + PLAIN * 60
    found = tag(client, text)
    assert " ".join(name for _, name in found) == "Angela Merkel Tokyo"
    assert found[-1] == ("LOC", "Tokyo")


# --- translation


def translate(client: httpx.Client, inputs: Any, **options: Any) -> list[dict[str, Any]]:
    response = client.post("/v1/translate", json={"inputs": inputs, **options})
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


@pytest.mark.parametrize("options", [{}, {"num_beams": 4}])
def test_what_a_picture_shows_is_said_in_german(client: httpx.Client, options: dict[str, Any]) -> None:
    results = translate(client, ["A man is riding a bicycle.", "Two women are sitting on a bench."], **options)
    for result, words in zip(results, (("Mann", "Fahrrad"), ("Zwei Frauen", "Bank")), strict=True):
        assert all(word in result["translation"] for word in words), result["translation"]
        assert result["finish_reason"] == "stop"


def test_each_sentence_is_translated_in_its_place(client: httpx.Client) -> None:
    one, other = translate(client, ["A man is riding a bicycle.", "Two women are sitting on a bench."])
    (both,) = translate(client, "A man is riding a bicycle.\n\nTwo women are sitting on a bench.")
    assert both["translation"] == f"{one['translation']}\n\n{other['translation']}"
