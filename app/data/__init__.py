"""Data files: rows of csv, spreadsheets, json, parquet, feather, CoNLL, texts and class folders, and the items in them."""

from app.data.items import Input as Input
from app.data.items import InputSchema as InputSchema
from app.data.items import read as read
from app.data.readers import records as records
from app.data.record import ReadOptions as ReadOptions
from app.data.record import Record as Record
