"""Certificates that live as long as a test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization


@dataclass(frozen=True, slots=True)
class Certificate:
    """Paths of PEM files for `localhost`, signed by an authority of their own."""

    authority: str
    chain: str
    key: str
    chain_and_key: str
    encrypted_key: str
    """Its password is `hush`."""
    other_key: str
    """Of another certificate."""

    @classmethod
    def create(cls, folder: Path) -> Certificate:
        authority = trustme.CA()
        ours, other = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("localhost")
        private_key = serialization.load_pem_private_key(ours.private_key_pem.bytes(), None)
        encrypted = private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hush"),
        )
        chain = b"".join(part.bytes() for part in ours.cert_chain_pems)
        content = {
            "authority": authority.cert_pem.bytes(),
            "chain": chain,
            "key": ours.private_key_pem.bytes(),
            "chain_and_key": ours.private_key_and_cert_chain_pem.bytes(),
            "encrypted_key": encrypted,
            "other_key": other.private_key_pem.bytes(),
        }
        for name, pem in content.items():
            (folder / f"{name}.pem").write_bytes(pem)
        return cls(**{name: str(folder / f"{name}.pem") for name in content})
