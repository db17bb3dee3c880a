"""What starts the product on other machines fits the product: commands, settings, ports, times.

No container is built here. What can be read is checked against the program: the files parse, what
they name exists, and what they grant is enough and no more.
"""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from workers import daemon, traces, web
from workers.app import build_providers
from workers.cli import COMMANDS
from workers.providers import Keep, Mail, Sms
from workers.settings import Settings, load_settings
from workers.web import events

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
ROLES = {"web", "worker", "scheduler"}
STOP_S = daemon.DRAIN_S + web.STOP_S + events.STOP_S + traces.EXPORT_S
"""The longest that a stop may take: parts, then requests, an event's scan, then spans."""
PORT = 8025
IMAGE_OWN = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "MPLCONFIGDIR"}


class _Nowhere(Keep):
    """Keeps nothing: these tests send nothing."""

    async def keep(self, message: Mail | Sms) -> str:
        """Nothing is ever sent."""
        raise AssertionError(message)


def _settings(environ: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the program makes of these variables; an unknown one is refused by name."""
    monkeypatch.chdir(folder)
    ours = {name: value for name, value in environ.items() if name not in IMAGE_OWN}
    strangers = [
        name
        for name in ours
        if not name.startswith("DUEWATCH_") and name not in {"DATABASE_URL", "BROKER_URL"}
    ]
    assert strangers == []
    settings = load_settings(environ=ours)
    build_providers(settings, "key", _Nowhere())
    return settings


# --- the image -------------------------------------------------------------------------------


def _steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, with their continuation lines joined."""
    lines = [
        line
        for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (x.partition(" ") for x in joined.split("\n"))
    ]


def _image_environ() -> dict[str, str]:
    last = max(index for index, (word, _) in enumerate(_steps()) if word == "FROM")
    said = " ".join(rest for word, rest in _steps()[last:] if word == "ENV")
    return dict(part.split("=", 1) for part in said.split())


def test_the_image_runs_as_nobody_in_particular_on_a_pinned_base() -> None:
    steps = _steps()
    bases = [rest.split()[0] for word, rest in steps if word == "FROM"]
    users = [rest for word, rest in steps if word == "USER"]

    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.\d+-slim(-\w+)?", base) for base in bases)
    assert users
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1])
    assert ("STOPSIGNAL", "SIGTERM") in steps


def test_the_image_installs_what_the_lock_file_says_and_nothing_else() -> None:
    installs = [
        part.strip()
        for word, rest in _steps()
        if word == "RUN"
        for part in rest.split("&&")
        if re.search(r"\bpip install\b", part)
    ]

    assert len(installs) == 2
    assert "--require-hashes -r" in installs[0]
    assert "--no-deps --no-build-isolation ." in installs[1]
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = re.findall(r"^[a-z0-9][^ \n]*", lock, re.M)
    assert all("==" in one for one in pinned)
    gone = re.search(r"pip uninstall --yes(.*?)(&&|$)", dict(_steps_by("RUN"))["uninstall"])
    assert gone is not None
    builders = {"hatchling", "editables", "pip"}
    assert builders <= set(gone[1].split())


def _steps_by(word: str) -> Iterator[tuple[str, str]]:
    for one, rest in _steps():
        if one == word:
            yield ("uninstall" if "pip uninstall" in rest else rest[:20]), rest


def test_everything_that_the_image_copies_is_there_and_let_through() -> None:
    allowed = [
        line[1:].rstrip("/")
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    ]
    copied = [
        source
        for word, rest in _steps()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]

    assert copied
    for source in copied:
        assert list(ROOT.glob(source)), source
        assert source in allowed or any(Path(one).match(source) for one in allowed), source
    first = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert "*" in first, "everything that isn't named stays out: settings, databases, .git"


def test_the_image_checks_a_route_and_port_that_every_role_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _settings(_image_environ(), tmp_path, monkeypatch)
    checks = [rest for word, rest in _steps() if word == "HEALTHCHECK"]
    exposed = [int(rest) for word, rest in _steps() if word == "EXPOSE"]

    assert settings.web.port == settings.web.health_port == PORT
    assert settings.web.host == "0.0.0.0"
    assert exposed == [PORT]
    assert f"http://127.0.0.1:{PORT}/healthz" in checks[0]
    command = json.loads(checks[0].partition("CMD")[2])
    compile(command[2], "HEALTHCHECK", "exec")
    assert json.loads(next(rest for word, rest in _steps() if word == "CMD"))[0] in COMMANDS


