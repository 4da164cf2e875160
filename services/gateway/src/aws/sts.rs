//! Countersign's own STS. It answers who signed, and needs no permission for that, as AWS's does not (a policy cannot even deny it).

use countersign_aws_query::{Call, Element, Fault, STS_NAMESPACE, STS_VERSION, reply};

use crate::aws::sigv4_auth::LocalCaller;

/// Answers `call` for `caller`.
///
/// # Errors
/// `InvalidAction` for every operation that is not there.
pub fn dispatch(call: &Call, caller: &LocalCaller, request_id: &str) -> Result<String, Fault> {
    match (call.action.as_str(), call.version.as_str()) {
        ("GetCallerIdentity", STS_VERSION) => get_caller_identity(call, caller, request_id),
        (action, version) => Err(Fault::invalid_action(action, version)),
    }
}

fn get_caller_identity(
    call: &Call,
    caller: &LocalCaller,
    request_id: &str,
) -> Result<String, Fault> {
    call.allow_only(&[])?;
    let result = [
        Element::text("Arn", caller.arn()),
        Element::text("UserId", caller.user_id()),
        Element::text("Account", caller.account_id()),
    ];
    Ok(reply("GetCallerIdentity", STS_NAMESPACE, &result, request_id))
}
