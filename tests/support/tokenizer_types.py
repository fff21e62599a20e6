"""Tokenizers of the types that checkpoints come with, trained in a moment on a few sentences."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tokenizers import Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as _Tokenizer

from app.tasks.tokenizer import Tokenizer

CORPUS = (
    "The old library burned down in 1897. A new library opened in 1903, and a museum was added in 1911.",
    "The bridge cost $1,250,000 and was paid by Anna Schmidt and Jean-Luc O'Neil, who lived in Hollingsworth.",
    "When did it open? Who paid for the bridge? How much did it cost, and in which year was that?",
    "東京は日本の首都です。図書館は1903年に開館しました。 我喜欢读书，也喜欢看电影。 한국어 도서관은 서울에 있다.",
    "Привет, как дела? Ünïcödé, café and naïve. สวัสดีครับ हिन्दी भाषा مرحبا بالعالم 🙂",
)
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
PREPEND = ("always", "first", "never")


@cache
def definition(name: str) -> str:
    """The text of a tokenizer.json of this type; `TYPES` has their names."""
    return str(TYPES[name]().to_str())


def tokenizer_of(name: str, max_tokens: int = 512) -> Tokenizer:
    """The tokenizer of this type."""
    return Tokenizer(definition(name), max_tokens)


def _word_piece(lower: bool) -> _Tokenizer:
    tokenizer = _Tokenizer(models.WordPiece({}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    _train(tokenizer, trainers.WordPieceTrainer)
    return _between(tokenizer)


def _byte_level(trim_offsets: bool, before: bool, after: bool, roberta: bool = True) -> _Tokenizer:
    """`before` and `after` say whether a blank is put before the first word, in splitting and in reading offsets."""
    tokenizer = _Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=before)
    _train(tokenizer, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    if roberta:
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", 3), ("<s>", 2), trim_offsets=trim_offsets, add_prefix_space=after
        )
        return tokenizer
    marks = processors.ByteLevel(trim_offsets=trim_offsets, add_prefix_space=after)
    tokenizer.post_processor = processors.Sequence([marks, _between(tokenizer).post_processor])
    return tokenizer


def _unigram(prepend: str, lower: bool = False) -> _Tokenizer:
    tokenizer = _Tokenizer(models.Unigram())
    steps: list[Any] = [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence([*steps, *([normalizers.Lowercase()] if lower else [])])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    _train(tokenizer, trainers.UnigramTrainer, unk_token="<unk>")
    return _between(tokenizer, "<s> $A </s> </s> $B </s>")


def _byte_fallback() -> _Tokenizer:
    """As Llama has it: blanks are replaced before anything is split, and what the vocabulary lacks is spelled in bytes."""
    tokenizer = _Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    numbers = [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=[*SPECIAL, *numbers], limit_alphabet=40, show_progress=False, max_token_length=8
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # so that no piece holds two words
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer = _Tokenizer.from_str(json.dumps({**json.loads(tokenizer.to_str()), "pre_tokenizer": None}))
    return _between(tokenizer, "<s>:0 $A:0 <s>:1 $B:1", "<s> $A")


def _train(tokenizer: _Tokenizer, trainer: Callable[..., Any], **options: Any) -> None:
    vocabulary = 700 if "initial_alphabet" in options else 300
    tokenizer.train_from_iterator(
        CORPUS, trainer(vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False, **options)
    )


def _between(tokenizer: _Tokenizer, pair: str = "<s>:0 $A:0 </s>:0 $B:1 </s>:1", single: str = "<s> $A </s>") -> _Tokenizer:
    special = [(token, SPECIAL.index(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    return tokenizer


TYPES: dict[str, Callable[[], _Tokenizer]] = {
    "WordPiece": lambda: _word_piece(lower=True),
    "WordPiece, cased": lambda: _word_piece(lower=False),
    **{
        f"byte-level BPE, trim {trim}, prefix {before} {after}": lambda trim=trim, before=before, after=after: _byte_level(
            trim, before, after
        )
        for trim in (True, False)
        for before, after in ((True, True), (False, False), (True, False), (False, True))
    },
    "byte-level BPE in a sequence": lambda: _byte_level(True, False, True, roberta=False),
    **{f"Unigram, prepend {prepend}": lambda prepend=prepend: _unigram(prepend) for prepend in PREPEND},
    "Unigram, lower case": lambda: _unigram("always", lower=True),
    "BPE with byte fallback": _byte_fallback,
}
TEXTS: Sequence[str] = (
    "The bridge cost $1,250,000 and was paid by the state.",
    "  Two blanks before,\ttabs\tand\nnew\r\nlines between, blanks behind  \n",
    "I",
    " I am",
    "a.b (c) [d] \"e\" 'f' — g–h … don't O’Neil Jean-Luc",
    "東京は日本の首都です。図書館は1903年に開館しました。",
    "我喜欢读书，也喜欢看电影。\u3000全角　空白",
    "한국어 도서관은 서울에 있다. \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "สวัสดีครับ น้ำใจ ภาษาไทย",
    "हिन्दी भाषा और संस्कृति",
    "مرحبا بالعالم، كيف الحال؟ שָׁלוֹם",
    "Привет, как дела? Ёлка Їжак",
    "cafe\u0301 na\u0308ive e\u0301\u0323 ﬁne ½ ² Ⅳ ﷺ İstanbul ß",
    "🙂 👍🏽 👩\u200d👩\u200d👧 🇩🇪🇫🇷 ❤\ufe0f 1\ufe0f\u20e3 x🙂y",
    "a\u00a0b\u2009c\u200bd\u200ee\ufefff\u00adg",
)
"""Many scripts, blanks of all kinds, marks, and characters of several code points."""
QUESTION = "Who paid for it?"
CONTEXT = (
    "  The bridge, built by Jean-Luc O'Neil,\tcost $1,250,000.\nIt opened on 27 September 1883; the cafe\u0301 came later. "
    "東京 の 図書館 は 1903 年 に 開館しました。 Anna Schmidt lived in Hollingsworth 🙂 then."
)
SURFACES = (
    "The", "bridge", "Jean-Luc O'Neil", "$1,250,000", "27 September 1883", "cafe\u0301", "東京", "図書館", "1903", "年",
    "Anna Schmidt", "Hollingsworth", "🙂", "then",
)  # fmt: skip
"""Words of that context, in all its scripts."""
