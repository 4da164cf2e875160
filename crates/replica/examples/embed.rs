//! Decisions in one's own process: follows a policy store, and answers from what it holds, without a call.
//!
//! ```sh
//! countersign up &
//! cargo run -p countersign-replica --example embed -- \
//!     http://127.0.0.1:7401 .countersign/admin.token arn:aws:iam::000000000000:role/App orders:GetOrder arn:aws:orders:eu-west-1:000000000000:order/1
//! ```
//!
//! The token's role needs `countersign:Watch`. It prints a decision a second, with the revision and how long ago the store was heard. With
//! `keep_in` it would start without the store; with `with_max_staleness` it would not answer from what is too old.
//!
//! What is asked about here is a user or a role by its ARN. Sessions by their tokens, and whether one may assume a role, are questions of more
//! than the evaluator: ask the decision service.

use std::{
    error::Error,
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use countersign_evaluator::{
    Context, Request, Resource, ResourceArn, Verdict, compiled, context::assertable, reference,
};
use countersign_policy::{action::Action, principal::IamArn};
use countersign_replica::{Replica, World};
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

/// May the principal do it? `now` is in seconds since 1970. All of it is of one world, and so of one revision.
///
/// # Errors
/// When the question is none, or none for here. A principal that does not exist is an error too, and nothing is allowed to it.
fn decide(
    world: &World,
    principal: &IamArn,
    action: Action,
    resource: ResourceArn,
    context: &Context,
    now: i64,
) -> Result<Verdict, Box<dyn Error>> {
    if reference::is_role_assumption_action(&action) {
        return Err(format!(
            "`{action}` is for the role's trust policy to say, and not asked here"
        )
        .into());
    }
    if let Some((key, _)) = context.iter().find(|(key, _)| !assertable(key)) {
        return Err(format!("`{key}` is Countersign's own to set").into());
    }
    let snapshot = world.snapshot();
    let subject = match principal {
        IamArn::User { .. } => snapshot.user_subject(principal)?,
        IamArn::Role { .. } => snapshot.role_subject(principal)?,
        IamArn::Root { .. } | IamArn::AssumedRole { .. } | IamArn::FederatedUser { .. } => {
            return Err(format!("`{principal}` is no user and no role").into());
        }
    };
    // `*` is in the principal's own account; an ARN has to say whose it is.
    let account = match &resource {
        ResourceArn::Any => principal.account(),
        ResourceArn::Arn(arn) => arn.account_id().ok_or("the resource's ARN names no account")?,
    };
    let context = subject.context(context, now, Some(account))?;
    let mut policies = subject.policy_set();
    // Without these two a deny would be missed: what is stored for the resource, and what stands over both accounts.
    if let ResourceArn::Arn(arn) = &resource
        && let Some((stored, program)) = snapshot.resource_policy(account, &arn.to_string())
    {
        policies.resource = Some(stored.clone());
        policies.programs.push(program.clone());
    }
    snapshot.add_guardrails(&mut policies, &subject.principal, &action, Some(account));
    let resource = Resource { arn: resource, account: Some(account) };
    let request = Request { principal: subject.principal, action, resource, context };
    Ok(compiled::decide(&request, &policies))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, token_file, principal, action, resource] = arguments.as_slice() else {
        return Err("give STORE-URL TOKEN-FILE PRINCIPAL-ARN ACTION RESOURCE-ARN".into());
    };
    let (principal, action, resource): (IamArn, Action, ResourceArn) =
        (principal.parse()?, action.parse()?, resource.parse()?);
    let token = fs::read_to_string(token_file)?;
    let bearer: MetadataValue<Ascii> = format!("Bearer {}", token.trim()).parse()?;
    let credential = move |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", bearer.clone());
        Ok::<_, Status>(request)
    };

    // No kinds: every kind.
    let (replica, follower) = Replica::new("embedded", &[]);
    let channel = Endpoint::from_shared(store.clone())?.connect_lazy();
    tokio::spawn(follower.run(channel, credential));
    replica.ready().await;
    loop {
        let view = replica.now()?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let now = i64::try_from(since_1970.as_secs())?;
        let context = Context::new();
        let verdict =
            decide(view.world(), &principal, action.clone(), resource.clone(), &context, now);
        match verdict {
            Ok(Verdict { decision, reason, .. }) => println!(
                "{decision:?} ({reason:?}) at {}, heard {:.1?} ago",
                view.revision(),
                replica.age()
            ),
            // Whoever enforces it denies.
            Err(error) => println!("not allowed: {error}"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
