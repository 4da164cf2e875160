"""The life of a token over HTTP, by PyJWT and the standard library: bound to a key (DPoP), narrowed, introspected, revoked.

In, as JSON: credentials, role_arn, sts_url, region, audience (the gateway's name, and where it answers).
Out: what each step came to.
"""

import base64
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

import botocore_proof
from botocore_proof import binding

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class Client:
    def __init__(self, given: dict) -> None:
        self.given = given
        self.issuer = given["audience"]
        self.key = ec.generate_private_key(ec.SECP256R1())
        jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        self.jwk = {name: jwk[name] for name in ("crv", "kty", "x", "y")}

    def thumbprint(self) -> str:
        return binding.sha256(json.dumps(self.jwk, sort_keys=True, separators=(",", ":")).encode())

    def dpop(self, path: str) -> str:
        claims = {"jti": str(uuid.uuid4()), "htm": "POST", "htu": self.issuer + path, "iat": int(time.time())}
        return jwt.encode(claims, self.key, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": self.jwk})

    def post(self, path: str, form: dict, **headers: str) -> tuple:
        request = urllib.request.Request(self.issuer + path, urllib.parse.urlencode(form).encode(), headers)
        try:
            with urllib.request.urlopen(request) as answer:
                status, body = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        return status, json.loads(body) if body else None

    def exchange(self, fields: dict, subject_token: str, **headers: str) -> tuple:
        grant_type = "urn:ietf:params:oauth:grant-type:token-exchange"
        return self.post("/oauth2/token", fields | {"grant_type": grant_type, "subject_token": subject_token}, **headers)

    def assume(self, more: dict, **headers: str) -> tuple:
        fields = {
            "subject_token_type": "urn:countersign:proof:sts-get-caller-identity",
            "role_arn": self.given["role_arn"],
        } | more
        envelope = json.dumps(botocore_proof.proof(self.given | {"request": fields, "form": "post"})).encode()
        return self.exchange(fields, base64.urlsafe_b64encode(envelope).rstrip(b"=").decode(), **headers)

    def claims(self, token: str, audience: str) -> dict:
        keys = jwt.PyJWKClient(self.issuer + "/.well-known/jwks.json")
        key = keys.get_signing_key_from_jwt(token).key
        return jwt.decode(token, key, algorithms=["ES256"], audience=audience, issuer=self.issuer)


def main() -> None:
    client = Client(json.load(sys.stdin))
    _, own = client.assume({"role_session_name": "own", "audience": "countersign"})
    mine = {"authorization": "Bearer " + own["access_token"]}

    # The binding covers the key, so the form names it; the header shows it.
    bound_to = {"client_key_thumbprint": client.thumbprint()}
    asked = {"role_session_name": "bound", "audience": "orders", "scope": "orders:Get* orders:List*"} | bound_to
    bound_status, bound = client.assume(asked, dpop=client.dpop("/oauth2/token"))
    bound = bound["access_token"]

    less = {"subject_token_type": ACCESS_TOKEN, "audience": "orders", "scope": "orders:GetOrder s3:*"}
    stolen_status, stolen = client.exchange(less, bound)
    narrowed_status, narrowed = client.exchange(less, bound, dpop=client.dpop("/oauth2/token"))
    claims = client.claims(narrowed["access_token"], "orders")

    def active(token: str) -> dict:
        status, body = client.post("/oauth2/introspect", {"token": token}, **mine)
        return body if status == 200 else {"status": status, **body}

    before = active(narrowed["access_token"])
    revoked_status, _ = client.post("/oauth2/revoke", {"token": bound}, **mine)
    deadline = time.time() + 10
    while active(narrowed["access_token"])["active"] and time.time() < deadline:
        time.sleep(0.05)
    print(json.dumps({
        "bound": bound_status,
        "stolen": [stolen_status, stolen["error"], stolen["reason"]],
        "narrowed": [narrowed_status, narrowed["token_type"], narrowed["scope"]],
        "jkt": claims["cnf"]["jkt"] == client.thumbprint(),
        "before": [before["active"], before["sub"] == claims["sub"], before["scope"]],
        "revoked": revoked_status,
        "after": active(narrowed["access_token"]),
        "own": active(own["access_token"])["active"],
    }))


if __name__ == "__main__":
    main()
