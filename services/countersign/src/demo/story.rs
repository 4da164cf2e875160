//! The order of the steps. A step that comes out otherwise ends its use case: the next ones would need it.

use std::{future::Future, io::Write, time::Instant};

use countersign_proto::decision::v1::{Decision, DecisionReason};
use tonic::Code;

use super::{
    cases::{self, Policy, USE_CASES, UseCase},
    steps::{AUDIENCE, Outcome, User, Workload, refused},
    table::Table,
};
use crate::{proof::Ask, up::Running};

const ALLOW: (Decision, DecisionReason) =
    (Decision::Allow, DecisionReason::AllowedByIdentityPolicy);
const DENY: (Decision, DecisionReason) = (Decision::ImplicitDeny, DecisionReason::NoIdentityAllow);

/// A step came out otherwise; it is in the table.
struct Stopped;

/// All use cases, one after the other.
pub async fn tell<W: Write>(running: &Running, table: &mut Table<W>) -> Result<(), String> {
    let user = User::new(running)?;
    for (number, case) in (1..).zip(&USE_CASES) {
        table.heading(&format!("{number}  {}  ({} as {})", case.title, case.service, case.role));
        let Ok(workload) = use_case(&user, table, case, number == 1).await else { continue };
        if case.service == "cloudformation.amazonaws.com" {
            table.heading(&format!("   Nobody hands {} over without iam:PassRole", case.role));
            // What stopped is in the table.
            let _ = hand_over(&user, table, case, &workload).await;
        }
    }
    Ok(())
}

async fn use_case<W: Write>(
    user: &User,
    table: &mut Table<W>,
    case: &UseCase,
    in_depth: bool,
) -> Result<Workload, Stopped> {
    let role =
        step(table, "create role", user.create_role(case.role, case.trust_policy(), case.service))
            .await?;
    match &case.policy {
        Policy::Aws(_) => {}
        Policy::Custom { name, document } => {
            step(table, "create policy", user.create_policy(name, document)).await?;
        }
    }
    let policy = case.policy.arn();
    step(table, "attach the policy", user.attach(case.role, &policy)).await?;
    let workload =
        step(table, "create the workload's identity", user.create_workload(case.workload)).await?;
    let bound =
        step(table, "bind it to the service", user.bind(&workload, case.service, &role)).await?;
    let first = case.allowed.first().copied().unwrap_or(case.denied);
    let asked = format!("{}, by role ARN", first.action);
    step(table, &asked, user.ask_about_role(&role, first, &bound)).await?;

    let ask = Ask::new(&role, case.session, AUDIENCE).lasting(900);
    let request = step(table, "sign a proof", async { user.prove(&workload, &ask) }).await?;
    let token = step(table, "exchange it for a token", user.exchange(request.clone())).await?;
    if in_depth {
        let again = async {
            refused(
                user.gateway.clone().exchange(request).await,
                Code::Unauthenticated,
                "ProofAlreadyUsed",
            )
        };
        step(table, "the same proof again: refused", again).await?;
    }
    for call in case.allowed {
        let name = format!("call {}", call.action);
        step(table, &name, user.authorize(&token, *call, ALLOW, "")).await?;
    }
    let name = format!("call {}", case.denied.action);
    step(table, &name, user.authorize(&token, case.denied, DENY, "")).await?;
    if in_depth {
        let misses = step(table, "explain that denial", user.explain(&token, case.denied)).await?;
        misses.iter().take(3).for_each(|miss| table.note(miss));
        step(table, "at a service it is not for: refused", user.authorize_elsewhere(&token, first))
            .await?;
    }

    let revision = step(table, "detach the policy", user.detach(case.role, &policy)).await?;
    let again = format!("call {} again", first.action);
    step(table, &again, user.authorize(&token, first, DENY, &revision)).await?;
    Ok(workload)
}

/// A user who may bind, but may not pass the role: refused, until iam:PassRole is there.
async fn hand_over<W: Write>(
    user: &User,
    table: &mut Table<W>,
    case: &UseCase,
    workload: &Workload,
) -> Result<(), Stopped> {
    const ROLE: &str = "DeployerRole";
    let deployer = step(table, "create user deployer", user.create_workload("deployer")).await?;
    let trust = cases::trusting_user("deployer");
    let role =
        step(table, "create a role that trusts it", user.create_role(ROLE, trust, "user/deployer"))
            .await?;
    let put = user.put_inline(ROLE, "MayBind", cases::DEPLOYER_POLICY);
    let revision = step(table, "allow it BindServicePrincipal", put).await?;
    let call = cases::Call {
        action: "countersign:BindServicePrincipal",
        resource: "arn:aws:iam::123456789012:role/CloudFormationRole",
    };
    step(table, "may it bind? by role ARN", user.ask_about_role(&role, call, &revision)).await?;

    let token = async {
        // For Countersign's own RPCs.
        let ask = Ask::new(&role, "deployer", "countersign").lasting(900);
        let (request, _) = user.prove(&deployer, &ask)?;
        user.exchange(request).await
    };
    let token = step(table, "exchange as deployer", token).await?;
    let target = case.role_arn();
    let without = async {
        let bound = user.bind_as(&token, workload, case.service, &target).await;
        refused(bound.map_err(|status| *status), Code::PermissionDenied, "AccessDenied")
    };
    step(table, "without iam:PassRole: refused", without).await?;
    step(table, "add iam:PassRole", user.put_inline(ROLE, "MayPass", cases::PASS_ROLE_POLICY))
        .await?;
    let with = async {
        let bound = user.bind_as(&token, workload, case.service, &target).await;
        bound.map_err(|status| status.message().to_owned())?;
        Ok(((), "handed over".to_owned()))
    };
    step(table, "with iam:PassRole", with).await
}

async fn step<T, W: Write>(
    table: &mut Table<W>,
    name: &str,
    work: impl Future<Output = Outcome<T>>,
) -> Result<T, Stopped> {
    let begun = Instant::now();
    let (value, outcome) = match work.await {
        Ok((value, detail)) => (Ok(value), Ok(detail)),
        Err(detail) => (Err(Stopped), Err(detail)),
    };
    table.step(name, &outcome, begun.elapsed());
    value
}
