"""What a process does before it serves."""

from __future__ import annotations

import subprocess
import sys

SERVED = """
import gc
import uvicorn
from app.server import serve
from app.settings import Settings

def run(server):
    print(gc.get_freeze_count(), len(gc.get_objects()))

uvicorn.Server.run = run
serve(Settings())
"""


def test_what_stands_in_memory_before_the_service_begins_is_not_looked_through_again() -> None:
    ran = subprocess.run([sys.executable, "-c", SERVED], capture_output=True, text=True, check=True)
    num_set_aside, num_left = map(int, ran.stdout.split())
    assert num_set_aside > 100 * num_left
