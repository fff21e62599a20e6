"""Tokens that detect-secrets has no detector for, or one that also finds words of ordinary code; read by it as a plugin."""

from __future__ import annotations

import re

from detect_secrets.plugins.base import RegexBasedDetector


class ServiceTokenDetector(RegexBasedDetector):  # type: ignore[misc]  # its package has no types
    """Tokens of GitHub, Hugging Face, Google and of APIs whose secret keys begin with `sk-`."""

    secret_type = "Service Token"  # noqa: S105 - what it is called in a report
    denylist = (
        re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b"),
        re.compile(r"\bhf_[A-Za-z0-9]{34}\b"),
        re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
        re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{40,}"),
    )
