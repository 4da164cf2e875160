//! What `up` says once everything is there.

use std::path::Path;

use countersign_decision::SERVICE_NAME as DECISION;
use countersign_policy_store::{ADMINISTRATOR, SERVICE_NAME as POLICY_STORE};
use countersign_proto::token::v1::token_exchange_service_server::SERVICE_NAME as GATEWAY;

use crate::endpoints::{Endpoints, authority};

use super::Running;

/// What listens where, and lines to paste.
#[must_use]
pub fn welcome(running: &Running) -> String {
    let Running {
        endpoints,
        issuer,
        account,
        data_dir,
        admin_token_path,
        root_credentials_path,
        security,
        ..
    } = running;
    let trust =
        security.ca().map_or("-plaintext".to_owned(), |ca| format!("-cacert {}", quoted(ca)));
    let Endpoints { policy_store, decision, gateway, http } = endpoints;
    let (policy_store, decision, gateway) =
        (authority(policy_store), authority(decision), authority(gateway));
    let admin = quoted(admin_token_path);
    let root = quoted(root_credentials_path);
    let folder = quoted(data_dir);
    let bearer = format!("-H \"authorization: Bearer $(cat {admin})\"");
    format!(
        r#"Countersign is up. Account {account}, issuer {issuer}, data in {folder}

  policy store       {policy_store}   {POLICY_STORE}
  decision service   {decision}   {DECISION}
  token gateway      {gateway}   {GATEWAY}
  http               {http}   /.well-known/jwks.json, AWS's STS at /

  admin token        {admin}   (a bearer token of role/{ADMINISTRATOR}; renewed while this runs)
  root credentials   {root}   (the root's access key, as AWS's credential_process)

Lines to paste into another terminal:

  # what there is
  grpcurl {trust} {policy_store} list
  grpcurl {trust} {decision} describe {DECISION}.Authorize
  grpcurl {trust} -d '{{"service":"{DECISION}"}}' {decision} grpc.health.v1.Health/Check

  # the roles
  grpcurl {trust} {bearer} {policy_store} {POLICY_STORE}/ListRoles

  # may the administrator role read an object?
  grpcurl {trust} {bearer} \
    -d '{{"principal_arn":"arn:aws:iam::{account}:role/{ADMINISTRATOR}","action":"s3:GetObject","resource":"arn:aws:s3:::my-bucket/a","resource_account":"{account}"}}' \
    {decision} {DECISION}/Authorize

  # a token of the administrator role for the service `orders`
  countersign proof --data-dir {folder} --credentials {root} --audience orders \
    --role-arn arn:aws:iam::{account}:role/{ADMINISTRATOR} --role-session-name me |
    grpcurl {trust} -d @ {gateway} {GATEWAY}/Exchange

Ctrl-C ends it.
"#
    )
}

/// As a shell reads it back.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,@%:=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_for_a_shell() {
        let check = |path: &str, expected: &str| assert_eq!(quoted(Path::new(path)), expected);
        check("./countersign-data/admin.token", "./countersign-data/admin.token");
        check("/tmp/my data", "'/tmp/my data'");
        check("it's $HOME", "'it'\\''s $HOME'");
        check("", "''");
    }
}
