"""What columns are called that fields and labels of several tasks are found in, in the languages that exports are in."""

from __future__ import annotations

TEXT_COLUMNS = (
    "text", "sentence", "review", "content", "body", "document", "article", "dialogue", "utterance", "query", "question",
    "message",
    "Satz", "Rezension", "Inhalt", "Dokument", "Artikel", "Nachricht", "Frage",
    "texte", "phrase", "avis", "contenu", "document", "message",
    "texto", "reseña", "contenido", "mensaje", "oración",
    "testo", "recensione", "contenuto", "messaggio",
    "conteúdo", "mensagem", "resenha", "tekst", "bericht", "treść", "wiadomość", "metin", "mesaj",
    "текст", "отзыв", "сообщение", "文本", "内容", "テキスト", "本文", "텍스트", "نص",
)  # fmt: skip
"""Of a text that is read as a whole."""
POSSIBLE_TEXTS = (
    (
        "comment", "comments", "description", "feedback", "complaint", "post", "tweet", "note", "notes", "remark", "remarks",
        "reason", "details", "transcript", "abstract", "reply", "response", "answer", "free text", "input", "verbatim",
        "problem", "issue", "request", "caption", "headline", "statement", "snippet", "paragraph", "passage", "story",
        "Beschreibung", "Kommentar", "Kommentare", "Anmerkung", "Bemerkung", "Notiz", "Beschwerde", "Anliegen", "Freitext",
        "Rückmeldung", "Meldung", "Mitteilung", "Bewertung", "Bewertungstext", "Begründung", "Anfrage", "Antwort", "Problem",
        "Beitrag", "Hinweis", "Volltext",
        "commentaire", "commentaires", "remarque", "réclamation", "demande", "plainte", "réponse", "verbatim",
        "comentario", "comentarios", "descripción", "opinión", "reclamación", "queja", "consulta", "respuesta",
        "commento", "commenti", "descrizione", "opinione", "reclamo", "richiesta", "domanda", "nota",
        "comentário", "comentários", "descrição", "avaliação", "opinião", "reclamação", "pergunta", "resposta",
        "omschrijving", "beschrijving", "opmerking", "klacht", "komentarz", "opis", "opinia", "zgłoszenie", "yorum", "açıklama",
        "kommentar", "beskrivning", "beskrivelse", "комментарий", "описание", "жалоба",
        "评论", "描述", "コメント", "説明", "レビュー", "댓글", "리뷰", "تعليق",
    ),
    ("title", "subject", "Titel", "Betreff", "Überschrift", "titre", "objet", "título", "asunto", "titolo", "oggetto",
     "assunto", "onderwerp", "tytuł", "temat", "başlık", "заголовок", "标题", "タイトル", "name"),
)  # fmt: skip
"""Of a text, where no name says it better: what people write somewhere, and what only heads it."""
LABEL_COLUMNS = (
    "label", "labels", "category", "class", "target", "intent", "sentiment", "topic", "tag", "tags",
    "categories", "classes", "topics", "intents", "gold label", "label text", "class name",
    "Kategorie", "Kategorien", "Klasse", "Thema", "Etikett", "Schlagwort", "Schlagwörter", "Stimmung", "Absicht",
    "catégorie", "catégories", "classe", "étiquette", "étiquettes", "thème", "intention",
    "categoría", "categorías", "clase", "etiqueta", "etiquetas", "tema", "sentimiento",
    "categoria", "categorie", "etichetta", "argomento", "classe", "rótulo", "sentimento",
    "kategoria", "etykieta", "label_name", "kategori", "etiket", "категория", "метка", "класс", "тема", "тональность",
    "标签", "类别", "分类", "ラベル", "カテゴリ", "カテゴリー", "라벨", "카테고리", "تصنيف",
)  # fmt: skip
"""Of a label, or several."""
RATING_COLUMNS = (
    "stars", "rating", "score", "star rating", "overall", "Sterne", "Note", "Punkte", "étoiles", "estrellas", "puntuación",
    "calificación", "valoración", "stelle", "voto", "punteggio", "estrelas", "pontuação", "ocena", "puan", "оценка",
    "评分", "評価",
)  # fmt: skip
"""Of a rating, which is a label where it has few whole numbers, and else a number."""
POSSIBLE_LABELS = (
    (
        "department", "team", "queue", "type", "group", "genre", "emotion", "mood", "polarity", "stance", "section", "theme",
        "subcategory", "kind", "code", "domain", "area", "field", "outcome", "verdict", "spam", "toxic", "annotation",
        "Bewertung", "Abteilung", "Gruppe", "Typ", "Art", "Bereich", "Rubrik", "Ressort", "Sparte", "Fachbereich",
        "Warengruppe", "Zuständigkeit", "Unterkategorie", "Einstufung", "Ergebnis",
        "service", "département", "rubrique", "type", "groupe", "rayon", "évaluation", "humeur",
        "departamento", "tipo", "grupo", "sección", "área", "género",
        "reparto", "gruppo", "sezione", "ufficio", "avaliação", "assunto", "afdeling", "rubriek", "soort", "dział", "typ",
        "отдел", "тип", "部门", "类型", "部署", "種類",
    ),
    ("priority", "status", "product", "language", "result", "reason", "severity", "urgency", "channel", "y",
     "Priorität", "Produkt", "Sprache", "Grund", "Dringlichkeit", "Kanal", "priorité", "statut", "produit", "prioridad",
     "estado", "producto", "priorità", "stato", "prodotto", "prioridade", "produto"),
)  # fmt: skip
"""Of a label, where no name says it better."""
NUMBER_COLUMNS = (
    "score", "value", "rating", "similarity", "stars", "target", "label", *RATING_COLUMNS, "Wert", "valeur", "valor",
)  # fmt: skip
"""Of a number that is learnt as such."""
POSSIBLE_NUMBERS = (("Bewertung", "Ähnlichkeit", "grade", "points", "similarité", "similitud", "avaliação", "évaluation"),)
SUMMARY_COLUMNS = (
    "summary", "highlights", "abstract", "target", "synopsis", "tldr", "tl;dr", "Zusammenfassung", "Kurzfassung", "résumé",
    "resumen", "riassunto", "sommario", "resumo", "samenvatting", "streszczenie", "özet", "аннотация", "摘要", "要約", "요약",
)  # fmt: skip
"""Of a summary."""
QUESTION_COLUMNS = (
    "question", "Frage", "pregunta", "domanda", "pergunta", "vraag", "pytanie", "вопрос", "问题", "質問", "질문", "query",
)  # fmt: skip
CONTEXT_COLUMNS = (
    "context", "passage", "paragraph", "text", "Kontext", "Textstelle", "Abschnitt", "contexte", "paragraphe", "texte",
    "contexto", "texto", "párrafo", "contesto", "testo", "tekst", "контекст", "текст", "上下文", "文脈", "본문",
)  # fmt: skip
ANSWER_COLUMNS = (
    "answers", "answer", "answer_text", "Antwort", "Antworten", "réponse", "réponses", "respuesta", "respuestas", "risposta",
    "resposta", "antwoord", "odpowiedź", "ответ", "答案", "回答", "답변",
)  # fmt: skip
