"""`pageferry certs`: what it writes, judged by openssl, and what it says to bad input."""

from __future__ import annotations

import shutil
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pageferry.holders import Holder
from paging_core.errors import BadOption
from tests.pageferry.hosts import pageferry
from tests.security.authority import certified
from wire.trust.security import Security

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


def openssl(*arguments: str) -> str:
    ended = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True)
    return ended.stdout


def trusted(folder: Path, purpose: str) -> bool:
    ended = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", purpose,
         "-CAfile", str(folder / "ca.crt"), str(folder / "tls.crt")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ended.returncode == 0 and ended.stdout.strip().endswith("OK")


@needs_openssl
def test_openssl_trusts_them(tmp_path: Path) -> None:
    ended = pageferry("certs", str(tmp_path), "--source", "rack1,10.0.0.7,rack1.lan")
    assert ended.returncode == 0, ended.stderr
    made = {Path(line).name for line in ended.stdout.split()}
    assert made == {"rack1", "destination", "operator"}
    for name in made:
        folder = tmp_path / name
        assert trusted(folder, "sslclient")
        assert trusted(folder, "sslserver") == (name != "operator")
        assert stat.S_IMODE((folder / "tls.key").stat().st_mode) == 0o600
    text = openssl("x509", "-in", str(tmp_path / "rack1" / "tls.crt"), "-noout", "-text")
    assert "CN = rack1, OU = source" in text
    for name in ("DNS:rack1", "DNS:rack1.lan", "IP Address:10.0.0.7", "DNS:localhost"):
        assert name in text


def test_what_is_there_stays(tmp_path: Path) -> None:
    assert pageferry("certs", str(tmp_path)).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    again = pageferry("certs", str(tmp_path))
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert pageferry("certs", str(tmp_path), "--viewer", "eve").stdout.split()[-1].endswith("eve")
    assert {path: path.read_bytes() for path in before} == before
    assert pageferry("certs", str(tmp_path), "--renew").returncode == 0
    changed = {path.name for path, data in before.items() if path.read_bytes() != data}
    assert changed == {"tls.crt", "tls.key"}


def addresses_in(folder: Path) -> set[str]:
    pem = (folder / "tls.crt").read_bytes()
    extension = x509.load_pem_x509_certificate(pem).extensions
    names = extension.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names} - {"localhost", "127.0.0.1", "::1"}


def test_renewing_is_for_all_that_are_there_with_the_addresses_that_they_have(
    tmp_path: Path,
) -> None:
    hosts = ("--source", "rack1,10.0.0.7,rack1.lan", "--destination", "rack2")
    assert pageferry("certs", str(tmp_path), *hosts, "--viewer", "eve").returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("tls.*")}
    renewed = pageferry("certs", str(tmp_path), "--renew")
    made = {Path(line).name for line in renewed.stdout.split()}
    assert made == {"rack1", "rack2", "operator", "eve"}
    assert not [path for path, data in before.items() if path.read_bytes() == data]
    assert addresses_in(tmp_path / "rack1") == {"rack1", "10.0.0.7", "rack1.lan"}
    assert addresses_in(tmp_path / "rack2") == {"rack2"}
    # One alone, and with another address: nobody else's changes, and nobody is added.
    one = pageferry("certs", str(tmp_path), "--renew", "--source", "rack1,10.0.0.9")
    assert one.stdout.split() == [str(tmp_path / "rack1")]
    assert addresses_in(tmp_path / "rack1") == {"rack1", "10.0.0.9"}


def test_days_and_people(tmp_path: Path) -> None:
    people = ("--operator", "ann", "--operator", "bob", "--viewer", "eve")
    assert pageferry("certs", str(tmp_path), *people, "--days", "7").returncode == 0
    found = {}
    for folder in set(tmp_path.iterdir()) - {tmp_path / "ca"}:
        certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        assert timedelta(days=6) < left <= timedelta(days=7)
        found[folder.name] = Holder.of(certificate).role.value
    assert found == {
        "source": "source",
        "destination": "destination",
        "ann": "operator",
        "bob": "operator",
        "eve": "viewer",
    }


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (("--source", "rack1,10.0.0.9"), "does not name 10.0.0.9; make it anew with --renew"),
        (("--operator", "rack1"), "does not have the role operator; make it anew with --renew"),
    ],
)
def test_a_certificate_that_is_there_is_not_taken_for_another(
    tmp_path: Path, option: tuple[str, str], text: str
) -> None:
    assert pageferry("certs", str(tmp_path), "--source", "rack1,10.0.0.7").returncode == 0
    assert pageferry("certs", str(tmp_path), "--source", "rack1,10.0.0.7").returncode == 0
    ended = pageferry("certs", str(tmp_path), *option)
    assert ended.returncode == 2
    assert text in ended.stderr


def test_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken" / "ca").mkdir(parents=True)
    (tmp_path / "broken" / "ca" / "ca.key").write_text("no key")
    for arguments, text in (
        (["x", "--source", "a/b"], "names no certificate"),
        (["x", "--source", ",1.2.3.4"], "names no certificate"),
        (["x", "--source", "ca"], "names no certificate"),
        (["x", "--source", "räck"], "names no certificate"),
        (["x", "--source", "r" * 65], "names no certificate"),
        (["x", "--source", "rack1,bad name"], "'bad name' is neither the name of a host nor an"),
        (["x", "--source", "same", "--viewer", "same"], "two certificates would be called 'same'"),
        (["broken"], "ca.crt: No such file"),
        (["file/x"], "cannot write certificates"),
    ):
        ended = pageferry("certs", str(tmp_path / arguments[0]), *arguments[1:])
        assert ended.returncode == 2, arguments
        assert ended.stderr.count("\n") == 1
        assert text in ended.stderr


def test_directories_that_cannot_be_used(tmp_path: Path) -> None:
    folder = certified(tmp_path) / "operator"
    good = {path.name: path.read_bytes() for path in folder.iterdir()}

    def complaint() -> str:
        with pytest.raises(BadOption) as caught:
            Security.of(folder, insecure=False)
        for name, data in good.items():
            (folder / name).write_bytes(data)
        return str(caught.value)

    (folder / "ca.crt").unlink()
    assert "ca.crt is missing" in complaint()
    (folder / "tls.key").write_bytes((tmp_path / "source" / "tls.key").read_bytes())
    assert "no usable certificate (KEY_VALUES_MISMATCH)" in complaint()
    (folder / "tls.crt").write_text("nothing")
    assert "no usable certificate" in complaint()
    (folder / "ca.crt").write_text("nothing")
    assert "no usable certificate" in complaint()
    with pytest.raises(BadOption, match="drop one"):
        Security.of(folder, insecure=True)
    assert Security.of(folder, insecure=False).identity is not None


@needs_openssl
def test_a_key_with_a_password(tmp_path: Path) -> None:
    folder = certified(tmp_path) / "operator"
    key = folder / "tls.key"
    openssl(
        "pkcs8", "-topk8", "-in", str(key), "-out", str(tmp_path / "locked"),
        "-passout", "pass:secret",
    )  # fmt: skip
    key.write_bytes((tmp_path / "locked").read_bytes())
    with pytest.raises(BadOption, match="password"):
        Security.of(folder, insecure=False)
