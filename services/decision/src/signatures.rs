//! Which tokens' signatures were found to hold: the one part of a token's check that never changes, and the dear one.
//!
//! Remembered by the token's whole text, so that no other token can stand for it; only what holds is remembered, so that rubbish pushes
//! nothing out. Whether the token is good *now* (times, audience, the key's standing, the session's role) is asked at each use.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    mem,
    sync::{Mutex, PoisonError},
};

use countersign_token::SignedToken;

/// Of one generation of one shard. A token has at most 4 KB, and its claims again as much: 2 × 16 × 512 × 8 KB is 128 MB at the worst, and
/// some 20 MB with tokens as gateways make them.
const GENERATION: usize = 512;
const SHARDS: usize = 16;

/// Bounded; old entries go when newer ones come.
#[derive(Default)]
pub struct Signatures {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

/// Two generations: when the young one is full it becomes the old one, and what was old and not asked for since is forgotten.
#[derive(Default)]
struct Shard {
    young: HashMap<Box<str>, SignedToken>,
    old: HashMap<Box<str>, SignedToken>,
}

impl Signatures {
    /// What `token` says, if its signature was found to hold before.
    pub fn recall(&self, token: &str) -> Option<SignedToken> {
        let mut shard = self.shard(token)?.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signed) = shard.young.get(token) {
            return Some(signed.clone());
        }
        let (token, signed) = shard.old.remove_entry(token)?;
        shard.put(token, signed.clone());
        Some(signed)
    }

    /// Remembers that the signature of `token` holds.
    pub fn remember(&self, token: &str, signed: SignedToken) {
        if let Some(shard) = self.shard(token) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).put(token.into(), signed);
        }
    }

    /// Each shard has its lock, held for a lookup.
    fn shard(&self, token: &str) -> Option<&Mutex<Shard>> {
        let hash = self.hasher.hash_one(token);
        self.shards.get(usize::try_from(hash >> 60).unwrap_or_default() % SHARDS)
    }
}

impl Shard {
    fn put(&mut self, token: Box<str>, signed: SignedToken) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(token, signed);
    }
}

#[cfg(test)]
mod tests {
    use countersign_token::{
        Caller, Claims, Realm, Session, SigningKey, check_signature,
        keyset::{KeyRecord, KeySet},
        mint,
    };

    use super::*;
    use crate::samples::{NOW, OURS};

    fn signed() -> (String, SignedToken) {
        let key = SigningKey::generate().unwrap();
        let session = Session {
            account: OURS.into(),
            partition: "aws".into(),
            role_name: "App".into(),
            role_id: "AROAAPP".into(),
            session_name: "s1".into(),
            source_identity: None,
            session_tags: Default::default(),
            transitive_tag_keys: Default::default(),
            session_policies: Vec::new(),
            narrowings: Vec::new(),
            parents: Vec::new(),
            proof_type: "urn:countersign:proof:sts-get-caller-identity".into(),
            caller: Caller {
                realm: Realm::Countersign,
                account: OURS.into(),
                unique_id: "AIDAALICE".into(),
                arn: format!("arn:aws:iam::{OURS}:user/alice"),
            },
            revision: "aaaa:1".into(),
        };
        let (issuer, audience) = ("http://127.0.0.1:7400".into(), "orders".into());
        let claims = Claims::for_session(issuer, audience, NOW, NOW + 900, session).unwrap();
        let token = mint(&claims, &key).unwrap();
        let record = KeyRecord { public: key.public(), accept_until: NOW + 3600, revoked: false };
        let keys: KeySet = [record].into_iter().collect();
        let signed = check_signature(&token, &keys).unwrap();
        (token, signed)
    }

    #[test]
    fn only_the_very_token_is_recalled() {
        let signatures = Signatures::default();
        let (token, signed) = signed();
        assert!(signatures.recall(&token).is_none());
        signatures.remember(&token, signed);
        assert!(signatures.recall(&token).is_some());
        // Every change of one character, also of its case, is another token.
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] ^= 0x20;
            let other = String::from_utf8_lossy(&other).into_owned();
            assert!(signatures.recall(&other).is_none(), "at {at}");
        }
        assert!(signatures.recall(&token[..token.len() - 1]).is_none());
        assert!(signatures.recall(&format!("{token}=")).is_none());
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let signatures = Signatures::default();
        let (token, signed) = signed();
        signatures.remember(&token, signed.clone());
        for number in 0..40 * GENERATION * SHARDS {
            signatures.remember(&format!("token-{number}"), signed.clone());
            if number % (GENERATION / 4) == 0 {
                assert!(signatures.recall(&token).is_some(), "after {number}");
            }
        }
        let held: usize = signatures
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap())
            .map(|shard| shard.young.len() + shard.old.len())
            .sum();
        assert!(held <= 2 * GENERATION * SHARDS, "{held}");
        assert!(signatures.recall("token-0").is_none());
    }
}
