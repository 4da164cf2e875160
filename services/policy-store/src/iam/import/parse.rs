//! An export, held to its form: every document and name is checked here, and what is wrong is named by its place in the request.
//!
//! Unique ids, dates and counts are made anew, and whether a managed policy can be attached is no choice, so the request's are passed over. The
//! text of a document is taken as it is. An ARN outside of documents that names the exporting account names the importing one from here on.

use std::collections::BTreeSet;

use countersign_policy::{
    arn::AccountId,
    document::Document,
    findings::{DocumentKind, Finding},
    principal::{IamArn, PrincipalElement},
};
use countersign_proto::policy::v1::*;

use super::{Content, Policy, Principal, Step};
use crate::{
    account::ADMINISTRATOR,
    error::Error,
    iam::{document, name, policy::NewPolicy, quota, role, tags},
    layout,
};

/// Something of the request that cannot be imported.
#[derive(Debug)]
pub struct Refusal {
    /// Its place: `/user_detail_list/0/user_policy_list/1/policy_document`.
    pub at: String,
    pub error: Error,
}

/// An export that can be imported, as far as its own text tells.
#[derive(Default)]
pub struct Import {
    /// In the order in which they are to be made.
    pub steps: Vec<Step>,
    /// What a reviewer would say, each with the place of the document.
    pub findings: Vec<(String, Finding)>,
    /// The place of the administrator role, which every account has and keeps as it is.
    pub administrator: Option<String>,
}

/// Reads an export; everything that is wrong with it.
pub fn import(
    request: &ImportAccountAuthorizationDetailsRequest,
    account: AccountId,
) -> Result<Import, Vec<Refusal>> {
    let ImportAccountAuthorizationDetailsRequest {
        user_detail_list,
        group_detail_list,
        role_detail_list,
        policies,
        validate_only: _,
        request_id: _,
    } = request;
    let mut parser =
        Parser { account, exporter: None, import: Import::default(), refusals: Vec::new() };
    parser.find_exporter(request);
    let own = policies.iter().enumerate().filter(|(_, it)| !is_aws(&it.arn));
    parser.names_are_unique("policies", "policy_name", own.map(|(at, it)| (at, &it.policy_name)));
    let groups = group_detail_list.iter().map(|it| &it.group_name).enumerate();
    parser.names_are_unique("group_detail_list", "group_name", groups);
    let users = user_detail_list.iter().map(|it| &it.user_name).enumerate();
    parser.names_are_unique("user_detail_list", "user_name", users);
    let roles = role_detail_list.iter().map(|it| &it.role_name).enumerate();
    parser.names_are_unique("role_detail_list", "role_name", roles);

    for (index, detail) in policies.iter().enumerate() {
        parser.policy(format!("/policies/{index}"), detail);
    }
    for (index, detail) in group_detail_list.iter().enumerate() {
        parser.group(format!("/group_detail_list/{index}"), detail);
    }
    for (index, detail) in user_detail_list.iter().enumerate() {
        parser.user(format!("/user_detail_list/{index}"), detail);
    }
    parser.roles(role_detail_list);
    if parser.refusals.is_empty() { Ok(parser.import) } else { Err(parser.refusals) }
}

fn is_aws(arn: &str) -> bool {
    name::parse_policy_arn("arn", arn).is_ok_and(|(owner, _, _)| owner == layout::AWS)
}

/// The account of an entity's ARN.
fn account_in(arn: &str) -> Option<AccountId> {
    arn.strip_prefix("arn:aws:iam::")?.split(':').next()?.parse().ok()
}

struct Parser {
    account: AccountId,
    /// The account that the export is of, if an ARN says so.
    exporter: Option<AccountId>,
    import: Import,
    refusals: Vec<Refusal>,
}

impl Parser {
    fn refuse(&mut self, at: impl Into<String>, error: Error) {
        self.refusals.push(Refusal { at: at.into(), error });
    }

    fn invalid(&mut self, at: impl Into<String>, field: &'static str, message: impl Into<String>) {
        self.refuse(at, Error::validation(field, message));
    }

