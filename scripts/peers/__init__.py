"""Comparisons of Hooper with others, whose figures the documents quote: from a checkout, not in the wheel."""
