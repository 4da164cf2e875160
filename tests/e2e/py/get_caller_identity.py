"""Asks an STS endpoint who is calling, with boto3 as it comes.

In, as JSON: url, region, and either credentials {access_key_id, secret_access_key} or credential_process (a command line, for
which a profile is written as users do it).
Out: {arn, user_id, account}; or, with exit status 1, {code, http_status}.
"""

import json
import os
import sys
import tempfile

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def session(given: dict, folder: str) -> boto3.Session:
    if "credential_process" in given:
        path = os.path.join(folder, "config")
        with open(path, "w", encoding="utf-8") as config:
            config.write(f"[default]\ncredential_process = {given['credential_process']}\n")
        os.environ["AWS_CONFIG_FILE"] = path
        os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.path.join(folder, "none")
        return boto3.Session()
    return boto3.Session(
        aws_access_key_id=given["credentials"]["access_key_id"],
        aws_secret_access_key=given["credentials"]["secret_access_key"],
    )


def main() -> int:
    given = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        sts = session(given, folder).client(
            "sts",
            endpoint_url=given["url"],
            region_name=given["region"],
            config=Config(retries={"total_max_attempts": 1}),
        )
        try:
            answer = sts.get_caller_identity()
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            print(json.dumps({"code": error.response["Error"]["Code"], "http_status": status}))
            return 1
    print(json.dumps({"arn": answer["Arn"], "user_id": answer["UserId"], "account": answer["Account"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
