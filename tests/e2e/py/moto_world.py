"""Makes a user with an access key, and a session of a role, on a moto server; then has it check every signature.

In, as JSON: url, region. Out: {"user": {arn, credentials}, "session": {arn (of the role), credentials}}.
"""

import json
import sys
import urllib.request

import boto3

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


def credentials(answer: dict) -> dict:
    return {
        "access_key_id": answer["AccessKeyId"],
        "secret_access_key": answer["SecretAccessKey"],
        "session_token": answer.get("SessionToken"),
    }


def main() -> None:
    given = json.load(sys.stdin)

    def client(service: str, key: str, secret: str):
        return boto3.client(
            service,
            endpoint_url=given["url"],
            region_name=given["region"],
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )

    iam = client("iam", "unchecked", "unchecked")
    user = iam.create_user(UserName="workload")["User"]
    key = iam.create_access_key(UserName="workload")["AccessKey"]
    role = iam.create_role(RoleName="Workload", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]
    sts = client("sts", key["AccessKeyId"], key["SecretAccessKey"])
    session = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="instance-1")

    # The body is read as it is only if it is no form.
    check_from_now_on = urllib.request.Request(
        given["url"] + "moto-api/reset-auth", data=b"0", headers={"content-type": "text/plain"}, method="POST"
    )
    urllib.request.urlopen(check_from_now_on).read()

    world = {
        "user": {"arn": user["Arn"], "credentials": credentials(key)},
        "session": {"arn": role["Arn"], "credentials": credentials(session["Credentials"])},
    }
    print(json.dumps(world))


if __name__ == "__main__":
    main()