# --- compose ---------------------------------------------------------------------------------


def _composed() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return found


def _filled(text: str) -> str:
    """A value with its variables as compose fills them in: what must be given is `given`."""
    return re.sub(
        r"\$\{(\w+)(?::([-?])([^}]*))?\}",
        lambda found: found[3] if found[2] == "-" else "given",
        text,
    )


def _seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m|min)?", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * (60 if unit in {"m", "min"} else 1)


def test_compose_starts_every_role_with_settings_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = _composed()["services"]
    ours = {name: one for name, one in services.items() if one["image"].startswith("duewatch")}
    commands = {name: one["command"] for name, one in ours.items()}

    assert {command[0] for command in commands.values()} == ROLES | {"migrate"}
    for name, one in ours.items():
        environ = {key: _filled(str(value)) for key, value in one["environment"].items()}
        settings = _settings(_image_environ() | environ, tmp_path, monkeypatch)
        assert settings.database_url.startswith("postgresql://"), name
        assert settings.broker_url.startswith("redis://"), name
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert _seconds(one["stop_grace_period"]) > STOP_S
    assert services["worker"]["deploy"]["replicas"] >= 2
    published = [port for one in services.values() for port in one.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published), "tried out, not exposed"
    assert f"127.0.0.1:8025:{PORT}" in services["web"]["ports"]


def test_compose_waits_for_what_can_say_that_it_is_well() -> None:
    composed = _composed()
    services = composed["services"]
    for name, one in services.items():
        for other, how in one.get("depends_on", {}).items():
            assert other in services, name
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[other]["restart"] == "no"
        for secret in one.get("secrets", ()):
            assert secret in composed["secrets"], name
        for volume in one.get("volumes", ()):
            assert volume.split(":")[0] in composed["volumes"], name
        assert ":" in one["image"], f"{name}: name a version"
        assert not one["image"].endswith(":latest"), name


def test_compose_holds_no_password_of_its_own() -> None:
    text = (ROOT / "compose.yaml").read_text("utf-8")

    # ${NAME:?…} stops with a sentence where the operator gave none.
    for name in ("POSTGRES_PASSWORD", "API_TOKEN"):
        assert re.search(rf"\$\{{{name}:\?", text), name
    assert re.findall(r"(?i)(?:password|token)\S*: (?!\$|/run/secrets/)\S+", text) == []


