"""A mail server as a process of its own: STARTTLS and a login, every mail a file. Started by `MailServer`."""

from __future__ import annotations

import email
import email.policy
import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from email.message import EmailMessage
from pathlib import Path

from cluster import BATON, until

USER, PASSWORD = "baton", "a password with späces"


class MailServer:
    """Owns the process, its certificates and the folder of mails. The port stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self.mails = folder / "mails"
        self.mails.mkdir(parents=True)
        certs = folder / "certs"
        subprocess.run([str(BATON), "certs", "generate", "--out", str(certs), "--name", "mail"], check=True, stdout=subprocess.DEVNULL)
        self.ca = certs / "ca.pem"
        self._cert, self._key = certs / "mail/node.pem", certs / "mail/node.key"
        self.password_file = folder / "password"
        self.password_file.write_text(PASSWORD + "\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> dict[str, object]:
        """What tells a node to send its mails here."""
        return {
            "notifier_kind": "smtp",
            "notifier_smtp_host": "localhost",
            "notifier_smtp_port": self.port,
            "notifier_smtp_username": USER,
            "notifier_smtp_password_file": self.password_file,
            "notifier_smtp_from": "Baton <baton@example.com>",
            "notifier_smtp_ca": self.ca,
        }

    def start(self) -> "MailServer":
        command = [sys.executable, __file__, str(self.port), str(self.mails), str(self._cert), str(self._key)]
        self._process = subprocess.Popen(command)
        until("the mail server's start", self._listens)
        return self

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(10)

    def to(self, address: str) -> list[EmailMessage]:
        """Mails to an address, oldest first."""
        files = sorted(self.mails.glob("*.eml"))
        mails = [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in files]
        return [mail for mail in mails if mail["to"] == address]

    def wait_for(self, address: str, count: int = 1, seconds: float = 30.0) -> list[EmailMessage]:
        return until(
            f"mail {count} to {address}",
            lambda: mails if len(mails := self.to(address)) >= count else None,
            seconds,
        )


def serve(port: int, folder: Path, cert: Path, key: Path) -> None:
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult, LoginPassword

    numbers = itertools.count(len(list(folder.glob("*.eml"))))

    class Keep:
        async def handle_DATA(self, server, session, envelope) -> str:
            # Mails that came without TLS or login would be a fault of the sender: they are told apart by their name.
            assert session.ssl is not None and session.authenticated
            name = f"{next(numbers):06}"
            (folder / f"{name}.tmp").write_bytes(envelope.content)
            os.rename(folder / f"{name}.tmp", folder / f"{name}.eml")
            return "250 kept"

    def login(server, session, envelope, mechanism, data) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    controller = Controller(
        Keep(),
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=login,
    )
    controller.start()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    while not ended.wait(0.2) and os.getppid() != 1:
        pass
    controller.stop()


if __name__ == "__main__":
    serve(int(sys.argv[1]), *map(Path, sys.argv[2:5]))
