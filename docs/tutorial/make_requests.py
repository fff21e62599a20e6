"""Write the two files of the tutorial: a spreadsheet of support requests, and a csv file as a German Excel saves one.

`python docs/tutorial/make_requests.py [FOLDER]`; needs xlsxwriter (`pip install 'hooper[batch]'`). The requests are made up.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import xlsxwriter

HEADER = ("Ticket", "Beschreibung", "Kategorie")
TO_TRAIN_ON = {
    "Rechnung": """\
Die Rechnung für März ist doppelt abgebucht worden.
Warum ist der Betrag auf der Rechnung höher als im Angebot?
Bitte schicken Sie mir die Rechnung noch einmal als PDF.
Auf der Rechnung fehlt unsere Umsatzsteuernummer.
Ich habe die Rechnung schon überwiesen und trotzdem eine Mahnung bekommen.
Können wir künftig auf Rechnung statt mit Kreditkarte zahlen?
Die Gutschrift für die stornierte Bestellung steht noch aus.
Meine Bankverbindung hat sich geändert, bitte buchen Sie vom neuen Konto ab.
Der Rabatt von 10 % wurde auf der Rechnung nicht berücksichtigt.
Wann muss ich die Rechnung spätestens bezahlen?
Sie haben mir eine Mahngebühr berechnet, obwohl ich pünktlich gezahlt habe.
Wir brauchen die Rechnung auf eine andere Anschrift ausgestellt.
Von meinem Konto wurden 49 Euro zu viel abgebucht.
Die Lastschrift ist geplatzt, wie kann ich den Betrag überweisen?
Bitte erstatten Sie mir den zu viel gezahlten Betrag zurück.""",
    "Technik": """\
Der Drucker lässt sich nicht mehr einschalten.
Seit dem Update stürzt die App beim Öffnen ab.
Ich kann mich nicht anmelden, das Passwort wird nicht angenommen.
Das Gerät verbindet sich nicht mit dem WLAN.
Der Bildschirm bleibt schwarz, obwohl das Gerät läuft.
Beim Speichern erscheint die Fehlermeldung 0x80070005.
Der Akku ist nach einer Stunde leer.
Die Software lässt sich auf meinem Rechner nicht installieren.
Nach dem Neustart sind alle Einstellungen gelöscht.
Die Tastatur reagiert nicht auf die Umlaute ä, ö und ü.
Das Mikrofon wird in Videokonferenzen nicht erkannt.
Die Webseite lädt im Browser nur noch halb.
Wie setze ich das Gerät auf die Werkseinstellungen zurück?
Der Scanner bricht bei jeder zweiten Seite mit einem Fehler ab.
Das Programm reagiert nicht mehr, sobald ich eine große Datei öffne.""",
    "Lieferung": """\
Mein Paket ist seit einer Woche unterwegs und noch nicht da.
Die Sendungsnummer wird beim Paketdienst nicht gefunden.
Das Paket kam beschädigt bei mir an.
Können Sie die Lieferung an eine Packstation schicken?
Laut Paketdienst wurde zugestellt, aber ich habe nichts erhalten.
In der Sendung fehlt einer der drei bestellten Artikel.
Wann wird meine Bestellung endlich geliefert?
Der Bote hat das Paket im Regen vor der Tür abgestellt.
Ich habe die falsche Größe geliefert bekommen.
Bitte liefern Sie erst nächste Woche, wir sind im Urlaub.
Das Paket liegt seit Tagen im Verteilzentrum in Köln.
Die Spedition ist zum vereinbarten Termin nicht erschienen.
Kann ich die Lieferadresse nach der Bestellung noch ändern?
Die Sendung wurde an den Absender zurückgeschickt.
Das Päckchen hängt beim Zoll fest.""",
}
HELD_OUT = {
    "Rechnung": """\
Auf der Rechnung steht ein falscher Betrag.
Ich warte noch auf die Gutschrift für meine Rücksendung.
Warum bekomme ich eine Mahnung, obwohl ich überwiesen habe?
Der Betrag wurde zweimal vom Konto abgebucht.
Bitte ändern Sie die Anschrift auf unserer Rechnung.
Kann ich in Raten bezahlen?
Die Umsatzsteuer auf der Rechnung stimmt nicht.""",
    "Technik": """\
Die App stürzt ab, wenn ich ein Foto öffne.
Der Bildschirm flackert seit dem letzten Update.
Das Gerät findet unser WLAN nicht.
Mein Passwort funktioniert nicht mehr.
Beim Drucken erscheint eine Fehlermeldung.
Das Programm lässt sich nicht installieren.
Der Akku lädt nicht mehr auf.""",
    "Lieferung": """\
Das Paket wurde beim Nachbarn abgegeben, der nichts davon weiß.
Wo bleibt meine Bestellung?
Die Lieferung ist unvollständig, zwei Artikel fehlen.
Der Karton war beim Empfang aufgerissen.
Bitte schicken Sie das Paket an meine Büroadresse.
Der Paketdienst hat mich nicht angetroffen.
Die Sendung steht seit Montag auf „in Zustellung“.""",
}


def rows(requests: dict[str, str], first_ticket: int) -> list[tuple[int, str, str]]:
    """One request of each category in turn, as they came in."""
    in_turn = zip(*(text.splitlines() for text in requests.values()), strict=True)
    pairs = [pair for texts in in_turn for pair in zip(texts, requests, strict=True)]
    return [(ticket, text, category) for ticket, (text, category) in enumerate(pairs, first_ticket)]


def write_spreadsheet(path: Path, table: list[tuple[int, str, str]]) -> None:
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet("Anfragen")
        for number, row in enumerate([HEADER, *table]):
            sheet.write_row(number, 0, row)


def write_csv(path: Path, table: list[tuple[int, str, str]]) -> None:
    """With semicolons and in Windows' encoding."""
    with path.open("w", encoding="cp1252", newline="") as stream:
        csv.writer(stream, delimiter=";").writerows([HEADER, *table])


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for name, write, requests, first_ticket in (
        ("anfragen.xlsx", write_spreadsheet, TO_TRAIN_ON, 1001),
        ("geprueft.csv", write_csv, HELD_OUT, 2001),
    ):
        table = rows(requests, first_ticket)
        write(folder / name, table)
        print(f"{name}: {len(table)} requests")


if __name__ == "__main__":
    main()
