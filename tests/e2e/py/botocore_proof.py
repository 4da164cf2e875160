"""Signs a GetCallerIdentity proof with botocore, and with none of the product's code.

In, as JSON: credentials {access_key_id, secret_access_key, session_token}, request (the fields of an ExchangeRequest under their
proto names), sts_url (with a slash at the end), region, audience (the gateway's name), form (`post` or `presigned`).
Out: {"subject_token": …}.
"""

import base64
import json
import pathlib
import sys

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "conformance"))
import binding  # noqa: E402  (the vectors' own reading of the binding)

BODY = "Action=GetCallerIdentity&Version=2011-06-15"
# The longest life of a presigned proof, in seconds.
EXPIRES = 60


def proof(given: dict) -> dict:
    credentials = Credentials(
        given["credentials"]["access_key_id"],
        given["credentials"]["secret_access_key"],
        given["credentials"].get("session_token"),
    )
    claims = {
        "x-countersign-audience": given["audience"],
        "x-countersign-binding": binding.sha256(binding.canonical(given["request"], "subject").encode("utf-8")),
    }
    if given["form"] == "presigned":
        request = AWSRequest("GET", given["sts_url"] + "?" + BODY, headers=claims)
        SigV4QueryAuth(credentials, "sts", given["region"], expires=EXPIRES).add_auth(request)
        return {"method": "GET", "url": request.url, "headers": lower(request)}
    claims["content-type"] = "application/x-www-form-urlencoded; charset=utf-8"
    request = AWSRequest("POST", given["sts_url"], headers=claims, data=BODY)
    SigV4Auth(credentials, "sts", given["region"]).add_auth(request)
    return {"method": "POST", "url": request.url, "headers": lower(request), "body": BODY}


def lower(request: AWSRequest) -> dict:
    return {name.lower(): value for name, value in request.headers.items()}


def main() -> None:
    envelope = json.dumps(proof(json.load(sys.stdin))).encode("utf-8")
    print(json.dumps({"subject_token": base64.urlsafe_b64encode(envelope).rstrip(b"=").decode("ascii")}))


if __name__ == "__main__":
    main()
