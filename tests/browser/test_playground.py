"""The playground in a real browser, over the real service and the shipped models."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Open
from tests.support.live_service import ROOT, LiveService, serving
from tests.support.tiny_model import publish_tiny

MODELS = ROOT / "models"
TASKS = [("sentiment", "Classify"), ("qa", "Answer"), ("summary", "Summarize")]
QUICK_TASKS = [TASKS[0], *(pytest.param(*task, marks=pytest.mark.slow) for task in TASKS[1:])]
"""For what one task shows of all; a page costs some seconds of the processor."""
QUOTES = "It's \"good\", isn't it?\n\\ $HOME `id` %s 🙂 café"


def choose(page: Page, model: str) -> None:
    page.get_by_role("radio", name=model).check()


def press(page: Page, verb: str) -> None:
    page.get_by_role("button", name=verb, exact=True).click()
    expect(page.locator(".answer:not([aria-busy]) .facts")).to_be_visible()


def facts(page: Page) -> dict[str, str]:
    """What stands beside the answer, by name."""
    return {fact.locator("dt").inner_text(): fact.locator("dd").inner_text() for fact in page.locator(".facts dl > div").all()}


def answer_of(page: Page, route: str) -> Any:
    """What the service answers to the request that the page shows as curl, without the page."""
    page.get_by_role("button", name="Copy as curl").click()
    body = json.loads(re.search(r"-d '(.*)'$", page.locator("pre").inner_text())[1].replace("'\\''", "'"))  # type: ignore[index]
    return page.request.post(f"{page.url}{route}", data=body).json()["results"][0]


# --- every task


@pytest.mark.parametrize(("model", "verb"), QUICK_TASKS)
def test_the_first_click_shows_an_answer_and_where_its_time_went(open_page: Open, model: str, verb: str) -> None:
    with open_page() as page:
        choose(page, model)
        press(page, verb)
        shown = facts(page)
        assert all(re.fullmatch(r"[\d.]+ ms", shown[name]) for name in ("Tokenize", "Queue", "Inference"))
        assert shown["Batch"] == "1 row"
        assert re.fullmatch(r"\d+ tokens", shown["Read"])
        loaded = {entry["name"]: entry for entry in page.request.get(f"{page.url}v1/models").json()["models"]}
        assert shown["Model"] == f"{model}/{loaded[model]['version']}"
        provider = loaded[model]["execution_providers"][0].removesuffix("ExecutionProvider")
        assert shown["Runs on"] == f"{provider}, {loaded[model]['precision']}"


def test_the_answer_is_lit_up_and_its_runners_up_are_a_click_away(open_page: Open) -> None:
    with open_page() as page:
        choose(page, "qa")
        press(page, "Answer")
        marked = page.locator(".document mark")
        expect(marked).to_have_text("1903")
        answers = answer_of(page, "v1/answer")["answers"]
        assert len(answers) == 3
        page.locator(".choice").nth(1).click()
        expect(marked).to_have_text(answers[1]["answer"])
        expect(page.locator(".best")).to_have_text(answers[1]["answer"])


@pytest.mark.slow
def test_what_is_lit_up_is_the_answer_whatever_characters_stand_before_it(open_page: Open) -> None:
    with open_page() as page:
        choose(page, "qa")
        page.get_by_role("textbox", name="Question").fill("Who repaired the bridge?")
        context = "🙂👩\u200d👩\u200d👧 𝒳 Cafe\u0301. The bridge was repaired by Anna Schmidt in 2011. 🙂"
        page.get_by_role("textbox", name="Context").fill(context)
        press(page, "Answer")
        best = answer_of(page, "v1/answer")["answers"][0]
        assert best["start"] > 10
        expect(page.locator(".document mark")).to_have_text(best["answer"])
        assert page.locator(".document").inner_text() == context


def cut_long_texts(page: Page) -> None:
    """Choose, wherever it is to be chosen, that a long text is cut and not read in windows."""
    expect(page.locator("select").first).to_be_attached()  # each task's form is a module that is loaded when it is needed
    page.locator("select").evaluate_all(
        "all => all.forEach(field => { if (field.value === 'window') field.value = 'truncate' })"
    )


def test_the_chosen_sentences_are_lit_up_and_a_slider_says_how_many(open_page: Open) -> None:
    with open_page() as page:
        choose(page, "summary")
        press(page, "Summarize")
        marks = page.locator(".document mark")
        expect(marks).to_have_count(3)
        assert marks.all_inner_texts() == [entry["text"] for entry in answer_of(page, "v1/summarize")["sentences"]]
        page.get_by_role("slider", name="Sentences to keep").fill("1")
        expect(marks).to_have_count(1)
        assert page.locator(".best").inner_text() == marks.inner_text()


@pytest.mark.slow
def test_a_text_that_was_cut_says_so_and_can_be_read_whole(open_page: Open) -> None:
    with open_page() as page:
        cut_long_texts(page)
        page.get_by_role("button", name="Too long for the model").click()
        expect(page.get_by_text("Only the beginning was read: 512 tokens")).to_be_visible()
        cut = page.locator(".labels .score").first.inner_text()
        page.get_by_role("button", name="Read all of it").click()
        expect(page.get_by_text("this was read in overlapping windows: at least")).to_be_visible()
        assert page.locator(".labels .score").first.inner_text() != cut


@pytest.mark.slow
def test_what_was_typed_for_one_model_is_there_after_another_was_looked_at(open_page: Open) -> None:
    with open_page() as page:
        page.get_by_label("Text", exact=True).fill("my own words")
        choose(page, "qa")
        choose(page, "sentiment")
        expect(page.get_by_label("Text", exact=True)).to_have_value("my own words")


def test_markup_in_a_text_stays_text(open_page: Open) -> None:
    with open_page() as page:
        choose(page, "summary")
        text = "<img src=x onerror=alert(1)> The council <b>voted</b> on Tuesday. The hall is closed."
        page.get_by_role("textbox", name="Document").fill(text)
        press(page, "Summarize")
        assert page.locator(".document").inner_text() == text
        expect(page.locator("main img, main b")).to_have_count(0)


# --- why


EXPLAINED = {
    "tokens": [
        {"text": "A", "start": 0, "end": 1, "weight": 0.0},
        {"text": "warm", "start": 2, "end": 6, "weight": 0.5},
        {"text": "funny", "start": 8, "end": 13, "weight": 0.2},
        {"text": "film", "start": 14, "end": 18, "weight": -0.4},
    ],
    "target": "positive", "score": 0.9, "num_tokens": 14, "truncated": False,
}  # fmt: skip


def test_an_explanation_colours_words_and_tells_their_sides_without_colour_too(open_page: Open) -> None:
    with open_page() as page:
        asked = []

        def explain(route: Route) -> None:
            asked.append(route.request.post_data_json)
            model = {"name": "sentiment", "version": 1}
            route.fulfill(json={"model": model, "results": [EXPLAINED], "usage": {"num_tokens": 14}})

        page.route("**/v1/explain", explain)
        press(page, "Classify")
        page.get_by_role("button", name="Why?").click()
        words = page.locator(".words")
        expect(words.locator(".for.step-3")).to_have_text("warm")
        expect(words.locator(".against.step-3")).to_have_text("film")
        expect(words).to_have_text("A warm, funny film that I would happily watch again.")
        lines = [
            words.locator(name).evaluate("one => getComputedStyle(one).borderBottomStyle")
            for name in (".for.step-3", ".against")
        ]
        assert lines == ["solid", "dashed"]
        expect(page.locator(".legend")).to_contain_text("against it, dashed line")
        expect(page.locator(".why")).to_contain_text("Strongest evidence for: warm (+0.50), funny (+0.20).")
        expect(page.locator(".why")).to_contain_text("Strongest evidence against: film (−0.40).")
        text = "A warm, funny film that I would happily watch again."
        assert asked == [{"model": "sentiment", "inputs": text, "target": None}]


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False], ids=["field named", "field not named"])
def test_the_words_of_a_question_and_of_its_context_are_told_apart(open_page: Open, named: bool) -> None:
    placed = [("context", "When", 0, 0.4), ("context", "it", 5, -0.3), ("question", "did", 5, 0.2)]
    tokens = [
        {"text": text, "start": start, "end": start + len(text), "weight": weight} | ({"field": field} if named else {})
        for field, text, start, weight in placed
    ]
    answered = {"model": {"name": "qa", "version": 1}, "usage": {"num_tokens": 9}, "results": [EXPLAINED | {"tokens": tokens}]}
    with open_page() as page:
        page.route("**/v1/explain", lambda route: route.fulfill(json=answered))
        choose(page, "qa")
        page.get_by_role("textbox", name="Question").fill("When did it open?")
        page.get_by_role("textbox", name="Context").fill("When it opened in 1903, it rained.")
        press(page, "Answer")
        page.get_by_role("button", name="Why?").click()
        paragraphs = page.locator(".words")
        expect(paragraphs).to_have_text(["When it opened in 1903, it rained.", "When did it open?"])
        assert paragraphs.nth(0).locator(".for, .against").all_inner_texts() == ["When", "it"]
        assert paragraphs.nth(1).locator(".for, .against").all_inner_texts() == ["did"]


@pytest.mark.parametrize(("model", "verb"), QUICK_TASKS)
def test_why_explains_or_says_in_a_sentence_that_this_service_cannot(open_page: Open, model: str, verb: str) -> None:
    with open_page(expected=("404",)) as page:
        can = "/v1/explain" in page.request.get(f"{page.url}openapi.json").json()["paths"]
        choose(page, model)
        press(page, verb)
        page.get_by_role("button", name="Why?").click()
        if can:
            expect(page.locator(".words").first).to_be_visible(timeout=30_000)
            expect(page.locator(".words .for, .words .against").first).to_be_visible()
        else:
            expect(page.locator(".why")).to_contain_text("This service cannot explain its answers.")


# --- copy


@pytest.mark.parametrize("language", ["curl", pytest.param("Python", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("model", "verb"), QUICK_TASKS)
def test_what_is_copied_runs_and_gets_the_same_answer(open_page: Open, model: str, verb: str, language: str) -> None:
    if language == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with open_page(permissions=["clipboard-read", "clipboard-write"]) as page:
        choose(page, model)
        page.locator("textarea:visible").first.fill(QUOTES)
        press(page, verb)
        page.get_by_role("button", name=f"Copy as {language}").click()
        expect(page.get_by_role("status")).to_have_text(f"Copied as {language}.")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == page.locator("pre").text_content()
        command = ["bash", "-c", copied] if language == "curl" else [sys.executable, "-c", copied]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        (result,) = json.loads(ran.stdout)["results"]
        answered = result.get("labels") or result.get("answers") or result.get("sentences")
        texts = [entry.get("label") or entry.get("answer") or entry.get("text") for entry in answered]
        assert texts
        shown = page.locator(".answer").inner_text()
        assert all(" ".join(text.split()) in " ".join(shown.split()) for text in texts)


# --- errors


def test_an_empty_text_is_refused_in_human_words(open_page: Open) -> None:
    with open_page(expected=("422",)) as page:
        page.get_by_label("Text", exact=True).fill("   ")
        page.get_by_role("button", name="Classify").click()
        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("Something in the request is not right.")
        expect(alert).to_contain_text("Inputs: ")


@pytest.mark.slow
def test_a_text_that_is_too_long_is_refused_with_both_numbers(open_page: Open) -> None:
    with open_page(expected=("413",)) as page:
        page.get_by_role("button", name="Too long for the model").click()
        page.get_by_text("Options").click()
        page.get_by_label("Where the text is too long").select_option(label="Refuse it")
        page.get_by_role("button", name="Classify").click()
        expect(page.get_by_role("alert")).to_contain_text("The text is too long.")
        expect(page.get_by_role("alert")).to_contain_text("512")


def test_a_busy_service_says_how_long_to_wait(open_page: Open) -> None:
    with open_page(expected=("429",)) as page:
        problem = {"type": "overloaded", "title": "Busy", "status": 429, "detail": "9 rows are waiting", "request_id": "x"}
        headers = {"Retry-After": "2"}
        page.route("**/v1/classify", lambda route: route.fulfill(status=429, headers=headers, json=problem))
        page.get_by_role("button", name="Classify").click()
        expect(page.get_by_role("alert")).to_contain_text("The service is busy. 9 rows are waiting.")
        again = page.get_by_role("button", name="Try again")
        expect(again).to_be_disabled()
        expect(page.get_by_role("alert")).to_contain_text("in 1 second")
        expect(again).to_be_enabled()
        page.unroute("**/v1/classify")
        again.click()
        expect(page.locator(".facts")).to_be_visible()


@pytest.mark.slow
def test_a_service_that_is_gone_is_told_and_answers_again_when_it_is_back(open_page: Open) -> None:
    with open_page(expected=("ERR_",)) as page:
        expect(page.get_by_role("button", name="Classify")).to_be_visible()  # the form is a module of its own, fetched first
        page.context.set_offline(True)
        page.get_by_role("button", name="Classify").click()
        expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached.")
        expect(page.locator("#live-state")).to_contain_text("cannot be reached")
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".facts")).to_be_visible()
        expect(page.locator("#live-state")).not_to_contain_text("cannot be reached")


def test_a_service_with_keys_asks_for_one_and_never_writes_it_out(open_page: Open) -> None:
    hashed = hashlib.sha256(b"open sesame").hexdigest()
    with (
        serving(MODELS, serve="sentiment", api_key_hashes=hashed) as keyed,
        open_page(url=keyed.url, expected=("401",)) as page,
    ):
        box = page.get_by_label("API key")
        expect(box).to_be_focused()
        box.fill("wrong")
        box.press("Enter")
        expect(page.locator("#notice")).to_contain_text("does not accept this API key")
        box.fill("open sesame")
        box.press("Enter")
        press(page, "Classify")
        expect(box).to_be_hidden()
        expect(page.locator("#notice")).to_be_hidden()
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.locator("pre")).to_contain_text("Bearer $HOOPER_API_KEY")
        assert "sesame" not in page.content()
        page.reload()
        press(page, "Classify")  # kept as long as the tab


# --- live


@pytest.mark.slow  # the figures that it draws are read in the test below
def test_the_live_view_draws_what_the_service_does(open_page: Open) -> None:
    with open_page() as page:
        numbers = page.locator(".chart .number")
        expect(numbers).to_have_count(4)
        expect(numbers.nth(0)).to_have_text("0.0")  # the first step is over: what comes now lies in the next
        for _ in range(3):
            press(page, "Classify")
        expect(numbers.nth(2)).to_have_text("1.0")
        expect(numbers.nth(3)).to_have_text(re.compile(r"^\d+$"))
        expect(page.get_by_role("img", name="Rows per batch: 1.0 on average")).to_be_visible()
        assert re.match(r"M[\d.]+ [\d.]+", page.locator(".chart .thick").nth(2).get_attribute("d") or "")


def test_metrics_are_read_as_prometheus_reads_them(open_page: Open) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with open_page() as page:
        press(page, "Classify")
        text = page.request.get(f"{page.url}metrics").text()
        found = page.evaluate("async (text) => (await import('./static/playground/live.js')).parse(text)", text)
        expected = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        assert len(found) > 50
        assert [(match["name"], match["labels"], match["value"]) for match in found if match["value"] is not None] == [
            (entry.name, entry.labels, entry.value) for entry in expected
        ]


QUANTILES: list[tuple[list[list[Any]], float, float | None]] = [
    ([], 0.5, None),
    ([[0.1, 0], [1, 0]], 0.5, None),
    ([[0.1, 10], [0.2, 10]], 0.5, 50),
    ([[0.1, 0], [0.2, 4]], 0.5, 150),
    ([[0.1, 5], [0.2, 10]], 0.95, 190),
    ([[0.1, 1], ["inf", 10]], 0.95, 100),
]


@pytest.mark.slow
def test_a_quantile_lies_where_prometheus_puts_it(open_page: Open) -> None:
    ask = (
        "async ([counts, part]) => (await import('./static/playground/live.js'))"
        ".quantile(counts.map(([limit, count]) => [limit === 'inf' ? Infinity : limit, count]), part)"
    )
    with open_page() as page:
        for counts, part, expected in QUANTILES:
            found = page.evaluate(ask, [counts, part])
            assert found == (None if expected is None else pytest.approx(expected)), counts


# --- everybody


def test_everything_can_be_done_with_the_keyboard_alone(open_page: Open) -> None:
    with open_page() as page:
        expect(page.get_by_role("radio", name="sentiment")).to_be_checked()
        keyboard = page.keyboard
        keyboard.press("Tab")
        expect(page.get_by_text("Skip to the text")).to_be_focused()
        assert page.get_by_text("Skip to the text").bounding_box()["width"] > 50  # type: ignore[index]
        for _ in range(5):  # the name, three links, the models
            keyboard.press("Tab")
        expect(page.get_by_role("radio", name="sentiment")).to_be_focused()
        keyboard.press("ArrowDown")
        expect(page.get_by_role("radio", name="qa")).to_be_checked()
        tab_to(page, "Question")
        keyboard.press("ControlOrMeta+a")
        keyboard.type("When did the old library burn down?")
        keyboard.press("Control+Enter")
        expect(page.locator(".best")).to_have_text("1897")
        expect(page.get_by_role("status")).to_contain_text("Answer: 1897")
        tab_to(page, "1897")
        keyboard.press("ArrowDown")
        expect(page.locator(".choice input").nth(1)).to_be_checked()
        tab_to(page, "Copy as curl")
        keyboard.press("Enter")
        expect(page.locator("pre")).to_be_visible()


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the control with this name has the focus, which must be seen there."""
    focused = page.locator(":focus")
    for _ in range(40):
        page.keyboard.press("Tab")
        found = focused.evaluate("one => one.labels?.[0]?.innerText ?? one.innerText")
        if found.startswith(name):
            visible = (
                "one => [one, one.closest('.model, .choice')]"
                ".some((some) => some && getComputedStyle(some).outlineStyle !== 'none')"
            )
            assert focused.evaluate(visible)
            return
    raise AssertionError(f"Tab never reached {name}")


