"""Renders the two overlays of deploy/kubernetes and holds them to what they promise.

    python tests/deploy/kubernetes.py FOLDER-OF-PROGRAMS [--version 1.30]

Each object of Kubernetes' own kinds is validated against that version's schemas, strictly. Then: what is referred to is there, every
container keeps to the restricted standard and has probes and limits, and every setting is one that the program knows.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import warnings

# kubernetes-validate warns of nothing that is ours.
warnings.filterwarnings("ignore")

import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402

OVERLAYS = pathlib.Path(__file__).resolve().parents[2] / "deploy/kubernetes/overlays"
# Made by cert-manager, or by hand before the first apply (deploy/kubernetes/README.md).
BY_HAND = {"countersign-secrets"}
PROGRAMS = ["policy-store", "decision", "gateway"]

passed, failures = 0, []


def check(is_so, what):
    global passed
    if is_so:
        passed += 1
    else:
        failures.append(what)


def rendered(overlay):
    command = ["kubectl", "kustomize", str(OVERLAYS / overlay)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if output.returncode != 0:
        sys.exit(f"{' '.join(command)}: {output.stderr}")
    return [each for each in yaml.safe_load_all(output.stdout) if each]


def settings_of(programs, name):
    """The variables that `--help` names."""
    program = programs / f"countersign-{name}"
    output = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True)
    found = set(re.findall(r"\[env: (COUNTERSIGN_[A-Z0-9_]+)\]", re.sub(r"\s+", " ", output.stdout)))
    assert found, f"{program} --help names no variable"
    return found


def templates(objects):
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield each, each["spec"]["template"]


def check_schema(each, version, where):
    try:
        kubernetes_validate.validate(each, version, strict=True)
        check(True, where)
    except kubernetes_validate.SchemaNotFoundError:
        # cert-manager's, whose schemas are not Kubernetes' own.
        check(each["apiVersion"].startswith("cert-manager.io/"), f"{where}: no such kind in {version}")
    except kubernetes_validate.ValidationError as error:
        check(False, f"{where}: {error}")


def check_pod(each, template, objects, where):
    spec = template["spec"]
    names = {(other["kind"], other["metadata"]["name"]) for other in objects}
    secrets = {other["spec"]["secretName"] for other in objects if other["kind"] == "Certificate"} | BY_HAND
    check(("ServiceAccount", spec["serviceAccountName"]) in names, f"{where}: no such service account")
    check(spec["automountServiceAccountToken"] is False, f"{where}: has a token of Kubernetes")
    check(spec["securityContext"]["runAsNonRoot"] is True, f"{where}: may be root")
    check(spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", f"{where}: no seccomp")
    selector = each["spec"]["selector"]["matchLabels"].items()
    check(selector <= template["metadata"]["labels"].items(), f"{where}: selects other pods")
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    volumes |= {claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])}
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            check(volume["secret"]["secretName"] in secrets, f"{where}: nobody makes {volume}")
    for container in spec["containers"]:
        security = container["securityContext"]
        check(security["readOnlyRootFilesystem"] is True, f"{where}: writes its root")
        check(security["allowPrivilegeEscalation"] is False, f"{where}: may become more")
        check(security["capabilities"] == {"drop": ["ALL"]}, f"{where}: has capabilities")
        check(bool(re.search(r":\d+\.\d+\.\d+$", container["image"])), f"{where}: image {container['image']} without a version")
        check("memory" in container["resources"]["limits"], f"{where}: no limit of memory")
        check({"cpu", "memory"} <= container["resources"]["requests"].keys(), f"{where}: no requests")
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            target = container[probe].get("httpGet") or container[probe].get("tcpSocket")
            check(target["port"] in ports, f"{where}: {probe} asks a port that is none")
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        check(mounts == volumes, f"{where}: mounts {mounts}, has {volumes}")


def variables(template, objects):
    maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    for container in template["spec"]["containers"]:
        for source in container.get("envFrom", []):
            yield from maps[source["configMapRef"]["name"]]
        yield from (each["name"] for each in container.get("env", []))


def check_network(objects, where):
    """Services lead to pods that are there, and policies name such pods."""
    labels = [template["metadata"]["labels"] for _, template in templates(objects)]
    for each in objects:
        selector = None
        if each["kind"] == "Service":
            selector = each["spec"]["selector"]
        elif each["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            spec = each["spec"]
            selector = (spec.get("podSelector") or spec.get("selector") or {}).get("matchLabels", {})
        elif each["kind"] == "HorizontalPodAutoscaler":
            target = each["spec"]["scaleTargetRef"]
            names = {(other["kind"], other["metadata"]["name"]) for other in objects}
            check((target["kind"], target["name"]) in names, f"{where}: scales nothing")
        if selector is not None:
            own = selector.items()
            name = each["metadata"]["name"]
            check(any(own <= some.items() for some in labels), f"{where}: {each['kind']} {name} selects no pod")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("programs", type=pathlib.Path, help="where countersign-policy-store and the others are")
    arguments.add_argument("--version", default="1.30", help="of Kubernetes")
    options = arguments.parse_args()
    known = {name: settings_of(options.programs, name) for name in PROGRAMS}
    for overlay in ("dev", "production"):
        objects = rendered(overlay)
        check(len(objects) > 20, f"{overlay}: {len(objects)} objects")
        for each in objects:
            where = f"{overlay}: {each['kind']} {each['metadata']['name']}"
            check_schema(each, options.version, where)
            is_namespaced = each["kind"] != "Namespace"
            check(not is_namespaced or each["metadata"]["namespace"] == "countersign", f"{where}: in no namespace of ours")
        for each, template in templates(objects):
            name = each["metadata"]["name"]
            where = f"{overlay}: {name}"
            check_pod(each, template, objects, where)
            for variable in variables(template, objects):
                if variable.startswith("COUNTERSIGN_"):
                    check(variable in known[name], f"{where}: {variable} is no setting of countersign-{name}")
        check_network(objects, overlay)
        print(f"{overlay}: {len(objects)} objects")
    for failure in failures:
        print(failure)
    print(f"{passed} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


main()
