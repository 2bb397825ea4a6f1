"""The certificate that is served, and its renewal while the registry runs.

Workers read the files when they start, so a new certificate needs new workers. What they read is a
copy in memory of the last pair that was valid: a worker that is replaced after a crash must not
depend on files that somebody is just changing.
"""

from __future__ import annotations

import os
from pathlib import Path

from portside.cli.certificates import check_certificate
from portside.cli.errors import CertificateInvalid
from portside.files.watched import Signature, signature


class CertificatePair:
    """The files of a certificate and its key, and the last valid content of both.

    Raises CertificateInvalid if they cannot be used at the beginning.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._files = (certificate, key)
        self._copies: tuple[int, int] | None = None
        self._taken = self._seen = self._signatures()
        self._take()

    @property
    def paths(self) -> tuple[str, str]:
        """The files that a worker reads, which this process and its children can open."""
        if self._copies is None:
            return self._files
        certificate, key = self._copies
        return f"/proc/self/fd/{certificate}", f"/proc/self/fd/{key}"

    def renew(self) -> bool:
        """Take the files if they changed and have been left alone since the last call.

        Return whether there is a new pair. Raises CertificateInvalid, once for each change; the
        pair before stays.
        """
        found = self._signatures()
        is_settled, self._seen = found == self._seen, found
        if not is_settled or found == self._taken:
            return False
        self._taken = found
        self._take()
        return True

    def _take(self) -> None:
        check_certificate(*self._files)
        if not hasattr(os, "memfd_create"):
            return
        certificate, key = (_copy(file) for file in self._files)
        before, self._copies = self._copies, (certificate, key)
        for descriptor in before or ():
            os.close(descriptor)

    def _signatures(self) -> tuple[Signature | None, ...]:
        return tuple(map(signature, self._files))


def _copy(file: str) -> int:
    """Return the descriptor of a copy in memory, which children inherit."""
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise CertificateInvalid(f"cannot read {file}: {error.strerror}") from error
    descriptor = os.memfd_create("portside-tls", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return descriptor
