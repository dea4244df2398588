"""Fetching: nothing but the published bytes gets in, whatever the server does; two at once do no harm."""

import errno
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import lgdcnn
from lgdcnn.config import InputError, choose
from lgdcnn.data import fetching
from lgdcnn.data.fetching import FetchError, fetch, is_cached, load_cached, pip_download, url_download
from lgdcnn.data.registry import SourceFile, card

GOOD = b"formula,target\n" + b"".join(b"Fe%dC,%d.5\n" % (i, i) for i in range(1, 400))


class Server(http.server.BaseHTTPRequestHandler):
    """A server that does what its path says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        getattr(self, "do_" + self.path.strip("/").split(".")[0])()

    def reply(self, body: bytes, length: int | None = None, status: int = 200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def do_good(self):
        self.reply(GOOD)

    def do_missing(self):
        self.reply(b"404: Not Found", status=404)

    def do_login(self):
        self.reply(b"<html>please log in</html>")

    def do_lie(self):
        self.reply(GOOD.replace(b"Fe7C,7.5", b"Fe7C,8.5"))

    def do_longer(self):
        self.reply(GOOD + b"Fe400C,1\n")

    def do_truncate(self):
        self.reply(GOOD[: len(GOOD) // 2], length=len(GOOD))

    def do_truncate_silently(self):
        self.reply(GOOD[: len(GOOD) // 2])

    def do_stall(self):
        self.reply(GOOD[:100], length=len(GOOD))
        self.close_connection = False
        self.server.closing.wait(20)

    def do_drip(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        for byte in GOOD:
            if self.server.closing.wait(0.05):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def do_garbage(self):
        self.wfile.write(b"\x00\x01\x02 not http\r\n\r\n")
        self.close_connection = True

    def do_endless(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while not self.server.closing.is_set():
                self.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        except OSError:
            self.close_connection = True


@pytest.fixture(scope="module")
def server():
    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True
        closing = threading.Event()

        def handle_error(self, *_):
            pass

    s = Quiet(("127.0.0.1", 0), Server)
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{s.server_port}"
    s.closing.set()
    s.shutdown()


@pytest.fixture
def source(server):
    """A published file at an address of the server."""

    def make(how: str) -> SourceFile:
        return SourceFile(
            "toy", "all", 399, len(GOOD), hashlib.sha256(GOOD).hexdigest(), "toy.csv", f"{server}/{how}.csv"
        )

    return make


@pytest.fixture
def toy(monkeypatch, tmp_path, source):
    """A registry with one set, `toy`, no pip, and an empty cache; returns a setter for what the server does."""
    registry = {}

    def become(how: str):
        registry["toy"] = replace(card("matbench_steels"), name="toy", rows=399, files=(source(how),))
        return tmp_path / "cache"

    monkeypatch.setenv("LGDCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "cards", lambda: registry)
    monkeypatch.setattr(fetching, "card", lambda name: choose(name, registry, "data set"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    return become


def files_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.name != "lock")


BAD = {
    "missing": "404",
    "login": "26 bytes came",
    "lie": "not the published one",
    "longer": "broken",
    "truncate": "broken|did not answer",
    "truncate_silently": "broken",
    "garbage": "did not answer",
    "endless": "broken",
}


def test_a_good_server_is_believed(source):
    assert url_download(source("good")) == GOOD


@pytest.mark.parametrize("how", BAD)
def test_a_bad_server_is_refused_and_leaves_no_file(toy, how):
    cache = toy(how)
    with pytest.raises(FetchError, match=BAD[how]) as e:
        fetch(["toy"])
    assert "\n" not in str(e.value)
    assert files_in(cache) == [] and not is_cached("toy")


def test_a_silent_server_is_given_up(source):
    start = time.perf_counter()
    with pytest.raises(FetchError, match="did not answer.*timed out"):
        url_download(source("stall"), silence=0.3)
    assert time.perf_counter() - start < 5


def test_a_dripping_server_is_given_up(source):
    start = time.perf_counter()
    with pytest.raises(FetchError, match=r"only \d+ of"):
        url_download(source("drip"), silence=5, deadline=0.5)
    assert time.perf_counter() - start < 5


def test_nobody_listens(source):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with pytest.raises(FetchError, match="check the network"):
        url_download(replace(source("good"), url=f"http://127.0.0.1:{port}/toy.csv"))


def test_without_pip_the_files_come_one_by_one_and_then_work_offline(toy, monkeypatch):
    said = []
    cache = toy("good")
    assert fetch("toy", note=said.append) == ["toy"]
    assert any("pip could not be started" in line and "one by one" in line for line in said)
    assert files_in(cache) == ["toy.npz"]
    toy("missing")  # the server is gone: the cache answers
    assert fetch("toy") == [] and len(load_cached("toy")) == 399
    with pytest.raises(FetchError):
        fetch("toy", force=True)
    assert len(load_cached("toy")) == 399  # a failed renewal leaves the old file


def fake_pip(tmp_path, monkeypatch, script: str) -> None:
    "Let pip be a shell script."
    fake = tmp_path / "python"
    fake.write_text(script)
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))


def test_pip_that_fails_gives_its_reason(tmp_path, monkeypatch):
    script = (
        "#!/bin/sh\necho Looking around\necho 'ERROR: No matching distribution found' >&2\necho more >&2\nexit 1\n"
    )
    fake_pip(tmp_path, monkeypatch, script)
    with pytest.raises(FetchError, match="pip failed: ERROR: No matching distribution found"):
        pip_download(tmp_path)


def test_pip_that_brings_something_else_is_refused(tmp_path, monkeypatch):
    fake_pip(tmp_path, monkeypatch, f"#!/bin/sh\necho no wheel > {tmp_path}/{fetching.WHEEL}\n")
    with pytest.raises(InputError, match="refused"):
        pip_download(tmp_path)


def test_pip_that_hangs_is_stopped(tmp_path, monkeypatch):
    fake_pip(tmp_path, monkeypatch, "#!/bin/sh\nexec sleep 60\n")
    start = time.perf_counter()
    with pytest.raises(FetchError, match="pip was stopped after"):
        pip_download(tmp_path, deadline=0.5)
    assert time.perf_counter() - start < 5


def test_pip_is_told_the_digest_and_never_installs(tmp_path, monkeypatch):
    fake_pip(tmp_path, monkeypatch, f'#!/bin/sh\necho "$@" > {tmp_path}/words\nexit 1\n')
    with pytest.raises(FetchError):
        pip_download(tmp_path)
    words = (tmp_path / "words").read_text().split()
    assert words[:3] == ["-m", "pip", "download"] and {"--no-deps", "--require-hashes"} <= set(words)
    assert fetching.WHEEL_SHA256 in (tmp_path / "requirements.txt").read_text()


def test_a_wrong_wheel_is_refused(toy, tmp_path):
    cache = toy("good")
    (tmp_path / "other.whl").write_bytes(b"PK not a wheel")
    for wheel, why in ((tmp_path / "other.whl", "refused"), (tmp_path / "none.whl", "there is no wheel")):
        with pytest.raises(InputError, match=why):
            fetch("toy", wheel=wheel)
    assert files_in(cache) == []


@pytest.mark.parametrize(
    "code, words", [(errno.ENOSPC, "no space left"), (errno.EROFS, "Read-only"), (errno.EACCES, "Permission denied")]
)
def test_a_cache_that_cannot_be_written(toy, monkeypatch, code, words):
    cache = toy("good")
    half = Path.write_bytes

    def write(self, data):
        half(self, data[: len(data) // 2])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(FetchError, match=f"cannot write to the cache.*{words}.*LGDCNN_CACHE"):
        fetch("toy")
    monkeypatch.undo()
    assert files_in(cache) == []


def test_too_little_room_is_said_before_the_download(toy, monkeypatch):
    cache = toy("good")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000_000))
    with pytest.raises(FetchError, match="no space left.*LGDCNN_CACHE"):
        fetch("toy")
    assert files_in(cache) == []


def test_a_cache_below_a_file(toy, monkeypatch, tmp_path):
    toy("good")
    (tmp_path / "file").touch()
    monkeypatch.setenv("LGDCNN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FetchError, match="Not a directory"):
        fetch("toy")


def test_a_damaged_entry_says_how_to_replace_it(toy):
    cache = toy("good")
    fetch("toy")
    path = cache / "datasets-2" / "toy.npz"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="fetch --force toy"):
        load_cached("toy")
    fetch("toy", force=True)
    assert len(load_cached("toy")) == 399


def test_what_a_crash_left_is_removed(toy):
    cache = toy("good")
    (cache / "fetch-crashed").mkdir(parents=True)
    (cache / "fetch-crashed" / "half").touch()
    fetch("toy")
    assert files_in(cache) == ["toy.npz"]


def test_sodium_nitride_stays_a_formula():
    formulas, target = fetching._read_csv(b"formula,target\nNaN,0.5\nNa3N,nan\n")
    assert formulas == ["NaN", "Na3N"] and target[0] == 0.5


ONE = """
import sys
from dataclasses import replace
from lgdcnn.data import fetching
from lgdcnn.data.registry import SourceFile, card
url, size, sha = sys.argv[1:]
file = SourceFile("toy", "all", 399, int(size), sha, "toy.csv", url)
toy = replace(card("matbench_steels"), name="toy", rows=399, files=(file,))
fetching.cards, fetching.card = (lambda: {"toy": toy}), (lambda name: toy)
sys.executable = "no-python"
print(len(fetching.fetch("toy")), len(fetching.load_cached("toy")))
"""


def test_two_processes_at_once(source, tmp_path):
    file = source("good")
    words = [sys.executable, "-c", ONE, file.url, str(file.bytes), file.sha256]
    env = os.environ | {
        "LGDCNN_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(lgdcnn.__file__).parent.parent),
    }
    runs = [
        subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    out = [r.communicate(timeout=60) for r in runs]
    assert all(r.returncode == 0 for r in runs), [o[1] for o in out]
    assert sorted(o[0].split() for o in out) == [["0", "399"]] * 3 + [["1", "399"]]
    assert files_in(tmp_path / "cache") == ["toy.npz"]
