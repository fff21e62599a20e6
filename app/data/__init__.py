"""Data files: rows of csv, tsv, json lines, json, parquet, texts and class folders, and the items in their columns."""

from app.data.items import Input as Input
from app.data.items import InputSchema as InputSchema
from app.data.items import read as read
from app.data.readers import ReadOptions as ReadOptions
from app.data.readers import Record as Record
from app.data.readers import records as records
