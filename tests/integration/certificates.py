"""Certificate authorities for tests, and what they issue: NAME.pem and NAME.key (mode 600)."""

import os
import subprocess
import time

CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
# what `openssl ca` needs, which alone can set times
CONFIGURATION = """
[ca]
default_ca = this
[this]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
"""


class Authority:
    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.path = directory / f"{name}.pem"
        self.openssl("req", "-x509", *CURVE, "-keyout", f"{name}.key", "-out", f"{name}.pem",
                     "-subj", f"/CN=test {name}", "-days", "2")

    def openssl(self, *words):
        subprocess.run(["openssl", *map(str, words)], cwd=self.directory, check=True,
                       capture_output=True, timeout=60)

    def issue(self, name, alternative, subject="/CN=x", usage=None, expires_in=None):
        """(certificate, key) for `subject`; `expires_in` seconds, or in two days."""
        lines = [f"subjectAltName={alternative}"] if alternative else ["basicConstraints=CA:FALSE"]
        if usage:
            lines.append(f"extendedKeyUsage={usage}")
        self.openssl("req", *CURVE, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
                     subject, "-utf8")
        (self.directory / f"{name}.ext").write_text("\n".join(lines) + "\n")
        files = ["-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", f"{name}.ext"]
        if expires_in is None:
            self.openssl("x509", "-req", *files, "-CA", f"{self.name}.pem", "-CAkey",
                         f"{self.name}.key", "-CAcreateserial", "-days", "2")
        else:
            (self.directory / "ca.cnf").write_text(CONFIGURATION)
            (self.directory / "index.txt").touch()
            begin, end = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))
                          for seconds in (min(0, expires_in) - 3600, expires_in))
            self.openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-cert",
                         f"{self.name}.pem", "-keyfile", f"{self.name}.key", *files, "-startdate",
                         begin, "-enddate", end)
        os.chmod(self.directory / f"{name}.key", 0o600)
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"
