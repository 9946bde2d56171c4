"""An instance of Debian's Postfix of our own: own folder, queue, port and log; needs root and the package installed.

Everything not said here is Debian's default. Used as an upstream in interop tests and as the peer in scripts/bench.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

POSTFIX = shutil.which("postfix", path="/usr/sbin:/usr/bin") or ""

MAIN = """
compatibility_level = 3.6
config_directory = {folder}/etc
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
myhostname = relay.localdomain
mydestination =
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_relay_restrictions = permit_mynetworks, reject
default_destination_concurrency_limit = {connections}
default_process_limit = 100
in_flow_delay = 0
smtp_connection_cache_on_demand = yes
smtp_connection_cache_destinations = [127.0.0.1]:{sink}
smtp_connection_reuse_count_limit = 10000
smtp_connection_reuse_time_limit = 3600s
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
qmgr_message_active_limit = 40000
qmgr_message_recipient_limit = 40000
disable_dns_lookups = yes
alias_maps =
local_recipient_maps =
"""

MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60   1 pickup
cleanup   unix  n - n -    0 cleanup
qmgr      unix  n - n 300  1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -    - trivial-rewrite
bounce    unix  - - n -    0 bounce
defer     unix  - - n -    0 bounce
trace     unix  - - n -    0 bounce
verify    unix  - - n -    1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -    - proxymap
proxywrite unix - - n -    1 proxymap
smtp      unix  - - n -    - smtp
relay     unix  - - n -    - smtp
showq     unix  n - n -    - showq
error     unix  - - n -    - error
retry     unix  - - n -    - error
discard   unix  - - n -    - discard
anvil     unix  - - n -    1 anvil
scache    unix  - - n -    1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


def unavailable() -> str:
    """Why there is no Postfix to be had; empty where there is."""
    if not POSTFIX:
        return "Postfix is not installed"
    return "" if os.geteuid() == 0 else "a Postfix of our own needs root"


class Postfix:
    """``with Postfix(port, sink) as postfix``: listens on ``port`` and relays to 127.0.0.1:``sink``."""

    def __init__(self, port: int, sink: int, *, connections: int = 10, settings: str = "") -> None:
        self.port = port
        # Postfix's daemons run as another user: the folder can't lie in one that only we may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="postfix-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.maillog = self.folder / "maillog"
        for name in ("etc", "queue", "data"):
            (self.folder / name).mkdir()
        shutil.chown(self.folder / "data", "postfix", "postfix")
        etc = self.folder / "etc"
        (etc / "main.cf").write_text(
            MAIN.format(folder=self.folder, sink=sink, connections=connections) + settings + "\n"
        )
        (etc / "master.cf").write_text(MASTER.format(port=port))

    def __enter__(self) -> Self:
        try:
            self._postfix("start")
            deadline = time.monotonic() + 20
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                        probe.recv(100)
                        probe.sendall(b"QUIT\r\n")
                        probe.recv(100)
                        break
                except ConnectionRefusedError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._postfix("stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def master(self) -> int:
        """The master daemon's pid."""
        return int((self.folder / "queue" / "pid" / "master.pid").read_text())

    def log(self) -> str:
        """The mail log so far."""
        return self.maillog.read_text(errors="replace") if self.maillog.exists() else ""

    def version(self) -> str:
        out = subprocess.run(["postconf", "-d", "-h", "mail_version"], capture_output=True, text=True, check=True)
        return re.sub(r"\s", "", out.stdout)

    def _postfix(self, verb: str, *, check: bool = True) -> None:
        done = subprocess.run(
            [POSTFIX, "-c", str(self.folder / "etc"), verb],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        if check and done.returncode:
            raise RuntimeError(f"postfix {verb}: {done.stderr}{done.stdout}{self.log()}")
