"""Verifies a token with PyJWT, from the gateway's key set, as RFC 9068 asks of a resource server.

In, as JSON: token, issuer, audience, jwks_of (the gateway whose key set it is, at /.well-known/jwks.json).
Out: {header, claims}; or, with exit status 1, {error: the exception's name}.
"""

import json
import sys

import jwt

REQUIRED = ["aud", "client_id", "exp", "iat", "iss", "jti", "sub"]


def main() -> int:
    given = json.load(sys.stdin)
    try:
        header = jwt.get_unverified_header(given["token"])
        if header.get("typ") != "at+jwt":
            raise jwt.InvalidTokenError(f"typ is {header.get('typ')!r}")
        keys = jwt.PyJWKClient(given["jwks_of"] + "/.well-known/jwks.json")
        claims = jwt.decode(
            given["token"],
            keys.get_signing_key_from_jwt(given["token"]).key,
            algorithms=["ES256"],
            audience=given["audience"],
            issuer=given["issuer"],
            options={"require": REQUIRED, "strict_aud": True},
        )
    except jwt.PyJWTError as error:
        print(json.dumps({"error": type(error).__name__}))
        return 1
    print(json.dumps({"header": header, "claims": claims}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