@pytest.mark.parametrize("width", [pytest.param(390, marks=pytest.mark.slow), 320])
def test_it_is_readable_on_a_phone(open_page: Open, width: int) -> None:
    with open_page(viewport={"width": width, "height": 700}, has_touch=True) as page:
        for model, verb in TASKS:
            choose(page, model)
            press(page, verb)
            expect(page.get_by_role("heading", name="Answer", exact=True)).to_be_in_viewport()
            page.get_by_role("button", name="Copy as Python").click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        buttons = [button for button in page.get_by_role("button").all() if button.is_visible()]
        small = [button for button in buttons if button.bounding_box()["height"] < 32]  # type: ignore[index]
        assert small == []


@pytest.mark.slow
def test_the_page_follows_the_scheme_of_the_system(open_page: Open) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        with open_page(color_scheme=scheme) as page:
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            grounds[scheme] = sum(int(part) for part in re.findall(r"\d+", ground)) / 3
    assert grounds["light"] > 230
    assert grounds["dark"] < 40


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/hooper/", "/hooper"])
def test_it_works_behind_a_prefix(open_page: Open, prefixed_service: LiveService, path: str) -> None:
    with open_page(path, url=prefixed_service.url) as page:
        press(page, "Classify")
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.locator("pre")).to_contain_text(f"{prefixed_service.url}/hooper/v1/classify")
        docs = page.get_by_role("link", name="API docs").evaluate("one => one.href")
        assert docs == f"{prefixed_service.url}/hooper/docs"
        assert page.request.get(docs).ok


