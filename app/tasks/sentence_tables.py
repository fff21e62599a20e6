"""What `sentencex` does not know of a language: abbreviations it lacks, and words it takes for abbreviations.

A full stop after one of these words is looked at again; everything else stays as `sentencex` decides. An entry in lower case is
met with a capital, too, but for those of `joining`. `z. b` stands for two words, each with its full stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """Corrections for one language."""

    titles: frozenset[str]
    """No sentence ends here, whatever follows: a name, mostly."""
    joining: frozenset[str]
    """No sentence ends here unless a word follows that begins one."""
    numbered: frozenset[str]
    """No sentence ends here before a number."""
    ending: frozenset[str]
    """A sentence ends here where a capital follows."""
    words: frozenset[str]
    """Words like any other that `sentencex` takes for abbreviations: a sentence ends here where a capital follows."""
    starters: frozenset[str]
    """Words that begin a sentence, and are no part of a name; `L'` with what is joined to it."""
    has_ordinals: bool = False
    """Whether `3.` is the third, so that a capital may follow."""

    title_pairs: frozenset[str] = frozenset()
    """As `titles`, of two words."""
    joining_pairs: frozenset[str] = frozenset()
    """As `joining`, of two words."""

    @property
    def entries(self) -> frozenset[str]:
        """All words that it says something about."""
        halves = {word for pair in self.title_pairs | self.joining_pairs for word in pair.split(". ")}
        return self.titles | self.joining | self.numbered | self.ending | self.words | halves


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _pairs(words: str) -> frozenset[str]:
    return frozenset(pair.strip() for pair in words.split(","))


_ENGLISH = Table(
    titles=_set("""
        mr mrs ms mx messrs dr drs prof profs Rev Revd Hon Gen Col Lt Sgt Capt Cpl Cmdr Adm Maj Brig Supt Insp Det Sen
        Sens Rep Reps Gov Amb Atty Pvt Msgr Cllr Fr Mme Mlle
    """),
    joining=_set("""
        Ft Pt Rd Ln Sq Pkwy Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun approx Approx circa incl excl
    """),
    numbered=_set("""
        no nos tel ext eq eqs fig figs vol vols ch chs chap chaps sec secs sect art arts para paras par pars p pp pg pgs pt
        pts ex exs app tab tabs ref refs max min est op bk rm apt lb lbs oz hr hrs mins secs yr yrs mos wk wks tsp
        tsps tbsp tbsps gal qt mi yd yds mph
    """),
    ending=_set("etc"),
    words=_set("""
        I May arc ark art bros con exec fed fig id ill in mar mass may me miss mo no ok OK op ore pa ref rep sec vol
    """),
    starters=_set("""
        A After All Also Although An And Another Any Are As At Because Before Both But By Can Could Despite Did Do
        Does During Each Even Every Everybody Everyone Few For From Had Has Have He Her Here His How However I If In
        Is It Its Later Many Maybe Meanwhile Most My Neither Never No Nobody None Not Nothing Now On Once One Only Or
        Other Others Our Perhaps She Should Since So Some Several Still Such That The Their Then There These They This
        Those Though Three Through Thus Today Tomorrow Two Until Was We Were What When Where Whether Which While Who
        Why With Without Would Yes Yesterday Yet You Your
    """),
)

_GERMAN = Table(
    titles=_set("""
        dr prof hr hrn fr frl hl ing dipl med phil jur rer nat St Fa Fam lt gem bzw evtl ggf gegebenenfalls insb
        insbes ca vgl sog sogen inkl exkl einschl zzgl abzgl bspw bes ungef zw betr bzgl entspr z.b d.h u.a v.a z.t
        i.d.r u.u s.o s.u o.g
    """),
    title_pairs=_pairs("z. b, d. h, u. a, v. a, z. t, i. d, u. u, s. o, s. u, o. g, a. d, m. e, z. zt, i. a"),
    joining=_set("""
        v d Str str Pl Jh Jhd Jhdt Mio Mrd Tsd Std Min Sek Co GmbH Ges Abt Hbf geb gest gegr verh ehem allg rd urspr
        dt engl frz lat kath max min mind Jan Feb Febr Apr Aug Sep Sept Okt Nov Dez Chr d.R o.ä u.ä o.Ä u.Ä e.V
    """),
    joining_pairs=_pairs("d. r, o. ä, u. ä, v. chr, n. chr, e. v"),
    numbered=_set("""
        nr nrn abb tab kap art abs bd bde s ziff lit aufl jg anm bl sp rn rz fn tel max min mind vers
    """),
    ending=_set("usw usf etc"),
    words=_set("mag ok OK Art Bart Gen"),
    starters=_set("""
        Aber Alle Alles Als Am An Auch Auf Aus Bei Beide Beim Bis Da Dabei Daher Damit Danach Dann Das Dazu Dein Dem
        Den Denn Der Des Deshalb Die Dies Diese Dieser Dieses Doch Dort Drei Du Durch Ein Eine Einem Einen Einer
        Einige Er Es Für Gestern Heute Hier Ich Ihr Ihre Im In Jede Jeder Jedes Jetzt Kein Keine Keiner Man Mehrere
        Mein Meine Mit Nach Nicht Nichts Niemand Noch Nun Nur Ob Obwohl Oder Ohne Schon Sein Seine Seit Sie So
        Trotzdem Um Und Unser Unsere Unter Viele Vom Von Vor Wann Warum Was Weil Wenn Wer Wie Wir Wo Zu Zum Zur Zwei
        Über
    """),
    has_ordinals=True,
)

_FRENCH = Table(
    titles=_set("""
        M MM Mme Mmes Mlle Mlles Me Mgr Dr Drs Pr Prof St Ste Sts Vve env cf bd boul p.ex c.-à-d ch.-l
    """),
    title_pairs=_pairs("p. ex, av. j, apr. j, s. av, s. apr"),
    joining=_set("""
        Cie av apr janv févr avr juil sept oct nov déc s suiv éd coll dép hab tél max min sec hrs Inc S.A J.-C
    """),
    numbered=_set("no nos n chap fig figs vol p pp art al tab éq t h réf ann tél ex max min"),
    ending=_set("etc"),
    words=_set("art ex mal sec vol"),
    starters=_set("""
        À Alors Après Au Aucun Aucune Aujourd' Aussi Aux Avant Avec C' Car Ce Cela Certains Ces Cet Cette Chaque Comme
        Comment D' Dans De Demain Depuis Des Deux Donc Du Elle Elles En Enfin Ensuite Et Hier Il Ils J' Je L' La Le
        Les Leur Leurs Ma Mais Mes Mon N' Ni Nos Notre Nous On Ou Où Par Pas Pendant Personne Plusieurs Pour Pourquoi
        Puis Qu' Quand Que Qui Rien S' Sa Sans Ses Si Son Sous Sur Tous Tout Toute Toutes Trois Tu Un Une Vos Votre
        Vous
    """),
)

_SPANISH = Table(
    titles=_set("""
        Sr Sra Srta Sres Sras Srtas Dr Dra Dres Dras Dña Dn Prof Profa Profs Lic Ing Arq Gral Cnel Sto Sta Mons Excmo
        Fray Vd Vds aprox p.ej
    """),
    title_pairs=_pairs("p. ej"),
    joining=_set("""
        D Ud Uds Avda Av Pza Ctra Cía S.A S.L ene feb abr jun jul ago sept oct nov dic máx mín seg min dpto ext hrs
    """),
    joining_pairs=_pairs("ee. uu, rr. hh, ff. aa, a. c, d. c, j. c, a. j, d. j, s. a, s. l"),
    numbered=_set("""
        núm núms pág págs p pp cap caps art arts vol fig figs tel tfno tít párr sec ref n máx mín
    """),
    ending=_set("etc"),
    words=_set("""
        ambi an ante anti art auto bien bis con contra da de dom en entre ex extra fin homo in inter intra macro mar
        may mega mi micro mini mono multi neo no pen poli pos post pre pro reg retro sobre sub super supra tras ultra
        un vice vid vie vol
    """),
    starters=_set("""
        A Además Ahora Ahí Al Algunos Allí Antes Aquel Aquí Aunque Ayer Cada Como Con Cuando De Del Desde Después
        Donde Dos Durante El Ella Ellas Ellos En Entonces Era Es Ese Esa Eso Esta Este Estas Estos Está Están Fue
        Hasta Hay Hoy La Las Le Les Lo Los Luego Mañana Me Mi Mis Muchos Nada Nadie Ni No Nos Nosotros Nuestra Nuestro
        Nunca O Para Pero Por Porque Qué Quién Se Según Si Sin Son Su Sus Sí También Te Tiene Todas Todo Todos Tras
        Tres Tu Tus Tú Un Una Unas Unos Usted Ustedes Varios Y Yo Él
    """),
)

TABLES: Mapping[str, Table] = {"en": _ENGLISH, "de": _GERMAN, "fr": _FRENCH, "es": _SPANISH}
"""By the language's code."""
