//! Guardrails: the SCPs and RCPs that stand over an account, level by level, from the organization's root to the account itself.
//!
//! Source: <https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_scps_evaluation.html>, RULES.md 34, 35, X7, X8.
//!
//! The management account is under none of them: it is the operator's, which could take any away. What is attached and not at hand is
//! named as missing, and so nothing is allowed.

use std::sync::{Arc, LazyLock};

use countersign_policy::action::Action;
use countersign_policy::arn::AccountId;
use countersign_policy::{Document, parse};

use super::Snapshot;
use crate::compiled::Program;
use crate::policies::{Attached, PolicySet, PolicyType};
use crate::principal::Principal;

/// The root of the organization. It is always there.
pub const ROOT: &str = "r-root";
/// What every level has from the beginning.
pub const FULL_ACCESS: &str = "p-FullAWSAccess";
/// Its document, as AWS has it.
pub const FULL_ACCESS_DOCUMENT: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
/// Units stand at most five deep; a chain that does not end is none.
const MAX_DEPTH: usize = 8;

/// The guardrails of one level.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// Without [`FULL_ACCESS`].
    pub guardrails: Vec<Arc<str>>,
    /// Whether [`FULL_ACCESS`] was detached.
    pub full_access_detached: bool,
}

/// The root, or an organizational unit.
#[derive(Debug, Clone)]
pub struct UnitEntry {
    /// `ou-…`, or [`ROOT`].
    pub id: Arc<str>,
    /// [`ROOT`] or a unit; `None` for the root itself.
    pub parent: Option<Arc<str>>,
    pub level: Level,
}

/// What a guardrail limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardrailKind {
    /// What the principals of an account may do.
    ServiceControlPolicy,
    /// What may be done to the resources of an account.
    ResourceControlPolicy,
}

/// A guardrail.
#[derive(Debug, Clone)]
pub struct GuardrailEntry {
    /// `p-…`
    pub id: Arc<str>,
    /// As verdicts name it.
    pub name: Arc<str>,
    pub kind: GuardrailKind,
    pub document: Arc<Document>,
}

/// A guardrail, compiled.
#[derive(Debug)]
pub(super) struct Guardrail {
    attached: Attached,
    kind: GuardrailKind,
    program: Program,
}

fn attached(entry: &GuardrailEntry) -> Attached {
    Attached {
        policy_type: match entry.kind {
            GuardrailKind::ServiceControlPolicy => PolicyType::Scp,
            GuardrailKind::ResourceControlPolicy => PolicyType::Rcp,
        },
        name: Arc::clone(&entry.name),
        version_id: None,
        document: Arc::clone(&entry.document),
        resolved: None,
    }
}

/// `None` only if the constant does not parse, and a test says that it does.
static FULL_ACCESS_GUARDRAIL: LazyLock<Option<Guardrail>> = LazyLock::new(|| {
    let document = Arc::new(parse::parse(FULL_ACCESS_DOCUMENT).ok()?);
    let program = Program::new(Arc::clone(&document));
    let kind = GuardrailKind::ServiceControlPolicy;
    let entry = GuardrailEntry { id: FULL_ACCESS.into(), name: FULL_ACCESS.into(), kind, document };
    Some(Guardrail { attached: attached(&entry), kind, program })
});

impl Snapshot {
    /// Replaces the unit of that id, if there is one. The root is there without it, with [`FULL_ACCESS`] alone.
    pub fn put_unit(&mut self, entry: UnitEntry) {
        self.mark = super::Mark::default();
        self.units.insert(Arc::clone(&entry.id), Arc::new(entry));
    }

    pub fn remove_unit(&mut self, id: &str) {
        self.mark = super::Mark::default();
        self.units.remove(id);
    }

    /// Replaces the guardrail of that id, if there is one.
    pub fn put_guardrail(&mut self, entry: GuardrailEntry) {
        self.mark = super::Mark::default();
        let program = Program::new(Arc::clone(&entry.document));
        let guardrail = Guardrail { attached: attached(&entry), kind: entry.kind, program };
        self.guardrails.insert(entry.id, Arc::new(guardrail));
    }

    pub fn remove_guardrail(&mut self, id: &str) {
        self.mark = super::Mark::default();
        self.guardrails.remove(id);
    }

