//! A world on its way: a whole snapshot, record by record, in the order of its keys.
//!
//! What there are most of, users, is put where it belongs only at the end, all at once: one by one, each would touch a dozen places of
//! memory that nothing touched lately. It declines to know what a record means; what comes of it is what [`World::put`] of one
//! after the other would have made.

use std::{mem, sync::Arc};

use countersign_evaluator::snapshot::UserEntry;
use countersign_proto::policy::v1::{Record, record::Record as Kind};
use prost::Message as _;

use crate::{
    World, plain,
    records::{self, Shared, Unreadable},
};

/// What has arrived so far.
#[derive(Default)]
pub struct Arriving {
    world: World,
    shared: Shared,
    /// Keys and versions of users' records that wait for the end, and the users.
    waiting: Vec<(Box<str>, u64)>,
    users: Vec<Arc<UserEntry>>,
    /// The last record's key.
    last: String,
    /// Records came in another order, or twice, so that each must find what is there of the earlier ones.
    is_disordered: bool,
}

impl Arriving {
    /// Takes a record in, in place of what was held under its key.
    ///
    /// # Errors
    /// As [`World::put`].
    pub fn take(&mut self, record: &Record) -> Result<(), Unreadable> {
        self.next(&record.key);
        if let Some(Kind::User(user)) = &record.record
            && record.format <= records::FORMAT
            && let Ok(entry) = records::user_of_many(user, &mut self.shared)
            && !self.is_disordered
        {
            self.wait(&record.key, record.version, entry);
            return Ok(());
        }
        // One that cannot be read is for the world to say, and to remember.
        self.world.put(record)
    }

    /// Takes in what a record is encoded as.
    ///
    /// # Errors
    /// `Ok(Err(_))` as [`Self::take`]; none if it is no record.
    pub fn take_bytes(&mut self, bytes: &[u8]) -> Option<Result<(), Unreadable>> {
        if let Some(user) = plain::user(bytes)
            && user.format <= records::FORMAT
            && self.last.as_str() < user.key
            && let Ok(entry) = records::plain_user(&user.fields, &mut self.shared)
            && !self.is_disordered
        {
            self.next(user.key);
            self.wait(user.key, user.version, entry);
            return Some(Ok(()));
        }
        Some(self.take(&Record::decode(bytes).ok()?))
    }

    fn next(&mut self, key: &str) {
        if !self.is_disordered && self.last.as_str() >= key && !self.last.is_empty() {
            self.settle();
            self.is_disordered = true;
        }
        self.last.clear();
        self.last.push_str(key);
    }

    fn wait(&mut self, key: &str, version: u64, entry: UserEntry) {
        self.waiting.push((key.into(), version));
        self.users.push(Arc::new(entry));
    }

    /// Nothing more comes.
    #[must_use]
    pub fn finish(mut self) -> World {
        self.settle();
        self.world
    }

    /// Puts what waits.
    fn settle(&mut self) {
        self.world.put_users(mem::take(&mut self.waiting), mem::take(&mut self.users));
        self.world.share(&mem::take(&mut self.shared));
    }
}

#[cfg(test)]
mod tests {
    use countersign_policy::arn::AccountId;
    use countersign_proto::policy::v1::{
        GroupRecord, InlinePolicy, ManagedPolicyRecord, UserRecord,
    };

    use super::*;

    const ACCOUNT: &str = "111122223333";
    const NONE: &str = r#"{"Version":"2012-10-17","Statement":[]}"#;

    fn user(number: usize) -> Record {
        let user = UserRecord {
            account_id: ACCOUNT.into(),
            path: "/".into(),
            user_name: format!("u{number}"),
            user_id: format!("AIDA{number}"),
            attached_policy_arns: (0..number % 4).map(|arn| format!("arn:{arn}")).collect(),
            group_ids: (0..number % 3).map(|id| format!("AGPA{id}")).collect(),
            ..UserRecord::default()
        };
        let key = format!("user/{number:04}");
        let version = u64::try_from(number).unwrap();
        Record { key, record: Some(Kind::User(user)), format: 1, version }
    }

    fn changed(number: usize, change: impl FnOnce(&mut UserRecord)) -> Record {
        let mut record = user(number);
        if let Some(Kind::User(user)) = &mut record.record {
            change(user);
        }
        record
    }

    fn other(key: &str, kind: Kind) -> Record {
        Record { key: key.into(), record: Some(kind), format: 1, version: 9 }
    }

