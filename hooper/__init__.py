"""Hooper from Python: train a model on labelled data and publish it, or load a published one and ask it.

    from hooper import get_dataset, load, text_classifier

    model = text_classifier.get_model("bert-base-uncased")
    train, val = get_dataset("imdb", split_ratio=0.8)
    trainer = text_classifier.create_trainer(model, train, val)
    trainer.fit(epochs=3); trainer.save("models/films")

    load("films").predict(["A warm, funny film."])

Training needs the extra `train`; loading needs neither torch nor transformers. Nothing is imported until it is used.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hooper.client import AsyncClient as AsyncClient
    from hooper.client import Client as Client
    from hooper.estimators import TextClassifier as TextClassifier
    from hooper.estimators import TextRegressor as TextRegressor
    from hooper.loaded_model import LoadedModel as LoadedModel
    from hooper.loaded_model import load as load
    from scripts.api import Callback as Callback
    from scripts.api import abstractive_summarizer as abstractive_summarizer
    from scripts.api import get_dataset as get_dataset
    from scripts.api import question_answering as question_answering
    from scripts.api import summarizer as summarizer
    from scripts.api import task_api as task_api
    from scripts.api import text2text_generator as text2text_generator
    from scripts.api import text_classifier as text_classifier
    from scripts.api import text_embedder as text_embedder
    from scripts.api import text_generator as text_generator
    from scripts.api import text_ranker as text_ranker
    from scripts.api import text_regressor as text_regressor
    from scripts.api import token_classifier as token_classifier
    from scripts.api import translator as translator

_TRAINING = (
    "Callback", "abstractive_summarizer", "get_dataset", "question_answering", "summarizer", "task_api",
    "text2text_generator", "text_classifier", "text_embedder", "text_generator", "text_ranker", "text_regressor",
    "token_classifier", "translator",
)  # fmt: skip
_MODULES = {
    **dict.fromkeys(("LoadedModel", "load"), "hooper.loaded_model"),
    **dict.fromkeys(("AsyncClient", "Client"), "hooper.client"),
    **dict.fromkeys(("TextClassifier", "TextRegressor"), "hooper.estimators"),
    **dict.fromkeys(_TRAINING, "scripts.api"),
}
__all__ = sorted(_MODULES)  # noqa: PLE0605  # the same names as above, kept in one place


def __getattr__(name: str) -> Any:
    """PEP 562: a name is imported when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'hooper' has no attribute {name!r}")
    with warnings.catch_warnings():
        # in a notebook without ipywidgets transformers' own bars would complain when they are imported; ours are text there
        warnings.filterwarnings("ignore", message="IProgress not found")
        value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
