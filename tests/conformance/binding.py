"""Recomputes the vectors of binding.json without any of the product's code.

    python3 binding.py [FILE]     prints `N passed, M failed`, and exits with 1 if any failed

A vector is {"name", "request", "canonical", "binding"}, and with "proof": "actor" it is an actor's. `request` holds the fields
of an ExchangeRequest under their proto names, or {"form": "..."}, the same in application/x-www-form-urlencoded: `policy_arns` and
`transitive_tag_keys` once for each value, `tags` as the JSON that the binding has, and everything else once.
"""

import base64
import hashlib
import json
import pathlib
import sys
import urllib.parse

TEXTS = {
    "subject_token", "subject_token_type", "actor_token", "actor_token_type", "role_arn", "role_session_name", "audience",
    "scope", "policy", "external_id", "source_identity", "requested_token_type", "client_key_thumbprint",
    "may_act",
}
LISTS = {"policy_arns", "tags", "transitive_tag_keys"}


def sha256(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")


def fields_of_form(form: str) -> dict:
    pairs = urllib.parse.parse_qsl(form, keep_blank_values=True, strict_parsing=True, encoding="utf-8", errors="strict")
    fields = {}
    for name, value in pairs:
        if name in ("policy_arns", "transitive_tag_keys"):
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise ValueError("a parameter is there twice")
        else:
            fields[name] = json.loads(value) if name == "tags" and value else value
    if fields.pop("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange":
        raise ValueError("another grant_type")
    if "duration_seconds" in fields:
        fields["duration_seconds"] = int(fields["duration_seconds"])
    return fields


def canonical(request: dict, proof: str) -> str:
    fields = fields_of_form(request["form"]) if "form" in request else dict(request)
    unknown = set(fields) - TEXTS - LISTS - {"duration_seconds"}
    if unknown:
        raise ValueError(f"unknown fields {unknown}")
    subject_token = fields.pop("subject_token", "")
    fields.pop("actor_token", None)
    fields = {name: value for name, value in fields.items() if value not in ("", 0, [])}
    if proof == "actor":
        fields["subject_token_sha256"] = sha256(subject_token.encode("utf-8"))
    # Every name is ASCII and every number an integer: there this is RFC 8785.
    return json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def failures(vector: dict) -> list:
    text = canonical(vector["request"], vector.get("proof", "subject"))
    found = []
    if text != vector["canonical"]:
        found.append(f"canonical: {text!r} is not {vector['canonical']!r}")
    if sha256(text.encode("utf-8")) != vector["binding"]:
        found.append(f"binding: {sha256(text.encode('utf-8'))} is not {vector['binding']}")
    return found


def main() -> int:
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).with_name("binding.json")
    vectors = json.loads(path.read_text(encoding="utf-8"))
    failed = 0
    for vector in vectors:
        found = failures(vector)
        failed += bool(found)
        for line in found:
            print(f"{vector['name']}: {line}", file=sys.stderr)
    print(f"{len(vectors) - failed} passed, {failed} failed")
    return 1 if failed or not vectors else 0


if __name__ == "__main__":
    sys.exit(main())