    fn inline(document: &str) -> Vec<InlinePolicy> {
        vec![InlinePolicy { policy_name: "p".into(), policy_document: document.into() }]
    }

    /// All that can be asked of a world about users.
    fn shown(world: &World) -> String {
        let account: AccountId = ACCOUNT.parse().unwrap();
        let snapshot = world.snapshot();
        let users: Vec<_> = snapshot
            .users()
            .map(|user| {
                let named = snapshot.user(account, &user.name.to_uppercase());
                let by_id = snapshot.user_by_id(&user.unique_id);
                let programs = snapshot.user_programs(account, &user.name).len();
                (
                    user,
                    named.map(|own| own.unique_id.clone()),
                    by_id.map(|own| own.name.clone()),
                    programs,
                )
            })
            .collect();
        format!("{users:?} {:?} {:?}", snapshot.counts(), world.digest())
    }

    /// Whatever comes in whatever order: what stands there in the end, and after each deletion, is what one put after the other makes.
    #[test]
    fn what_arrives_is_what_one_after_the_other_makes() {
        let check = |records: &[Record]| {
            let (mut one_by_one, mut by_record, mut by_bytes) =
                (World::default(), Arriving::default(), Arriving::default());
            for record in records {
                let told = format!("{:?}", one_by_one.put(record));
                assert_eq!(format!("{:?}", by_record.take(record)), told);
                let taken = by_bytes.take_bytes(&record.encode_to_vec());
                assert_eq!(format!("{:?}", taken.unwrap()), told);
            }
            let mut worlds = [one_by_one, by_record.finish(), by_bytes.finish()];
            let same = |worlds: &[World; 3]| {
                let [first, second, third] = worlds.each_ref().map(shown);
                assert_eq!(first, second);
                assert_eq!(first, third);
            };
            same(&worlds);
            // What comes later finds what is there.
            let last = changed(1, |user| user.user_id = "AIDANEW".into());
            worlds.iter_mut().for_each(|world| world.put(&last).unwrap());
            same(&worlds);
            for record in records {
                worlds.iter_mut().for_each(|world| world.delete(&record.key));
                same(&worlds);
            }
        };
        let users = |count: usize| (0..count).map(user).collect::<Vec<_>>();
        for count in [0, 1, 2, 3, 40] {
            check(&users(count));
        }
        let group = other(
            "group/a",
            Kind::Group(GroupRecord {
                account_id: ACCOUNT.into(),
                group_id: "AGPA0".into(),
                ..GroupRecord::default()
            }),
        );
        let policy = other(
            "z",
            Kind::ManagedPolicy(ManagedPolicyRecord {
                arn: "arn:0".into(),
                document: NONE.into(),
                ..ManagedPolicyRecord::default()
            }),
        );
        check(&[vec![group.clone()], users(20), vec![policy.clone()]].concat());
        // In another order, twice, and with the same key for something else.
        check(&[users(20), vec![group]].concat());
        check(&[users(20), users(20)].concat());
        check(&[users(20), vec![changed(7, |user| user.user_name = "other".into())]].concat());
        check(&[users(20), vec![Record { key: "user/0007".into(), ..policy }]].concat());
        // A name twice, an id twice.
        check(&[users(20), vec![changed(21, |user| user.user_name = "U7".into())]].concat());
        check(&[users(20), vec![changed(21, |user| user.user_id = "AIDA7".into())]].concat());
        // Inline policies, tags, and what cannot be read.
        check(&[users(5), vec![changed(7, |user| user.inline_policies = inline(NONE))]].concat());
        check(
            &[users(5), vec![changed(7, |user| user.inline_policies = inline("{")), user(8)]]
                .concat(),
        );
        check(&[users(5), vec![changed(7, |user| user.tags = vec![Default::default()])]].concat());
        check(
            &[users(5), vec![changed(7, |user| user.account_id = "none".into()), user(8)]].concat(),
        );
        check(&[users(5), vec![Record { format: 99, ..user(7) }, user(8)]].concat());
        check(&[users(5), vec![Record { format: 99, ..user(4) }]].concat());
        check(&[users(5), vec![Record { record: None, ..user(7) }]].concat());
    }

    #[test]
    fn what_is_no_record_is_not_taken() {
        assert!(Arriving::default().take_bytes(&[0xff]).is_none());
    }
}
