"""HTTP and nothing else: the only home of fastapi and starlette."""