    /// Puts in what stands over the principal's account and the resource's; the only place that does. What is not at hand is added to
    /// `missing`, and then nothing is allowed.
    pub fn add_guardrails(
        &self,
        set: &mut PolicySet,
        principal: &Principal,
        action: &Action,
        resource_account: Option<AccountId>,
    ) {
        let own = self.scp_account(principal, set);
        let theirs = resource_account.filter(|_| rcps_apply(action));
        for (key, account) in &self.unreadable {
            let concerns = |one: Option<AccountId>| one.is_some() && *account == one;
            if account.is_none() || concerns(own) || concerns(resource_account) {
                set.missing.push(Arc::clone(key));
            }
        }
        if let Some(account) = own {
            self.add(account, GuardrailKind::ServiceControlPolicy, set);
        }
        if let Some(account) = theirs {
            self.add(account, GuardrailKind::ResourceControlPolicy, set);
        }
    }

    /// Whose SCPs hold for a principal. Services, web identities and external principals are of no account here.
    fn scp_account(&self, principal: &Principal, set: &mut PolicySet) -> Option<AccountId> {
        match principal {
            Principal::Service { .. } | Principal::External(_) | Principal::WebIdentity { .. } => {
                None
            }
            Principal::User { .. }
            | Principal::Role { .. }
            | Principal::Session(_)
            | Principal::FederatedUser { .. }
            | Principal::AccountRoot { .. } => {
                let account = principal.account()?;
                // Without its record it is not known what stands over it.
                if !self.is_local(account) {
                    set.missing.push(format!("account {account}").into());
                }
                Some(account)
            }
        }
    }

    fn add(&self, account: AccountId, kind: GuardrailKind, set: &mut PolicySet) {
        let levels = match self.levels(account) {
            Ok(levels) => levels,
            Err(unit) => return set.missing.push(unit),
        };
        for level in levels {
            let mut policies = Vec::new();
            for id in &level.guardrails {
                match self.guardrails.get(id) {
                    None => set.missing.push(Arc::clone(id)),
                    Some(guardrail) if guardrail.kind == kind => {
                        policies.push(guardrail.attached.clone());
                        set.programs.push(guardrail.program.clone());
                    }
                    Some(_) => {}
                }
            }
            match kind {
                GuardrailKind::ServiceControlPolicy => {
                    // A level that has nothing but full access stops nothing.
                    if policies.is_empty() && !level.full_access_detached {
                        continue;
                    }
                    if !level.full_access_detached {
                        match &*FULL_ACCESS_GUARDRAIL {
                            None => set.missing.push(FULL_ACCESS.into()),
                            Some(full) => {
                                policies.insert(0, full.attached.clone());
                                set.programs.push(full.program.clone());
                            }
                        }
                    }
                    set.scps.push(policies);
                }
                GuardrailKind::ResourceControlPolicy => {
                    if !policies.is_empty() {
                        set.rcps.push(policies);
                    }
                }
            }
        }
    }

    /// From the root to the account; none for the management account and for accounts that are not local. An error names the unit
    /// that is not at hand.
    fn levels(&self, account: AccountId) -> Result<Vec<&Level>, Arc<str>> {
        let Some(entry) = self.accounts.get(&account).filter(|entry| !entry.is_management) else {
            return Ok(Vec::new());
        };
        let mut levels = vec![&entry.level];
        let mut next = entry.parent.as_ref();
        while let Some(id) = next.filter(|id| ***id != *ROOT) {
            let unit = self.units.get(id).ok_or_else(|| Arc::clone(id))?;
            levels.push(&unit.level);
            next = unit.parent.as_ref();
            if levels.len() > MAX_DEPTH {
                return Err(Arc::clone(id));
            }
        }
        levels.extend(self.units.get(ROOT).map(|root| &root.level));
        levels.reverse();
        Ok(levels)
    }
}

/// AWS applies RCPs to the resources of some services, IAM and Organizations not among them; here to all but those, and but
/// Countersign's own: who may ask a question is not who may have what is asked about.
fn rcps_apply(action: &Action) -> bool {
    !["iam", "organizations", "countersign"]
        .iter()
        .any(|service| action.service().eq_ignore_ascii_case(service))
}

#[cfg(test)]
mod tests {
    #[test]
    fn full_access_is_a_policy() {
        assert!(super::FULL_ACCESS_GUARDRAIL.is_some());
    }
}
