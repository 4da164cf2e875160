"""Prints what a program is made of, as CycloneDX: every crate that is linked into it, by what cargo says.

    python3 deploy/images/sbom.py PACKAGE VERSION
"""

import json
import subprocess
import sys


def metadata() -> dict:
    command = [
        "cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu",
        "--features", "countersign-policy-store/etcd,countersign/etcd",
    ]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def linked(root: str, nodes: dict) -> set:
    """The packages that `root` reaches by normal dependencies, itself included."""
    seen, waiting = set(), [root]
    while waiting:
        package = waiting.pop()
        if package in seen:
            continue
        seen.add(package)
        for dependency in nodes[package]["deps"]:
            # `kind` is null for a normal dependency.
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    return seen


def component(package: dict, kind: str) -> dict:
    name, version = package["name"], package["version"]
    described = {"type": kind, "name": name, "version": version, "bom-ref": f"pkg:cargo/{name}@{version}"}
    if package["source"]:
        described["purl"] = f"pkg:cargo/{name}@{version}"
    if package["license"]:
        described["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return described


def main() -> None:
    name, version = sys.argv[1:]
    data = metadata()
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    (root,) = [key for key, package in packages.items() if package["name"] == name and package["source"] is None]
    parts = sorted((packages[key] for key in linked(root, nodes) - {root}), key=lambda package: (package["name"], package["version"]))
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**component(packages[root], "application"), "version": version}},
        "components": [component(package, "library") for package in parts],
    }
    json.dump(bom, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
