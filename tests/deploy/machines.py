"""Holds deploy/ecs and deploy/systemd to what they promise, without a cluster and without starting anything.

    python tests/deploy/machines.py FOLDER-OF-PROGRAMS

A task definition is validated against the shape that ECS's RegisterTaskDefinition has in botocore, and its variables against the
programs' settings, which `--check-config` reads with certificates made here. A unit is given to `systemd-analyze verify`, where there is
one, and its settings file to its program.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import botocore.loaders
import botocore.model
import botocore.validate

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
PARTS = ["policy-store", "decision", "gateway"]
HOSTS = {part: f"{part}.countersign.internal" for part in PARTS} | {"gateway": "tokens.example.org,gateway.countersign.internal"}

passed, failures = 0, []


def check(is_so, what):
    global passed
    if is_so:
        passed += 1
    else:
        failures.append(what)


def run(command, environment=None):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERSIGN_")}
    return subprocess.run(command, env=clean | (environment or {}), capture_output=True, text=True, timeout=60)


def certificates(programs, folder):
    parts = [f"--part={part}={names}" for part, names in HOSTS.items()] + ["--part=etcd=etcd.countersign.internal"]
    made = run([programs / "countersign", "certificates", f"--out={folder}", "--trust-domain=countersign.internal", *parts])
    assert made.returncode == 0, made.stderr


def check_settings(program, arguments, environment, where):
    """The program takes the settings; etcd is not asked, but its certificates are read."""
    checked = run([program, *arguments, "--check-config"], environment)
    check(checked.returncode == 0, f"{where}: {checked.stderr}")
    # And a setting that is none would be told.
    wrong = run([program, *arguments, "--check-config"], environment | {"COUNTERSIGN_COLOUR": "red"})
    check(wrong.returncode == 2, f"{where}: a setting that is none is taken")


def check_task(path, shape, programs, tls):
    task = json.loads(path.read_text())
    report = botocore.validate.ParamValidator().validate(task, shape)
    check(not report.has_errors(), f"{path.name}: {report.generate_report()}")
    volumes = {volume["name"] for volume in task["volumes"]}
    for container in task["containerDefinitions"]:
        where = f"{path.name}: {container['name']}"
        check(container["user"] == "65532:65532", f"{where}: may be another user")
        check(container["readonlyRootFilesystem"] is True, f"{where}: writes its root")
        check(container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}, f"{where}: has capabilities")
        mounts = {mount["sourceVolume"] for mount in container["mountPoints"]}
        check(mounts == volumes, f"{where}: mounts {mounts}, has {volumes}")
        if path.stem not in PARTS:
            with tempfile.TemporaryDirectory() as folder:
                arguments = [f"--out={folder}" if each.startswith("--out=") else each for each in container["command"]]
                made = run([programs / "countersign", *arguments])
                check(made.returncode == 0, f"{where}: {made.stderr}")
            continue
        check(container["healthCheck"]["command"] == ["CMD", "/program", "--probe"], f"{where}: nobody asks for its health")
        environment = {each["name"]: each["value"] for each in container["environment"]}
        drain = int(environment["COUNTERSIGN_DRAIN_SECONDS"])
        check(container["stopTimeout"] > drain + 10, f"{where}: is killed while it drains")
        ports = {str(port["containerPort"]) for port in container["portMappings"]}
        listens = {environment[name].rsplit(":", 1)[1] for name in environment if name.endswith("LISTEN")}
        check(ports == listens, f"{where}: listens on {listens}, has {ports}")
        mounted = {mount["containerPath"] for mount in container["mountPoints"]}
        for name, value in list(environment.items()):
            if value.startswith("/"):
                check("/" + value.split("/")[1] in mounted, f"{where}: {name} is on no volume")
        here = {
            name: value.replace("/tls/", f"{tls}/{path.stem}/", 1) if value.startswith("/tls/")
            else value.replace("/etcd-tls/", f"{tls}/etcd/", 1)
            for name, value in environment.items()
        }
        # The programs of the tests are built without etcd, which `--check-config` says.
        if here.get("COUNTERSIGN_STORE", "").startswith("etcd:"):
            for name in [name for name in here if name == "COUNTERSIGN_STORE" or name.startswith("COUNTERSIGN_ETCD_")]:
                known = run([programs / f"countersign-{path.stem}", "--help"]).stdout
                check(name in known, f"{where}: {name} is no setting")
                del here[name]
        check_settings(programs / f"countersign-{path.stem}", [], here, where)


def check_unit(part, programs, tls, folder):
    unit = DEPLOY / f"systemd/countersign-{part}.service"
    text = unit.read_text()
    check(f"--config /etc/countersign/{part}.toml" in text, f"{unit.name}: reads other settings")
    # Where the programs and the users are is this machine's.
    text = text.replace("/usr/local/bin/", f"{programs.resolve()}/")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(("User=", "Group=", "SupplementaryGroups=", "Documentation=")))
    here = folder / unit.name
    here.write_text(text)
    if shutil.which("systemd-analyze"):
        verified = run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", here])
        check(verified.returncode == 0 and not verified.stderr.strip(), f"{unit.name}: {verified.stderr}")
    else:
        print("skipped: there is no systemd-analyze")
    certificates = {f"COUNTERSIGN_TLS_{name}": f"{tls}/{part}/{file}" for name, file in
                    [("CERTIFICATE", "tls.crt"), ("KEY", "tls.key"), ("CA", "ca.crt")]}
    settings = DEPLOY / f"systemd/{part}.toml"
    check_settings(programs / f"countersign-{part}", ["--config", settings], certificates, settings.name)


def main():
    programs = pathlib.Path(sys.argv[1])
    model = botocore.loaders.Loader().load_service_model("ecs", "service-2")
    shape = botocore.model.ServiceModel(model).operation_model("RegisterTaskDefinition").input_shape
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tls = folder / "tls"
        certificates(programs, tls)
        for path in sorted(DEPLOY.glob("ecs/*.json")):
            check_task(path, shape, programs, tls)
        for part in PARTS:
            check_unit(part, programs, tls, folder)
    for failure in failures:
        print(failure)
    print(f"{passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


main()
