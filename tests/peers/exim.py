"""Debian's Exim beside the machine's Postfix, though the packages conflict: in an overlay of the root file system that
lives in mount and process namespaces of its own. The machine itself is not touched, and all ends with one process.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

SCRIPT = r"""
set -eu
base=$1
mount -t tmpfs -o size=1g tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/tree"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/tree"
mount -t proc proc "$base/tree/proc"
mount --bind /dev "$base/tree/dev"
printf '#!/bin/sh\nexit 101\n' > "$base/tree/usr/sbin/policy-rc.d"
chmod +x "$base/tree/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive
chroot "$base/tree" apt-get install -y --no-install-recommends exim4-daemon-light >&2
mkdir -p "$base/tree/etc/exim4"
cat > "$base/tree/etc/exim4/exim4.conf"
# Not by exec: this shell dies with its parent; Exim, which changes its user, would not.
chroot "$base/tree" exim4 -bdf &
wait $!
"""

CONFIGURATION = """
primary_hostname = exim.localdomain
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
tls_advertise_hosts =
keep_environment =
acl_smtp_rcpt = take
acl_smtp_data = take
smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
begin acl
take:
  accept
begin routers
on:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = on
begin transports
on:
  driver = smtp
  port = {sink}
  allow_localhost
  hosts_try_chunking =
begin retry
* * F,1h,1s
"""


class EximUnavailable(Exception):
    """No overlay, no package, no root."""


class Exim:
    """``with Exim(port, sink) as exim``: listens on ``port`` and relays to 127.0.0.1:``sink``."""

    script = SCRIPT
    configuration = CONFIGURATION

    def __init__(self, port: int, sink: int) -> None:
        self.port = port
        self._configuration = self.configuration.format(port=port, sink=sink)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("apt-get"):
            raise EximUnavailable("needs root on Debian")
        self._base = Path(tempfile.mkdtemp(prefix="exim-", dir="/tmp"))
        with (self._base / "log").open("w") as log:
            self._process = subprocess.Popen(
                ["unshare", "-m", "-p", "-f", "--kill-child", "sh", "-c", self.script, "sh", str(self._base)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(self._configuration)
        self._process.stdin.close()
        deadline = time.monotonic() + 90
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                    return self
            except ConnectionRefusedError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self._base / "log").read_text(errors="replace").strip().splitlines()
                    self.__exit__()
                    raise EximUnavailable(said[-1] if said else "no word from it") from None
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._base, ignore_errors=True)
