"""Asks a service from several connections at once until it no longer listens, and tells what became of each request.

Runs in the service's network namespace. Prints `loaded` once every connection has had answers, and at the end
{"answered": {request id: status}, "unanswered": [request id]} as one line of JSON.
"""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection, HTTPException

NUM_CLIENTS = 16
WARM = 3
"""Answers that each client has had when the load counts as running."""
BODY = json.dumps({"inputs": "A film that is " + "very " * 60 + "good."})


class Client(threading.Thread):
    """One request after another, each on a connection of its own."""

    def __init__(self, number: int, warm: threading.Semaphore) -> None:
        super().__init__()
        self.number, self._warm = number, warm
        self.answered: dict[str, int] = {}
        self.unanswered: list[str] = []

    def run(self) -> None:
        while self._ask(f"load-{self.number}-{len(self.answered) + len(self.unanswered)}"):
            if len(self.answered) == WARM:
                self._warm.release()

    def _ask(self, request_id: str) -> bool:
        """Whether the service still listens."""
        connection = HTTPConnection("127.0.0.1", 8000, timeout=120)
        try:
            connection.connect()
        except OSError:
            return False
        try:
            connection.request("POST", "/v1/classify", BODY, {"Content-Type": "application/json", "X-Request-Id": request_id})
            response = connection.getresponse()
            json.loads(response.read())  # all of it came
        except (OSError, HTTPException, ValueError):
            self.unanswered.append(request_id)
        else:
            self.answered[request_id] = response.status
        finally:
            connection.close()
        return True


if __name__ == "__main__":
    warm = threading.Semaphore(0)
    clients = [Client(number, warm) for number in range(NUM_CLIENTS)]
    for client in clients:
        client.start()
    for _ in clients:
        warm.acquire()
    print("loaded", flush=True)
    for client in clients:
        client.join()
    answered = {key: status for client in clients for key, status in client.answered.items()}
    print(json.dumps({"answered": answered, "unanswered": [entry for client in clients for entry in client.unanswered]}))
