"""What happens when things break, shown by measurements of the real service: from a checkout, not in the wheel."""