    /// Keeps what is right, and what is wrong.
    fn take<T>(&mut self, at: &str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(at, error);
                None
            }
        }
    }

    /// The one account of all entities' own ARNs.
    fn find_exporter(&mut self, request: &ImportAccountAuthorizationDetailsRequest) {
        let arns = (request.user_detail_list.iter().map(|it| &it.arn))
            .chain(request.group_detail_list.iter().map(|it| &it.arn))
            .chain(request.role_detail_list.iter().map(|it| &it.arn))
            .chain(request.policies.iter().map(|it| &it.arn));
        self.exporter = arns.filter_map(|arn| account_in(arn)).next();
    }

    /// The ARN of an entity is empty, or says what its path and name say. Of another account than the first one's, it is not of this export.
    fn own_arn(&mut self, at: &str, arn: &str, of: impl Fn(AccountId) -> String) {
        let exporter = self.exporter.unwrap_or(self.account);
        if arn.is_empty() || arn == of(exporter) {
            return;
        }
        let shown: String = arn.chars().take(200).collect();
        let message = format!(
            "`{}` is not `{}`, which its account, path and name say",
            shown.escape_default(),
            of(exporter)
        );
        self.invalid(at, "arn", message);
    }

    /// The ARN of a managed policy, where it is imported to.
    fn reference(&mut self, at: &str, field: &'static str, arn: &str) -> Option<String> {
        let parsed = name::parse_policy_arn(field, arn);
        let (owner, path, policy_name) = self.take(at, parsed)?;
        if owner == layout::AWS || owner == self.account.as_str() {
            return Some(arn.to_owned());
        }
        if self.exporter.is_some_and(|exporter| exporter.as_str() == owner) {
            return Some(name::policy_arn(self.account, path, policy_name));
        }
        self.invalid(
            at,
            field,
            format!(
                "`{arn}` is neither AWS's, nor of the account that was exported, nor of this one"
            ),
        );
        None
    }

    fn document(&mut self, at: String, text: &str, kind: DocumentKind) -> Option<Document> {
        let accepted = document::accept("policy_document", text, kind);
        let accepted = self.take(&at, accepted)?;
        let findings = accepted.findings.into_iter().map(|finding| (at.clone(), finding));
        self.import.findings.extend(findings);
        Some(accepted.checked.document)
    }

    fn names_are_unique<'a>(
        &mut self,
        list: &str,
        field: &'static str,
        names: impl Iterator<Item = (usize, &'a String)>,
    ) {
        let mut seen = BTreeSet::new();
        for (index, name) in names {
            if !seen.insert(name.to_lowercase()) {
                let shown: String = name.chars().take(80).collect();
                let message = format!(
                    "`{}` stands twice; names are unique without regard to case",
                    shown.escape_default()
                );
                self.invalid(format!("/{list}/{index}"), field, message);
            }
        }
    }

    fn policy(&mut self, at: String, detail: &ManagedPolicyDetail) {
        let ManagedPolicyDetail {
            policy_name,
            policy_id: _,
            arn,
            path,
            default_version_id,
            attachment_count: _,
            permissions_boundary_usage_count: _,
            is_attachable: _,
            description,
            create_date: _,
            update_date: _,
            policy_version_list,
            tags,
        } = detail;
        if is_aws(arn) {
            // AWS's own are the store's, whatever text they had where they were exported.
            let content = Content::AwsPolicy(arn.clone());
            return self.import.steps.push(Step { at, content });
        }
        self.shape(&at, "policy_name", policy_name, 128, path, tags);
        self.own_arn(&at, arn, |account| name::policy_arn(account, or_root(path), policy_name));
        let described = name::description("description", description, 1_000);
        self.take(&at, described);
        let versions = self.versions(&at, policy_version_list, default_version_id);
        let Some((versions, default_version)) = versions else { return };
        let text = versions.iter().find(|(number, _)| *number == default_version);
        let new = NewPolicy {
            policy_name: policy_name.clone(),
            path: path.clone(),
            policy_document: text.map(|(_, text)| text.clone()).unwrap_or_default(),
            description: description.clone(),
            tags: tags.clone(),
        };
        let content = Content::Policy(Policy { new, versions, default_version });
        self.import.steps.push(Step { at, content });
    }

    /// The versions, oldest first, and the number of the default one.
    fn versions(
        &mut self,
        at: &str,
        list: &[PolicyVersion],
        default: &str,
    ) -> Option<(Vec<(i32, String)>, i32)> {
        if list.is_empty() || list.len() > quota::POLICY_VERSIONS {
            let message = format!("1 to {} versions are expected", quota::POLICY_VERSIONS);
            self.invalid(at, "policy_version_list", message);
            return None;
        }
        let mut versions = Vec::new();
        for (index, version) in list.iter().enumerate() {
            let at = format!("{at}/policy_version_list/{index}");
            let PolicyVersion { document, version_id, is_default_version, create_date: _ } =
                version;
            let number = version_number(version_id);
            if number.is_none() || versions.iter().any(|(known, _)| Some(*known) == number) {
                self.invalid(&at, "version_id", "`v1`, `v2` and so on are expected, each once");
            }
            if *is_default_version != (version_id == default) {
                self.invalid(
                    &at,
                    "is_default_version",
                    format!("the policy's `default_version_id` is `{}`", default.escape_default()),
                );
            }
            self.document(format!("{at}/document"), document, DocumentKind::ManagedPolicy);
            versions.push((number.unwrap_or_default(), document.clone()));
        }
        versions.sort();
        let default_version = version_number(default)
            .filter(|wanted| versions.iter().any(|(number, _)| number == wanted));
        if default_version.is_none() {
            self.invalid(at, "default_version_id", "is one of the policy's versions");
        }
        Some((versions, default_version?))
    }

    fn group(&mut self, at: String, detail: &GroupDetail) {
        let GroupDetail {
            path,
            group_name,
            group_id: _,
            arn,
            create_date: _,
            group_policy_list,
            attached_managed_policies,
        } = detail;
        self.shape(&at, "group_name", group_name, 128, path, &[]);
        self.own_arn(&at, arn, |account| name::group_arn(account, or_root(path), group_name));
        let principal = Principal {
            path: path.clone(),
            name: group_name.clone(),
            inline: self.inline(
                &at,
                "group_policy_list",
                group_policy_list,
                DocumentKind::InlineGroupPolicy,
            ),
            attached: self.attached(&at, attached_managed_policies),
            ..Principal::default()
        };
        self.import.steps.push(Step { at, content: Content::Group(principal) });
    }

    fn user(&mut self, at: String, detail: &UserDetail) {
        let UserDetail {
            path,
            user_name,
            user_id: _,
            arn,
            create_date: _,
            user_policy_list,
            group_list,
            attached_managed_policies,
            permissions_boundary,
            tags,
        } = detail;
        self.shape(&at, "user_name", user_name, 64, path, tags);
        self.own_arn(&at, arn, |account| name::user_arn(account, or_root(path), user_name));
        let mut groups = BTreeSet::new();
        for group_name in group_list {
            let checked = name::name("group_list", group_name, 128);
            self.take(&at, checked);
            if !groups.insert(group_name.to_lowercase()) {
                self.invalid(&at, "group_list", format!("`{group_name}` stands twice"));
            }
        }
        let principal = Principal {
            path: path.clone(),
            name: user_name.clone(),
            inline: self.inline(
                &at,
                "user_policy_list",
                user_policy_list,
                DocumentKind::InlineUserPolicy,
            ),
            attached: self.attached(&at, attached_managed_policies),
            groups: group_list.clone(),
            boundary: self.boundary(&at, permissions_boundary.as_ref()),
            tags: tags.clone(),
            ..Principal::default()
        };
        self.import.steps.push(Step { at, content: Content::User(principal) });
    }

    fn roles(&mut self, details: &[RoleDetail]) {
        let order: Vec<String> = details.iter().map(|it| it.role_name.to_lowercase()).collect();
        let mut trusts = Vec::new();
        for (index, detail) in details.iter().enumerate() {
            let at = format!("/role_detail_list/{index}");
            if detail.role_name == ADMINISTRATOR {
                self.import.administrator = Some(at);
                continue;
            }
            let Some((principal, trust)) = self.role(&at, detail) else { continue };
            let later = order.get(index..).unwrap_or_default();
            let trusts_later = names_one_of(&trust, &self.account, later);
            if trusts_later {
                let content = Content::Trust {
                    role_name: detail.role_name.clone(),
                    document: principal.trust.clone(),
                };
                trusts.push(Step { at: format!("{at}/assume_role_policy_document"), content });
            }
            let content = Content::Role(Principal { trusts_later, ..principal });
            self.import.steps.push(Step { at, content });
        }
        self.import.steps.append(&mut trusts);
    }

    fn role(&mut self, at: &str, detail: &RoleDetail) -> Option<(Principal, Document)> {
        let RoleDetail {
            path,
            role_name,
            role_id: _,
            arn,
            create_date: _,
            assume_role_policy_document,
            role_policy_list,
            attached_managed_policies,
            permissions_boundary,
            tags,
            role_last_used: _,
            description,
            max_session_duration,
        } = detail;
        self.shape(at, "role_name", role_name, 64, path, tags);
        self.own_arn(at, arn, |account| name::role_arn(account, or_root(path), role_name));
        let described = name::description("description", description, 1_000);
        self.take(at, described);
        let max_session_duration =
            self.take(at, role::session(*max_session_duration)).unwrap_or_default();
        let trust = self.document(
            format!("{at}/assume_role_policy_document"),
            assume_role_policy_document,
            DocumentKind::TrustPolicy,
        );
        let principal = Principal {
            path: path.clone(),
            name: role_name.clone(),
            inline: self.inline(
                at,
                "role_policy_list",
                role_policy_list,
                DocumentKind::InlineRolePolicy,
            ),
            attached: self.attached(at, attached_managed_policies),
            boundary: self.boundary(at, permissions_boundary.as_ref()),
            tags: tags.clone(),
            description: description.clone(),
            max_session_duration,
            trust: assume_role_policy_document.clone(),
            ..Principal::default()
        };
        Some((principal, trust?))
    }

    /// What every entity has.
    fn shape(
        &mut self,
        at: &str,
        field: &'static str,
        own: &str,
        most: usize,
        path: &str,
        tags: &[Tag],
    ) {
        self.take(at, name::name(field, own, most));
        self.take(at, name::path("path", path).map(drop));
        self.take(at, tags::check(tags));
    }

    fn inline(
        &mut self,
        at: &str,
        list: &str,
        details: &[PolicyDetail],
        kind: DocumentKind,
    ) -> Vec<InlinePolicy> {
        let mut policies: Vec<InlinePolicy> = Vec::new();
        for (index, PolicyDetail { policy_name, policy_document }) in details.iter().enumerate() {
            let at = format!("{at}/{list}/{index}");
            self.take(&at, name::name("policy_name", policy_name, 128));
            if policies.iter().any(|known| known.policy_name == *policy_name) {
                self.invalid(
                    &at,
                    "policy_name",
                    format!("`{}` stands twice", policy_name.escape_default()),
                );
            }
            self.document(format!("{at}/policy_document"), policy_document, kind);
            policies.push(InlinePolicy {
                policy_name: policy_name.clone(),
                policy_document: policy_document.clone(),
            });
        }
        policies
    }

    fn attached(&mut self, at: &str, list: &[AttachedPolicy]) -> Vec<String> {
        let mut arns = Vec::new();
        for (index, AttachedPolicy { policy_name, policy_arn }) in list.iter().enumerate() {
            let at = format!("{at}/attached_managed_policies/{index}");
            let Some(arn) = self.reference(&at, "policy_arn", policy_arn) else { continue };
            if !policy_name.is_empty() && arn.rsplit('/').next() != Some(policy_name) {
                self.invalid(
                    &at,
                    "policy_name",
                    format!("`{}` is not the name in `{policy_arn}`", policy_name.escape_default()),
                );
            }
            if arns.contains(&arn) {
                self.invalid(&at, "policy_arn", format!("`{policy_arn}` stands twice"));
            }
            arns.push(arn);
        }
        arns
    }

    fn boundary(&mut self, at: &str, boundary: Option<&AttachedPermissionsBoundary>) -> String {
        let Some(boundary) = boundary else { return String::new() };
        let at = format!("{at}/permissions_boundary");
        match PermissionsBoundaryAttachmentType::try_from(boundary.permissions_boundary_type) {
            Ok(PermissionsBoundaryAttachmentType::PermissionsBoundaryPolicy) => {}
            // Not given; there is but one.
            Ok(PermissionsBoundaryAttachmentType::Unspecified) => {}
            Err(_) => {
                let message = format!("`{}` is no type", boundary.permissions_boundary_type);
                self.invalid(&at, "permissions_boundary_type", message);
            }
        }
        let arn = &boundary.permissions_boundary_arn;
        self.reference(&at, "permissions_boundary_arn", arn).unwrap_or_default()
    }
}

fn or_root(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// Nine digits at most: what comes after must still be a number.
fn version_number(version_id: &str) -> Option<i32> {
    let digits = version_id.strip_prefix('v')?;
    let good = digits.len() <= 9
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if good { digits.parse().ok() } else { None }
}

/// Whether a trust policy names one of these roles of the account.
fn names_one_of(trust: &Document, account: &AccountId, roles: &[String]) -> bool {
    let clauses = trust.statements().iter().filter_map(|statement| statement.principals.as_ref());
    clauses.flat_map(|clause| &clause.elements).any(|element| match &element.value {
        PrincipalElement::Arn { arn, .. } => match arn {
            IamArn::Role { account: of, name, .. }
            | IamArn::AssumedRole { account: of, role: name, .. } => {
                of == account && roles.contains(&name.to_lowercase())
            }
            IamArn::Root { .. } | IamArn::User { .. } | IamArn::FederatedUser { .. } => false,
        },
        PrincipalElement::Any
        | PrincipalElement::Service(_)
        | PrincipalElement::Account { .. }
        | PrincipalElement::Federated(_)
        | PrincipalElement::Nobody { .. } => false,
    })
}
