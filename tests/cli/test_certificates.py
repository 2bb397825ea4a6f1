"""The certificate and the key of `portside serve`: what is wrong with them is said in one line."""

from __future__ import annotations

import base64
import datetime as dt
import os
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from portside.cli.certificate_pair import CertificatePair
from portside.cli.certificates import check_certificate
from portside.cli.errors import CertificateInvalid
from support.certificates import write_certificate
from support.content import digest_of, make_blob
from support.server import RunningRegistry, run_portside, running_registry
from support.waiting import PATIENCE, until
from support.wire import OCTETS

PLAIN = serialization.NoEncryption()

SUPPORTED: dict[str, Any] = {
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "RSA 3072": lambda: rsa.generate_private_key(65537, 3072),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}

UNSUPPORTED: dict[str, Any] = {
    "RSA 1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505
    "RSA 2560": lambda: rsa.generate_private_key(65537, 2560),
    "RSA with the exponent 3": lambda: rsa.generate_private_key(3, 2048),
    "P-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed448": ed448.Ed448PrivateKey.generate,
    "DSA": lambda: dsa.generate_private_key(2048),
}


VERSION_3 = bytes.fromhex("a003020102")
"""The first field of a certificate (RFC 5280, section 4.1), which those of version 1 lack."""


def sequence(content: bytes) -> bytes:
    """Write a SEQUENCE of ASN.1."""
    size = len(content)
    length = b"\x81%c" % size if size < 256 else b"\x82" + size.to_bytes(2, "big")
    return b"\x30" + length + content


def write_pair(folder: Path, key: Any, encryption: Any = PLAIN) -> tuple[Path, Path]:
    """Write a certificate that a key signed itself, and the key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Portside test")])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    is_edwards = isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=2))
        .sign(key, None if is_edwards else hashes.SHA256())
    )
    certificate_path, key_path = folder / "certificate.pem", folder / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    return certificate_path, key_path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Write a certificate and a key that are right."""
    return write_pair(tmp_path, ec.generate_private_key(ec.SECP256R1()))


def refusal(certificate: Path, key: Path) -> str:
    """Return the reason for which the two cannot be used."""
    with pytest.raises(CertificateInvalid) as caught:
        check_certificate(str(certificate), str(key))
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestKinds:
    """The list of kinds is that of what the server takes."""

    @pytest.mark.parametrize("kind", SUPPORTED)
    def test_supported(self, data: Path, tmp_path: Path, kind: str) -> None:
        """The server serves with it."""
        certificate, key = write_pair(tmp_path, SUPPORTED[kind]())
        options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
        with running_registry(data, "--workers", "1", *options) as registry:
            answer = httpx.get(f"{registry.url}/readyz", verify=False, timeout=PATIENCE)  # noqa: S501
            assert answer.status_code == 200

    @pytest.mark.parametrize("kind", UNSUPPORTED)
    def test_unsupported(self, tmp_path: Path, kind: str) -> None:
        """It is refused before the server meets it."""
        certificate, key = write_pair(tmp_path, UNSUPPORTED[kind]())
        reason = refusal(certificate, key)
        assert reason.startswith(f"the key {key} is of a type that the server does not support")


ANYBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Verifies nothing."""

ANYBODY.check_hostname, ANYBODY.verify_mode = False, ssl.CERT_NONE


@pytest.fixture
def renewable(pair: tuple[Path, Path]) -> CertificatePair:
    """Serve a pair of files."""
    certificate, key = pair
    return CertificatePair(str(certificate), str(key))


def served(registry: RunningRegistry) -> bytes:
    """Send a request on a connection of its own, and return the certificate."""
    with (
        socket.create_connection((registry.host, registry.port), timeout=PATIENCE) as plain,
        ANYBODY.wrap_socket(plain) as secure,
    ):
        found = secure.getpeercert(binary_form=True)
        assert found is not None
        secure.sendall(b"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert secure.recv(100).startswith(b"HTTP/1.1 200")
        return found


def content_of(certificate: Path) -> bytes:
    """Return a certificate as a handshake shows it."""
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


class TestRenewal:
    """A certificate that is replaced while the registry runs."""

    @staticmethod
    def write(pair: tuple[Path, Path]) -> tuple[str, str]:
        """Return the texts of another pair."""
        folder = pair[0].parent / "next"
        folder.mkdir(exist_ok=True)
        certificate, key = write_certificate(folder)
        return certificate.read_text(), key.read_text()

    def test_taken_when_left_alone(
        self, pair: tuple[Path, Path], renewable: CertificatePair
    ) -> None:
        """A new pair is taken once, and not while its files are being replaced."""
        certificate, key = self.write(pair)
        assert not renewable.renew()
        pair[1].write_text(key)
        assert not renewable.renew()
        pair[0].write_text(certificate)
        assert not renewable.renew()
        assert renewable.renew()
        assert not renewable.renew()
        assert [Path(path).read_text() for path in renewable.paths] == [certificate, key]

    def test_invalid(self, pair: tuple[Path, Path], renewable: CertificatePair) -> None:
        """It is refused once, and the pair before stays, until there is a valid one."""
        before = [path.read_text() for path in pair]
        certificate, key = self.write(pair)
        pair[1].write_text(key)
        assert not renewable.renew()
        with pytest.raises(CertificateInvalid, match="does not belong to the certificate"):
            renewable.renew()
        assert not renewable.renew()
        assert [Path(path).read_text() for path in renewable.paths] == before
        pair[0].unlink()
        assert not renewable.renew()
        with pytest.raises(CertificateInvalid, match="No such file"):
            renewable.renew()
        pair[0].write_text(certificate)
        assert not renewable.renew()
        assert renewable.renew()

    def test_read_once(self, pair: tuple[Path, Path], renewable: CertificatePair) -> None:
        """What is served is what was checked, also if the file is replaced in between."""
        certificate, key = self.write(pair)
        pair[0].write_text(certificate)
        pair[1].unlink()
        os.mkfifo(pair[1])
        later = pair[1].with_name("later.pem")
        later.write_text("a later key")

        def replace() -> None:
            with pair[1].open("w") as reader:
                # The certificate was read, and the key is about to be.
                pair[0].write_text("a later certificate")
                later.replace(pair[1])
                reader.write(key)

        with ThreadPoolExecutor(1) as pool:
            replacing = pool.submit(replace)
            assert not renewable.renew()
            assert renewable.renew()
            replacing.result()
        assert [Path(path).read_text() for path in renewable.paths] == [certificate, key]

    def test_out_of_descriptors(
        self, pair: tuple[Path, Path], renewable: CertificatePair, request: pytest.FixtureRequest
    ) -> None:
        """A pair that cannot be copied is refused, and nothing of it stays open."""
        for path, text in zip(pair, self.write(pair), strict=True):
            path.write_text(text)
        assert not renewable.renew()
        opened = [os.open(pair[0], os.O_RDONLY) for _ in range(2)]
        for descriptor in opened:
            os.close(descriptor)
        before = set(os.listdir("/proc/self/fd"))
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened[1], limits[1]))
        with pytest.raises(CertificateInvalid, match="Too many open files"):
            renewable.renew()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert set(os.listdir("/proc/self/fd")) == before

    def test_served(self, data: Path, pair: tuple[Path, Path]) -> None:
        """New connections get the new pair; none is refused or cut off, and requests end.

        A pair that is not valid is a line in the log; workers that are replaced do not read it.
        """
        options = ("--tls-certificate", str(pair[0]), "--tls-key", str(pair[1]))
        content = make_blob(2_000_000, "renewal")
        half, go_on, stop = threading.Event(), threading.Event(), threading.Event()
        seen: set[bytes] = set()

        def slowly() -> Iterator[bytes]:
            yield content[:1_000_000]
            half.set()
            assert go_on.wait(2 * PATIENCE)
            yield content[1_000_000:]

        def upload(url: str) -> int:
            with httpx.Client(base_url=url, verify=False, timeout=PATIENCE) as client:  # noqa: S501
                answer = client.post(
                    "/v2/a/blobs/uploads/",
                    params={"digest": digest_of(content)},
                    content=slowly(),
                    headers=OCTETS,
                )
                return answer.status_code

        def ask(registry: RunningRegistry) -> None:
            while not stop.is_set():
                seen.add(served(registry))

        with (
            running_registry(data, *options) as registry,
            ThreadPoolExecutor(7) as pool,
            ExitStack() as stack,
        ):
            stack.callback(go_on.set)
            stack.callback(stop.set)
            first, workers = content_of(pair[0]), set(registry.workers)
            uploading = pool.submit(upload, registry.url)
            assert half.wait(PATIENCE)
            asking = [pool.submit(ask, registry) for _ in range(6)]
            for path, text in zip(pair, self.write(pair), strict=True):
                path.write_text(text)
            second = content_of(pair[0])
            until(lambda: "the certificate is renewed" in registry.log)
            until(lambda: len(set(registry.workers) - workers) == 2)
            until(lambda: {served(registry) for _ in range(8)} == {second})
            # The upload's worker is there until the upload has ended.
            until(lambda: len(set(registry.workers) & workers) == 1)
            go_on.set()
            assert uploading.result(PATIENCE) == 201
            until(lambda: not set(registry.workers) & workers)
            stop.set()
            assert [one.result(PATIENCE) for one in asking] == [None] * 6
            assert seen == {first, second}
            pair[1].write_text("broken")
            until(lambda: "the previous certificate stays in use" in registry.log)
            worker = registry.workers[0]
            os.kill(int(worker), signal.SIGKILL)
            until(lambda: worker not in registry.workers and len(registry.workers) == 2)
            assert {served(registry) for _ in range(8)} == {second}


class TestFiles:
    """Each file is named with what is wrong with it."""

    def test_encrypted(self, data: Path, tmp_path: Path) -> None:
        """No password is asked for."""
        encryption = serialization.BestAvailableEncryption(b"hush")
        certificate, key = write_pair(tmp_path, ec.generate_private_key(ec.SECP256R1()), encryption)
        options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
        code, printed, errors = run_portside("serve", "--data", str(data), *options)
        assert (code, printed) == (1, "")
        assert errors.startswith(f"portside: the key {key} is encrypted")
        assert len(errors.splitlines()) == 1

    def test_expired(self, data: Path, tmp_path: Path) -> None:
        """A certificate that clients refuse is a line in the log of each start."""
        certificate, key = write_certificate(tmp_path, life=dt.timedelta(minutes=59))
        options = ("--tls-certificate", str(certificate), "--tls-key", str(key))
        with running_registry(data, "--workers", "1", *options) as registry:
            line = f"WARNING the certificate {certificate} has expired; renew it\n"
            assert line in registry.log

    def test_of_another_certificate(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        certificate, _ = pair
        (tmp_path / "other").mkdir()
        _, other = write_pair(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))
        expected = f"the key {other} does not belong to the certificate {certificate}"
        assert refusal(certificate, other).startswith(expected)

    def test_exchanged(self, pair: tuple[Path, Path]) -> None:
        certificate, key = pair
        assert refusal(key, certificate).endswith("not a certificate in PEM: it contains a key")
        assert refusal(certificate, certificate).endswith("in PEM: it contains a certificate")

    def test_not_pem(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        certificate, key = pair
        other = tmp_path / "other"
        other.write_bytes(b"\x30\x82")
        assert refusal(other, key).startswith(f"the certificate {other} is not a certificate in")
        assert refusal(certificate, other).startswith(f"the key {other} is not a private key in")

    def test_damaged(self, pair: tuple[Path, Path]) -> None:
        certificate, key = pair
        for path, what in ((key, "key"), (certificate, "certificate")):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join([lines[0], "AAAA", lines[1][4:], *lines[2:]]))
            assert refusal(certificate, key) == f"the {what} {path} is damaged"
            path.write_text("".join(lines))
            whole = path.read_bytes()
            path.write_bytes(whole[:60])
            assert refusal(certificate, key) == f"the {what} {path} is damaged"
            path.write_bytes(whole)

    def test_byte_order_mark(self, pair: tuple[Path, Path]) -> None:
        """Some editors write it, and the server takes the first line for none of PEM then."""
        certificate, key = pair
        certificate.write_bytes(b"\xef\xbb\xbf" + certificate.read_bytes())
        assert "begins with a byte order mark" in refusal(certificate, key)

    def test_of_version_1(self, pair: tuple[Path, Path]) -> None:
        """OpenSSL makes these without a word where it is given no extensions."""
        certificate, key = pair
        content = x509.load_pem_x509_certificate(certificate.read_bytes())
        signed = content.tbs_certificate_bytes
        _, _, unversioned = signed.partition(VERSION_3)
        _, _, signature = content.public_bytes(serialization.Encoding.DER).partition(signed)
        older = base64.encodebytes(sequence(sequence(unversioned) + signature)).decode()
        certificate.write_text(f"-----BEGIN CERTIFICATE-----\n{older}-----END CERTIFICATE-----\n")
        assert f"the certificate {certificate} has version 1" in refusal(certificate, key)

    def test_unreadable(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        certificate, key = pair
        absent = tmp_path / "absent"
        assert refusal(absent, key).startswith(f"cannot read the certificate {absent}: No such")
        assert refusal(certificate, tmp_path) == f"cannot read the key {tmp_path}: Is a directory"