@pytest.mark.slow
def test_a_version_beside_the_main_one_is_shown_and_asked_by_its_number(open_page: Open, tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    publish_tiny(tmp_path, version=2)
    hashed = hashlib.sha256(b"admin").hexdigest()
    with serving(tmp_path, serve="tiny/1", admin_key_hashes=hashed) as two, two.client() as client:
        body, admin = {"shadow": True}, {"Authorization": "Bearer admin"}
        assert client.post("/v1/models/tiny/load", json=body, headers=admin).status_code == 200
        with open_page(url=two.url) as page:
            expect(page.get_by_role("radio", name="tiny", exact=False)).to_have_count(2)
            for name, version in (("tiny/2", "tiny/2"), ("tiny", "tiny/1")):
                page.locator(f'input[name="model"][value="{name}"]').check()
                press(page, "Classify")
                assert facts(page)["Model"] == version


def test_a_model_that_could_not_be_loaded_is_told_beside_those_that_were(open_page: Open, shipped_service: LiveService) -> None:
    with open_page("/static/favicon.svg") as page:  # anything light, before it is settled what /v1/models answers
        shown = page.request.get(f"{shipped_service.url}/v1/models").json()
        shown["failed"] = [{"model": "topics/2", "detail": "model.onnx differs from the checksum in manifest.json"}]
        page.route("**/v1/models", lambda route: route.fulfill(json=shown))
        page.goto(shipped_service.url)
        expect(page.locator("#notice")).to_have_text(
            "topics/2 could not be loaded: model.onnx differs from the checksum in manifest.json."
        )
        expect(page.get_by_role("radio", name="sentiment")).to_be_checked()


def test_models_appear_without_a_reload_once_they_are_loaded(open_page: Open, shipped_service: LiveService) -> None:
    with open_page("/static/favicon.svg") as page:
        answers = iter([{"models": []}, page.request.get(f"{shipped_service.url}/v1/models").json()])
        page.route("**/v1/models", lambda route: route.fulfill(json=next(answers)))
        page.route("**/health/ready", lambda route: route.fulfill(json={"status": "ready", "models": []}))
        page.goto(shipped_service.url)
        expect(page.get_by_text("No model is loaded yet.")).to_be_visible()
        expect(page.get_by_role("radio", name="sentiment")).to_be_visible()
        expect(page.locator("#notice")).to_be_hidden()
