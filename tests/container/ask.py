"""Asks a ready service one question of each named task and checks what is answered: runs where the service runs.

ask.py text-classification question-answering summarization
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

ADDRESS = "http://127.0.0.1:8000"
CONTEXT = "The old library burned down in 1897. A new library opened in 1903. It was paid for by the people of the town."


def post(route: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(f"{ADDRESS}/v1/{route}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)["results"][0]


def classify() -> str:
    first = post("classify", {"inputs": "A warm, funny film that I would happily watch again."})["labels"][0]
    assert first["label"] == "positive", first
    long = post("classify", {"inputs": "good film " * 2000})
    assert long["truncated"], long
    return f"{first['label']} {first['score']:.3f}"


def answer() -> str:
    first = post("answer", {"inputs": {"question": "When did the new library open?", "context": CONTEXT}})["answers"][0]
    assert first["answer"] == "1903" == CONTEXT[first["start"] : first["end"]], first
    return f"{first['answer']} {first['score']:.3f}"


def summarize() -> str:
    result = post("summarize", {"inputs": CONTEXT, "max_sentences": 1})
    (sentence,) = result["sentences"]
    assert result["summary"] == sentence["text"] == CONTEXT[sentence["start"] : sentence["end"]], result
    return str(result["summary"])


ROUTES = {"text-classification": classify, "question-answering": answer, "summarization": summarize}

if __name__ == "__main__":
    for task in sys.argv[1:]:
        print(f"{task}: {ROUTES[task]()}")
