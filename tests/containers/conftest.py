"""One stack for all tests; needs the images that deploy/image/build makes, and an engine."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pageferry.certs import make
from pageferry.holders import Holder
from tests.containers.stack import Stack, docker
from wire.trust.access import Role

ROOT = Path(__file__).parents[2]
PROJECT = "pageferry-tests"
SERVICES = "source destination prometheus"
USER = 65532


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates that the user of the containers can read."""
    folder = tmp_path_factory.mktemp("certs")
    holders = [Holder("source", Role.SOURCE), Holder("destination", Role.DESTINATION),
               Holder("operator", Role.OPERATOR)]  # fmt: skip
    make(folder, holders, 2, renew=False)
    for path in (folder, *folder.rglob("*")):
        if os.geteuid() == 0 and path.parts[-1] != "ca.key":
            os.chown(path, USER, USER)
    for parent in (folder, folder.parent):
        parent.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def prometheus_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Debian's Prometheus in an image that behaves like the published one."""
    context = tmp_path_factory.mktemp("prometheus")
    program = shutil.which("prometheus")
    assert program is not None, "install Debian's package prometheus"
    shutil.copy(program, context / "prometheus")
    (context / "Dockerfile").write_text(
        "FROM pageferry-base\nCOPY prometheus /bin/prometheus\n"
        "RUN mkdir /prometheus && chown 65534:65534 /prometheus\n"
        'USER 65534\nENTRYPOINT ["/bin/prometheus"]\n'
    )
    docker("build", "--quiet", "--tag", "pageferry-prometheus", str(context))
    return "pageferry-prometheus"


@pytest.fixture(scope="session")
def ports(certs: Path, prometheus_image: str) -> Iterator[dict[str, int]]:
    """Ports of this machine, told to compose through the environment like everything else."""
    names = ("PAGEFERRY_SOURCE_PORT", "PAGEFERRY_DEST_PORT", "PROMETHEUS_PORT")
    found = {name: free_port() for name in names}
    environment = {name: str(port) for name, port in found.items()} | {
        "PAGEFERRY_CERTS": str(certs),
        "PAGEFERRY_UID": str(os.geteuid() or USER),
        "PAGEFERRY_GID": str(os.getegid() or USER),
        "PAGEFERRY_IDLE_EXPIRY": "5s",
        "PROMETHEUS_IMAGE": prometheus_image,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield found


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    """Debian's docker-compose, or the plugin where there is none."""
    return "docker-compose" if shutil.which("docker-compose") else "docker compose"


@pytest.fixture(scope="session")
def docker_compose_file(ports: dict[str, int]) -> str:
    """The file that people use, as it is."""
    assert ports
    return str(ROOT / "deploy" / "compose.yaml")


@pytest.fixture(scope="session")
def docker_compose_project_name() -> str:
    """So that nothing of others is touched."""
    return PROJECT


@pytest.fixture(scope="session")
def docker_setup() -> str:
    """Without Grafana, of which there is no image here."""
    return f"up --detach --no-build {SERVICES}"


@pytest.fixture(scope="session")
def docker_cleanup() -> str:
    """Nothing stays."""
    return "down --volumes --timeout 5"


@pytest.fixture(scope="session")
def running(docker_services: object, ports: dict[str, int], certs: Path) -> Stack:
    """The stack, healthy."""
    assert docker_services
    stack = Stack(
        PROJECT,
        certs,
        f"127.0.0.1:{ports['PAGEFERRY_SOURCE_PORT']}",
        f"127.0.0.1:{ports['PAGEFERRY_DEST_PORT']}",
        f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}",
    )
    stack.wait_healthy()
    return stack


@pytest.fixture
def stack(running: Stack) -> Stack:
    """The stack, healthy again after whatever the test before did to it."""
    for service in ("destination", "source"):
        docker("start", running.container(service))  # nothing, where it runs
    running.wait_healthy()
    return running