def test_docker_reads_the_composition_as_it_is_meant(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run(
            [docker, "compose", "version"], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("docker compose isn't installed")
    done = subprocess.run(
        [docker, "compose", "--file", str(ROOT / "compose.yaml"), "config", "--quiet"],
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "POSTGRES_PASSWORD": "x", "API_TOKEN": "y"},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


# --- systemd ---------------------------------------------------------------------------------


def _unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """A unit's sections: each key with all its values, since keys repeat."""

    class Many(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and key in self:
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    parser = configparser.RawConfigParser(dict_type=Many, strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(path, "utf-8")
    return {
        name: {key: str(value).split("\n") for key, value in parser[name].items()}
        for name in parser.sections()
    }


def test_there_is_a_unit_for_every_role() -> None:
    started = {_unit(path)["Service"]["ExecStart"][0].split()[-1] for path in UNITS}

    assert started == ROLES
    assert {path.name for path in UNITS} == {
        "duewatch-web.service",
        "duewatch-worker@.service",
        "duewatch-scheduler.service",
    }


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_gives_a_stop_its_time_and_a_crash_another_try(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = _unit(path)["Service"]
    environ = dict(one.split("=", 1) for one in service["Environment"])
    file = environ.pop("DUEWATCH_FILE")
    role = service["ExecStart"][0].split()[-1]
    numbered = {name: value.replace("%i", "1") for name, value in environ.items()}
    settings = _settings(numbered, tmp_path, monkeypatch)

    assert _seconds(service["TimeoutStopSec"][0]) > STOP_S
    assert service["Restart"] == ["on-failure"]
    assert service["KillSignal"] == ["SIGTERM"]
    assert service["User"] == ["duewatch"]
    assert file == "%d/duewatch.toml"
    assert service["LoadCredential"] == ["duewatch.toml:/etc/duewatch/duewatch.toml"]
    assert (settings.web.health_port is None) == (role == "web")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_a_unit_and_little_exposed(
    path: Path, tmp_path: Path
) -> None:
    # Only the program isn't there: it is installed on the machine that it is meant for.
    text = path.read_text("utf-8").replace("/opt/duewatch/bin/duewatch", "/bin/true")
    unit = tmp_path / path.name.replace("@", "@1")
    unit.write_text(text, "utf-8")
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    named = [line for line in verified.stderr.splitlines() if "duewatch" in line]
    assert (verified.returncode, named) == (0, [])
    assert security.returncode == 0, security.stdout[-300:]


# --- kubernetes ------------------------------------------------------------------------------


def _objects() -> list[dict[str, Any]]:
    return [
        one
        for path in MANIFESTS
        if path.name != "kustomization.yaml"
        for one in yaml.safe_load_all(path.read_text("utf-8"))
    ]


def _of(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in _objects() if one["kind"] == kind}


def _pods() -> dict[str, dict[str, Any]]:
    """The pods of deployments and jobs by the command that they run."""
    owners = [*_of("Deployment").values(), *_of("Job").values()]
    pods = [one["spec"]["template"]["spec"] for one in owners]
    return {pod["containers"][0]["args"][0]: pod for pod in pods}


@pytest.mark.parametrize("version", ["1.28", "1.34"])
def test_every_manifest_is_what_kubernetes_takes(version: str) -> None:
    for one in _objects():
        kubernetes_validate.validate(one, version, strict=True)
        assert "namespace" not in one["metadata"], "the operator chooses it with -n"


def test_kubernetes_runs_every_role_with_settings_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = _of("ConfigMap")["duewatch"]["data"] | _of("Secret")["duewatch"]["stringData"]
    settings = _settings(_image_environ() | environ, tmp_path, monkeypatch)

    assert set(_pods()) == ROLES | {"migrate"}
    assert settings.database_url.startswith("postgresql://")
    assert settings.web.health_port == PORT
    for pod in _pods().values():
        (container,) = pod["containers"]
        assert container["envFrom"] == [
            {"configMapRef": {"name": "duewatch"}},
            {"secretRef": {"name": "duewatch"}},
        ]
        # Else Kubernetes adds DUEWATCH_PORT and its like, which are no settings.
        assert pod["enableServiceLinks"] is False


def test_kubernetes_asks_the_routes_and_gives_a_stop_its_time() -> None:
    for role in ROLES:
        pod = _pods()[role]
        (container,) = pod["containers"]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        asked = {
            name: container[name]["httpGet"]["path"]
            for name in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert asked == {
            "startupProbe": "/healthz",
            "livenessProbe": "/healthz",
            "readinessProbe": "/readyz",
        }
        for name in asked:
            assert ports[container[name]["httpGet"]["port"]] == PORT
        before = 5 if "lifecycle" in container else 0
        assert pod["terminationGracePeriodSeconds"] > STOP_S + before
        # A database that is away makes a process unready; killing it would help nobody.
        assert container["livenessProbe"]["httpGet"]["path"] != "/readyz"


def test_kubernetes_grants_a_process_nothing_that_it_does_not_need() -> None:
    for pod in _pods().values():
        (container,) = pod["containers"]
        user = next(rest for word, rest in reversed(_steps()) if word == "USER")
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert f"{pod['securityContext']['runAsUser']}" == user.split(":")[0]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        written = {one["mountPath"] for one in container["volumeMounts"]}
        assert written == {"/tmp", "/data"}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


def test_kubernetes_keeps_each_role_up_while_nodes_and_versions_change() -> None:
    deployments, budgets = _of("Deployment"), _of("PodDisruptionBudget")

    assert set(deployments) == set(budgets)
    for name, one in deployments.items():
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["replicas"] >= 2
        assert one["spec"]["selector"]["matchLabels"] == labels
        assert budgets[name]["spec"]["selector"]["matchLabels"] == labels
        assert one["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    served = _of("Service")["duewatch"]["spec"]
    web_labels = deployments["duewatch-web"]["spec"]["template"]["metadata"]["labels"]
    assert served["selector"] == web_labels
    assert served["ports"][0]["targetPort"] == "http"


def test_the_kustomization_names_every_manifest_but_the_secret_of_an_example() -> None:
    named = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text("utf-8"))
    there = {path.name for path in MANIFESTS} - {"kustomization.yaml", "secret.example.yaml"}

    assert set(named["resources"]) == there


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl")
def test_kubectl_builds_the_manifests() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    kinds = [one["kind"] for one in yaml.safe_load_all(done.stdout)]
    assert sorted(set(kinds)) == [
        "ConfigMap",
        "Deployment",
        "Job",
        "PodDisruptionBudget",
        "Service",
    ]
    assert "registry.example.com/duewatch:" in done.stdout
