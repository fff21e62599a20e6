"""The way from labelled data to a published model, in five lines of Python.

    from hooper import text_classifier, get_dataset

    model = text_classifier.get_model("bert-base-uncased")
    train, val = get_dataset("imdb", split_ratio=0.8)
    trainer = text_classifier.create_trainer(model, train, val)
    trainer.fit(epochs=3); loss, accuracy = trainer.evaluate(val); trainer.save("imdb_classifier")

`text_regressor`, `text_ranker`, `text_embedder`, `question_answering`, `summarizer`, `token_classifier`, `translator`,
`abstractive_summarizer`, `text2text_generator` and `text_generator` go the same way, and `task_api(name)` any other task. A
thin layer over `scripts.training`: what is not said here is a recipe's default, and what `hooper train` refuses is refused
here: one sentence in an exception of `app.core.errors`.
"""

from scripts.api.data import get_dataset as get_dataset
from scripts.api.tasks import abstractive_summarizer as abstractive_summarizer
from scripts.api.tasks import question_answering as question_answering
from scripts.api.tasks import summarizer as summarizer
from scripts.api.tasks import task_api as task_api
from scripts.api.tasks import text2text_generator as text2text_generator
from scripts.api.tasks import text_classifier as text_classifier
from scripts.api.tasks import text_embedder as text_embedder
from scripts.api.tasks import text_generator as text_generator
from scripts.api.tasks import text_ranker as text_ranker
from scripts.api.tasks import text_regressor as text_regressor
from scripts.api.tasks import token_classifier as token_classifier
from scripts.api.tasks import translator as translator
from scripts.training.callbacks import Callback as Callback
