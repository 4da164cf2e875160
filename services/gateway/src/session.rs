//! What a session is marked with: tags, which of them it hands on, and a source identity.
//!
//! Whether they may be set is the decision service's to say; what a chaining session hands on is computed here too, and the two must agree.

use std::collections::{BTreeMap, BTreeSet};

use countersign_proto::decision::v1::SessionTag;
use countersign_token::{BoundRequest, VerifiedToken};

use crate::error::Refusal;

/// A session's marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// By key.
    pub tags: BTreeMap<String, String>,
    /// Of `tags`.
    pub transitive_tag_keys: BTreeSet<String>,
    /// `aws:SourceIdentity`.
    pub source_identity: Option<String>,
}

impl Marks {
    /// What a request asks for.
    ///
    /// # Errors
    /// When a key is given twice, or is handed on without being there.
    pub fn asked(bound: &BoundRequest) -> Result<Self, Refusal> {
        let invalid =
            |field, message: &str| Refusal::Invalid { field, message: message.to_owned() };
        let tags: BTreeMap<String, String> =
            bound.tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect();
        if tags.len() < bound.tags.len() {
            return Err(invalid("tags", "must not have a key twice"));
        }
        let transitive_tag_keys: BTreeSet<String> =
            bound.transitive_tag_keys.iter().cloned().collect();
        if transitive_tag_keys.len() < bound.transitive_tag_keys.len()
            || !transitive_tag_keys.iter().all(|key| tags.contains_key(key))
        {
            return Err(invalid("transitive_tag_keys", "must be keys of `tags`, each once"));
        }
        let source_identity = &bound.source_identity;
        let source_identity = (!source_identity.is_empty()).then(|| source_identity.clone());
        Ok(Self { tags, transitive_tag_keys, source_identity })
    }

    /// These, and what `session` hands on.
    ///
    /// # Errors
    /// When a tag is handed on and asked for (RULES.md X4). Of a source identity the decision service says whether it may be set.
    pub fn handed_on(mut self, session: &VerifiedToken) -> Result<Self, Refusal> {
        let session = &session.claims().session;
        for key in &session.transitive_tag_keys {
            let value = session.session_tags.get(key).cloned().unwrap_or_default();
            let twin = self.tags.keys().any(|own| own.to_lowercase() == key.to_lowercase());
            if twin {
                let message =
                    format!("`{key}` is handed on by the session, and cannot be set again");
                return Err(Refusal::Invalid { field: "tags", message });
            }
            self.tags.insert(key.clone(), value);
            self.transitive_tag_keys.insert(key.clone());
        }
        if self.source_identity.is_none() {
            self.source_identity = session.source_identity.clone();
        }
        Ok(self)
    }

    /// What the decision service grants; none if it contradicts itself.
    #[must_use]
    pub fn answered(
        tags: Vec<SessionTag>,
        transitive_tag_keys: Vec<String>,
        source_identity: String,
    ) -> Option<Self> {
        let count = tags.len();
        let tags: BTreeMap<String, String> =
            tags.into_iter().map(|SessionTag { key, value }| (key, value)).collect();
        let transitive_tag_keys = transitive_tag_keys.into_iter().collect();
        let source_identity = (!source_identity.is_empty()).then_some(source_identity);
        (tags.len() == count).then_some(Self { tags, transitive_tag_keys, source_identity })
    }
}
