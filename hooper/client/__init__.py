"""A client of a running service: `Client`, and `AsyncClient` with the same methods to be awaited."""

from app.core.errors import SetupError

try:
    import httpx as httpx
except ImportError:
    raise SetupError("the client needs httpx: pip install 'hooper[client]'") from None

from hooper.client.asynchronous import AsyncClient as AsyncClient
from hooper.client.blocking import Client as Client
from hooper.client.results import AnswerList as AnswerList
