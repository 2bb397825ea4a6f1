"""The certificate that is served, and its renewal while the registry runs.

Workers read the files when they start, so a new certificate needs new workers. What they read is a
copy in memory of the last pair that was valid: a worker that is replaced after a crash must not
depend on files that somebody is just changing.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

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
        # Each file is read once: when it is read again, it may be that of another renewal.
        contents = check_certificate(*self._files)
        if not hasattr(os, "memfd_create"):
            return
        before, self._copies = self._copies, _copy(*contents)
        for descriptor in before or ():
            os.close(descriptor)

    def _signatures(self) -> tuple[Signature | None, ...]:
        return tuple(map(signature, self._files))


def _copy(certificate: bytes, key: bytes) -> tuple[int, int]:
    """Return the descriptors of copies in memory, which children inherit.

    Raises CertificateInvalid.
    """
    with ExitStack() as made:

        def copy(content: bytes) -> int:
            descriptor = os.memfd_create("portside-tls", os.MFD_CLOEXEC)
            made.callback(os.close, descriptor)
            os.write(descriptor, content)
            return descriptor

        try:
            copies = copy(certificate), copy(key)
        except OSError as error:
            raise CertificateInvalid(f"cannot copy the certificate: {error.strerror}") from error
        made.pop_all()
    return copies
