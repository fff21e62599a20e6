"""`POST /v1/summarize`: what is answered."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.requests import Service
from tests.support.tiny_model import MAX_TOKENS

DOCUMENT = "A bad film. Good films! Not very bad. Good was the film that was not bad. The film was a film."


async def summarize(service: Service, inputs: object, **options: object) -> Any:
    response = await service.ask("summarize", inputs, **options)
    assert response.status_code == 200, response.text
    return response.json()


async def problem(service: Service, inputs: object, status: int, **options: object) -> str:
    response = await service.ask("summarize", inputs, **options)
    assert response.status_code == status, response.text
    detail: str = response.json()["detail"]
    return detail


async def test_a_summary_is_made_of_the_documents_own_sentences(every_task: Service) -> None:
    told = await summarize(every_task, DOCUMENT, max_sentences=2, min_sentences=2)
    assert told["model"] == {"name": "summarization", "version": 1}
    (result,) = told["results"]
    assert list(result)[:2] == ["summary", "sentences"]
    assert [result[name] for name in ("alternatives", "finish_reason", "num_new_tokens")] == [None] * 3  # nothing was written
    found = result["sentences"]
    assert [list(match) for match in found] == [["text", "start", "end", "score"]] * 2
    assert all(DOCUMENT[match["start"] : match["end"]] == match["text"] for match in found)
    assert [match["start"] for match in found] == sorted(match["start"] for match in found)
    assert result["summary"] == " ".join(match["text"] for match in found)
    assert result["summary"] == "Good films! Good was the film that was not bad."


async def test_the_caller_says_how_many_sentences_to_keep_at_most_and_at_least(every_task: Service) -> None:
    (result,) = (await summarize(every_task, DOCUMENT))["results"]
    assert 1 <= len(result["sentences"]) <= 3
    (all_of_it,) = (await summarize(every_task, DOCUMENT, max_sentences=9, min_sentences=9))["results"]
    assert all_of_it["summary"] == DOCUMENT
    detail = await problem(every_task, DOCUMENT, 422, max_sentences=2, min_sentences=4)
    assert "min_sentences is 4, more than max_sentences, 2" in detail


async def test_a_summary_that_is_written_wants_a_model_that_can(every_task: Service) -> None:
    detail = await problem(every_task, DOCUMENT, 404, method="abstractive")
    assert detail == "no loaded model does abstractive-summarization; `hooper models add` adds one"


@pytest.mark.parametrize("options", [{"max_new_tokens": 9}, {"stop": ["a"]}, {"stream": True}, {"temperature": 0.5}])
async def test_options_of_a_text_that_is_written_are_refused_where_sentences_are_taken(
    every_task: Service, options: dict[str, Any]
) -> None:
    (name,) = options
    detail = await problem(every_task, DOCUMENT, 422, **options)
    assert detail.startswith(f"{name}: is no option of this model: it takes sentences from the text")


async def test_a_list_is_answered_in_its_order_and_a_bad_item_fails_alone(every_task: Service) -> None:
    one, empty, wrong, other = (await summarize(every_task, [DOCUMENT, " ", 5, "good"], method="extractive"))["results"]
    assert one == (await summarize(every_task, DOCUMENT))["results"][0]
    assert empty["error"]["detail"] == "text: must not be empty"
    assert wrong["error"]["type"] == "invalid_input"
    assert other["summary"] == "good"


async def test_a_long_document_is_read_to_its_end(every_task: Service) -> None:
    text = "The film was not very. " * 30 + "Good good end."
    (read,) = (await summarize(every_task, text, max_sentences=1))["results"]
    assert read["summary"] == "Good good end."
    assert read["num_tokens"] > MAX_TOKENS
    assert not read["truncated"]
    (cut,) = (await summarize(every_task, text, max_sentences=1, truncation="truncate"))["results"]
    assert cut["truncated"]
    assert cut["sentences"][0]["end"] < text.index("Good")
    assert "tokens" in await problem(every_task, text, 413, truncation="error")


@pytest.mark.parametrize(
    "text", ["- good\n- bad\n- film", "HEADLINE\n\nTEXT", "good bad " * 200, "...", "电影。好！", "\u0301"]
)
async def test_whatever_the_text_looks_like_some_of_it_is_kept(every_task: Service, text: str) -> None:
    (result,) = (await summarize(every_task, text))["results"]
    assert result["sentences"]
    assert all(text[entry["start"] : entry["end"]] == entry["text"] for entry in result["sentences"])


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_sentences", 0),
        ("max_sentences", "3"),
        ("method", "poetic"),
        ("min_sentences", 0),
        ("truncation", "x"),
        ("num_sentences", 2),
    ],
)
async def test_a_wrong_option_is_named(every_task: Service, option: str, value: object) -> None:
    assert option in await problem(every_task, DOCUMENT, 422, **{option: value})


@pytest.mark.parametrize("inputs", [3, None, {}, [], {"text": "good"}])
async def test_inputs_of_another_shape_are_refused(every_task: Service, inputs: object) -> None:
    assert "inputs" in await problem(every_task, inputs, 422)


async def test_an_empty_document_is_refused(every_task: Service) -> None:
    assert await problem(every_task, "\n", 422) == "inputs: must not be empty"


async def test_the_caller_may_say_the_language_which_decides_where_sentences_end(every_task: Service) -> None:
    text = "Am 3. Quartal war es good. Am Ende nicht."
    (german,) = (await summarize(every_task, text, language="de", max_sentences=9, min_sentences=9))["results"]
    (english,) = (await summarize(every_task, text, max_sentences=9, min_sentences=9))["results"]
    assert [entry["text"] for entry in german["sentences"]] == ["Am 3. Quartal war es good.", "Am Ende nicht."]
    assert len(english["sentences"]) == 3
    assert (await summarize(every_task, text, language=None, max_sentences=9, min_sentences=9))["results"] == [english]


@pytest.mark.parametrize("language", ["german", "", "d", "de_AT", 5, "de-" + "a" * 40])
async def test_what_is_no_code_of_a_language_is_refused(language: object, every_task: Service) -> None:
    assert "language" in await problem(every_task, DOCUMENT, 422, language=language)
