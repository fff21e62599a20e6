"""How fast the service is, beside what the machine could do."""
