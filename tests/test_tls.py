"""gRPC over TLS and mutual TLS, with certificates made here."""

import subprocess
import time

import pytest

from conftest import client, registry
from support.process import http, run, wait_until
from test_chain import metric, user


def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


class Authority:
    def __init__(self, path, name):
        self.path, self.name = path, name
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", path / f"{name}.key", "-out", path / f"{name}.pem")  # fmt: skip

    def sign(self, name: str, into: str | None = None) -> dict[str, str]:
        p, into = self.path, into or name
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}",
                "-keyout", p / f"{into}.key", "-out", p / f"{into}.csr")  # fmt: skip
        (p / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
        openssl("x509", "-req", "-in", p / f"{into}.csr", "-CA", p / f"{self.name}.pem", "-CAkey", p / f"{self.name}.key",
                "-CAcreateserial", "-days", "2", "-extfile", p / "san", "-out", p / f"{into}.pem")  # fmt: skip
        return {
            "CY_LLM_GRPC_TLS_CERT": str(p / f"{into}.pem"), "CY_LLM_GRPC_TLS_KEY": str(p / f"{into}.key"),
            "CY_LLM_GRPC_TLS_CA": str(p / f"{self.name}.pem"),
        }  # fmt: skip


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"), "ca")


def test_mutual_tls_all_the_way(chain, ca):
    c = chain(registry(default={}), env=ca.sign("node"))
    assert c.client().chat.completions.create(model="default", messages=user("over tls")).choices[0].message.content == "over tls"


def test_who_has_no_certificate_is_not_let_in(start, worker, coordinator, ca):
    behind = worker({}, env=ca.sign("node"))
    plain = coordinator(behind.address("worker"), ready=False)
    other = Authority(ca.path, "other").sign("stranger") | {"CY_LLM_GRPC_TLS_CA": str(ca.path / "ca.pem")}
    stranger = coordinator(behind.address("worker"), ready=False, env=other)
    only_ca = coordinator(behind.address("worker"), ready=False, env={"CY_LLM_GRPC_TLS_CA": str(ca.path / "ca.pem")})
    right = coordinator(behind.address("worker"), env=ca.sign("right"))
    assert metric(right.address("coordinator-http"), "coordinator_workers_healthy") == 1
    for wrong in (plain, stranger, only_ca):
        assert metric(wrong.address("coordinator-http"), "coordinator_workers_healthy") == 0


def test_a_server_of_another_authority_is_not_trusted(worker, coordinator, ca):
    impostor = worker({}, env=Authority(ca.path, "evil").sign("impostor"))
    c = coordinator(impostor.address("worker"), ready=False, env=ca.sign("node"))
    time.sleep(1)  # no condition to wait for: it must stay so
    assert metric(c.address("coordinator-http"), "coordinator_workers_healthy") == 0


def test_production_is_content_with_tls(worker, ca):
    env = ca.sign("node") | {"CY_LLM_ENV": "production", "CY_LLM_INTERNAL_TOKEN": "t"}
    assert worker({}, "--host", "0.0.0.0", env=env).alive()


def test_mistakes_refuse_to_start(ca, tmp_path):
    files = ca.sign("mine")
    other = ca.sign("yours")
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for change, names in [
        ({"CY_LLM_GRPC_TLS_KEY": ""}, "CY_LLM_GRPC_TLS_KEY"),
        ({"CY_LLM_GRPC_TLS_CERT": "/nowhere.pem"}, "/nowhere.pem"),
        ({"CY_LLM_GRPC_TLS_CERT": str(broken)}, "broken.pem"),
        ({"CY_LLM_GRPC_TLS_CA": str(broken)}, "tls.ca"),
        ({"CY_LLM_GRPC_TLS_KEY": other["CY_LLM_GRPC_TLS_KEY"]}, "is not the key of"),
    ]:
        result = run("worker", "--engine", "echo", "--port", "0", "--health-port", "-1", env=files | change)
        assert result.returncode == 2 and names in result.stderr, (change, result.stderr)


@pytest.mark.long
def test_new_files_are_used_without_a_restart(worker, coordinator, ca):
    """The server's certificate is replaced by one of another authority: who trusts only that one gets in then."""
    files = ca.sign("server", "moving")
    behind = worker({}, env={k: v for k, v in files.items() if not k.endswith("_CA")})
    late = Authority(ca.path, "late")
    c = coordinator(behind.address("worker"), ready=False, env={"CY_LLM_GRPC_TLS_CA": str(ca.path / "late.pem")})
    url = c.address("coordinator-http")
    time.sleep(1)
    assert metric(url, "coordinator_workers_healthy") == 0
    late.sign("server", "moving")
    wait_until(lambda: metric(url, "coordinator_workers_healthy") == 1, limit=60, what="the new certificate")
    assert http.get(url + "/ready").status_code == 200 and client
