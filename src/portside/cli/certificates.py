"""Checks of the TLS certificate and its key, with an explanation of what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from portside.cli.errors import CertificateInvalid
from portside.files.text import explain

RSA_SIZES = (2048, 3072, 4096)
"""Bits. The server signs with ring, which supports no other sizes."""

CURVES = (ec.SECP256R1, ec.SECP384R1)
"""ring verifies signatures with P-521, but cannot sign with it."""

KINDS = "RSA with 2048, 3072 or 4096 bits, P-256, P-384 and Ed25519 are supported"

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check_certificate(certificate_path: str, key_path: str) -> tuple[bytes, bytes]:
    """Return the content of a certificate and of its key, which the server can use.

    The server itself would prompt for the password of an encrypted key, and does not explain most
    other problems. Raises CertificateInvalid.
    """
    certificate_content = _read(certificate_path, "certificate")
    certificate = _parse_certificate(certificate_content, certificate_path)
    key_content = _read(key_path, "key")
    key = _parse_key(key_content, key_path)
    _check_kind(key, key_path)
    if _written(key.public_key()) != _written(_public_key(certificate, certificate_path)):
        foreign = f"the key {key_path} does not belong to the certificate {certificate_path}"
        raise CertificateInvalid(f"{foreign}, or that is not the first certificate in the file")
    return certificate_content, key_content


def is_self_signed(path: str) -> bool:
    """Whether clients do not trust a certificate by themselves; raises CertificateInvalid."""
    certificate = _read_certificate(path)
    return certificate.issuer == certificate.subject


def validity(path: str) -> tuple[float, float]:
    """Return when a certificate begins and ends, in seconds since 1970.

    Raises CertificateInvalid.
    """
    certificate = _read_certificate(path)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begin.timestamp(), end.timestamp()


def host_names(path: str) -> list[str]:
    """Return the names that a certificate is valid for, in their order.

    Raises CertificateInvalid.
    """
    certificate = _read_certificate(path)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _read(path: str, what: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CertificateInvalid(f"cannot read the {what} {path}: {explain(error)}") from error
    if content.startswith(BYTE_ORDER_MARK):
        marked = "begins with a byte order mark; save it without one"
        raise CertificateInvalid(f"the {what} {path} is not PEM: it {marked}")
    return content


def _read_certificate(path: str) -> x509.Certificate:
    return _parse_certificate(_read(path, "certificate"), path)


def _parse_certificate(content: bytes, path: str) -> x509.Certificate:
    if b"-----BEGIN CERTIFICATE-----" not in content:
        has_key = b"PRIVATE KEY-----" in content
        found = "it contains a key" if has_key else "it has no BEGIN CERTIFICATE"
        raise CertificateInvalid(f"the certificate {path} is not a certificate in PEM: {found}")
    try:
        first = x509.load_pem_x509_certificates(content)[0]
    except (ValueError, IndexError) as error:
        raise CertificateInvalid(f"the certificate {path} is damaged") from error
    if first.version is not x509.Version.v3:
        old = "has version 1; create one of version 3, which has subjectAltName"
        raise CertificateInvalid(f"the certificate {path} {old}")
    return first


def _public_key(certificate: x509.Certificate, path: str) -> Any:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateInvalid(_unsupported(f"certificate {path}")) from error


def _parse_key(content: bytes, path: str) -> Any:
    if b"PRIVATE KEY-----" not in content:
        has_certificate = b"-----BEGIN CERTIFICATE-----" in content
        found = "it contains a certificate" if has_certificate else "it has no PRIVATE KEY"
        raise CertificateInvalid(f"the key {path} is not a private key in PEM: {found}")
    try:
        return load_pem_private_key(content, password=None)
    except TypeError as error:
        encrypted = "is encrypted, which is not supported; decrypt it"
        command = f"openssl pkey -in {path} -out FILE"
        raise CertificateInvalid(f"the key {path} {encrypted} ({command})") from error
    except UnsupportedAlgorithm as error:
        raise CertificateInvalid(_unsupported(f"key {path}")) from error
    except ValueError as error:
        raise CertificateInvalid(f"the key {path} is damaged") from error


def _check_kind(key: Any, path: str) -> None:
    match key:
        case rsa.RSAPrivateKey():
            exponent = key.public_key().public_numbers().e
            # ring also rejects an exponent of 3, which some old keys have.
            is_supported = key.key_size in RSA_SIZES and exponent >= 65537  # noqa: PLR2004
        case ec.EllipticCurvePrivateKey():
            is_supported = isinstance(key.curve, CURVES)
        case _:
            is_supported = isinstance(key, ed25519.Ed25519PrivateKey)
    if not is_supported:
        raise CertificateInvalid(_unsupported(f"key {path}"))


def _unsupported(which: str) -> str:
    return f"the {which} is of a type that the server does not support; {KINDS}"


def _written(key: Any) -> bytes:
    """Return a public key in a form that can be compared."""
    written: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return written
