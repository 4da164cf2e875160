//! How a snapshot finds its users and roles, and shares the names that many of them hold, in few bytes each.
//!
//! Knows entities by what finds them alone; what they are is [`crate::snapshot`]'s.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Bound, Deref};
use std::sync::Arc;

use countersign_policy::arn::AccountId;
use imbl::{HashMap, OrdSet};

/// A text that many entities hold, in one pointer's space: a managed policy's ARN, a group's id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<Box<str>>);

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(Arc::new(text.into()))
    }
}

impl From<&Name> for Arc<str> {
    fn from(name: &Name) -> Self {
        Arc::from(&**name)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// One copy of each name, and of each list of names. A name that nobody holds any more stays: there are no more of them than policies
/// and groups were ever attached.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    names: HashMap<Name, ()>,
    lists: HashMap<Arc<[Name]>, ()>,
}

/// Lists that are kept; beyond, all are forgotten, and those that come later are shared anew: there is no end to what may be attached
/// together.
const LISTS: usize = 65_536;

impl Names {
    /// Puts the copy that is kept in the place of each.
    pub(crate) fn share<'a>(&mut self, names: impl IntoIterator<Item = &'a mut Name>) {
        for name in names {
            match self.names.get_key_value(&**name) {
                Some((kept, ())) => *name = kept.clone(),
                None => {
                    self.names.insert(name.clone(), ());
                }
            }
        }
    }

    /// Puts the copy that is kept in the place of the list.
    pub(crate) fn share_list(&mut self, list: &mut Arc<[Name]>) {
        if let Some((kept, ())) = self.lists.get_key_value(&**list) {
            *list = Arc::clone(kept);
            return;
        }
        let mut names = list.to_vec();
        self.share(&mut names);
        *list = names.into();
        if self.lists.len() >= LISTS {
            self.lists.clear();
        }
        self.lists.insert(Arc::clone(list), ());
    }

    /// Keeps these copies, where there are none: for whoever has shared them already.
    pub(crate) fn keep<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a Name>,
        lists: impl IntoIterator<Item = &'a Arc<[Name]>>,
    ) {
        for name in names {
            if !self.names.contains_key(&**name) {
                self.names.insert(name.clone(), ());
            }
        }
        for list in lists {
            if self.lists.len() < LISTS && !self.lists.contains_key(&**list) {
                self.lists.insert(Arc::clone(list), ());
            }
        }
    }
}

/// What finds an entity.
pub(crate) trait Entity {
    fn account(&self) -> AccountId;
    /// Unique in its account, without case.
    fn name(&self) -> &str;
    fn unique_id(&self) -> &str;
}

/// Entities by name and by unique id. Either index holds a hash and a pointer for each, and no text of its own.
#[derive(Debug)]
pub(crate) struct Entities<E: Entity> {
    by_name: OrdSet<ByName<E>>,
    by_id: OrdSet<ById<E>>,
}

impl<E: Entity> Clone for Entities<E> {
    fn clone(&self) -> Self {
        Self { by_name: self.by_name.clone(), by_id: self.by_id.clone() }
    }
}

impl<E: Entity> Default for Entities<E> {
    fn default() -> Self {
        Self { by_name: OrdSet::new(), by_id: OrdSet::new() }
    }
}

impl<E: Entity> Entities<E> {
    /// Replaces the one of that name, if there is one.
    pub(crate) fn put(&mut self, entity: E) -> Arc<E> {
        let entity = Arc::new(entity);
        self.put_shared(&entity);
        entity
    }

    fn put_shared(&mut self, entity: &Arc<E>) {
        self.remove(entity.account(), entity.name());
        let id = ById::of(entity);
        self.by_id.remove(&id as &dyn Key);
        self.by_id.insert(id);
        self.by_name.insert(ByName::of(entity));
    }

    /// As [`Self::put`] of one after the other. Where there is none yet, and no two are of one name or id, the indexes are made of all at
    /// once, which costs a fifth of it: each place of memory is visited once and not in whatever order the hashes have.
    pub(crate) fn put_all(&mut self, entities: &[Arc<E>]) {
        let by_name = sorted(entities.iter().map(ByName::of), Key::hash);
        let by_id = sorted(entities.iter().map(ById::of), Key::hash);
        match (by_name, by_id) {
            (Some(by_name), Some(by_id)) if self.len() == 0 && self.by_id.is_empty() => {
                self.by_name = packed(&by_name);
                self.by_id = packed(&by_id);
            }
            (Some(_) | None, Some(_) | None) => {
                entities.iter().for_each(|entity| self.put_shared(entity));
            }
        }
    }

    pub(crate) fn remove(&mut self, account: AccountId, name: &str) {
        let wanted = Wanted::named(account, name);
        let Some(ByName { entity: old, .. }) = self.by_name.remove(&wanted as &dyn Key) else {
            return;
        };
        if self.with_id(old.unique_id()).is_some_and(|own| Arc::ptr_eq(own, &old)) {
            self.by_id.remove(&Wanted::id(old.unique_id()) as &dyn Key);
        }
    }

    pub(crate) fn named(&self, account: AccountId, name: &str) -> Option<&Arc<E>> {
        self.by_name.get(&Wanted::named(account, name) as &dyn Key).map(|found| &found.entity)
    }

    pub(crate) fn with_id(&self, unique_id: &str) -> Option<&Arc<E>> {
        self.by_id.get(&Wanted::id(unique_id) as &dyn Key).map(|found| &found.entity)
    }

    /// In no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<E>> {
        self.by_name.iter().map(|found| &found.entity)
    }

    /// By name, in the order of their hashes, from behind `after`.
    pub(crate) fn after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Arc<E>)> {
        // Before every entity of that hash.
        let first = after.map_or(Some(0), |after| after.checked_add(1));
        let from = Wanted { hash: first.unwrap_or(u64::MAX), account: None, text: "" };
        let bounds: (Bound<&dyn Key>, Bound<&dyn Key>) = (Bound::Included(&from), Bound::Unbounded);
        let range = self.by_name.range::<_, dyn Key>(bounds);
        let range = range.take_while(move |_| first.is_some());
        range.map(|found| (found.hash, &found.entity))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

/// In the order of their hashes; none if two have the same.
fn sorted<T>(items: impl Iterator<Item = T>, hash: impl Fn(&T) -> u64) -> Option<Vec<T>> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable_by_key(&hash);
    let is_distinct = items.windows(2).all(|pair| match pair {
        [one, next] => hash(one) != hash(next),
        _ => true,
    });
    is_distinct.then_some(items)
}

/// A set of what is sorted already. A tree to whose end is added leaves every leaf half full; those between go into the other halves.
fn packed<T: Ord + Clone>(sorted: &[T]) -> OrdSet<T> {
    let mut set: OrdSet<T> = sorted.iter().step_by(2).cloned().collect();
    for between in sorted.iter().skip(1).step_by(2) {
        set.insert(between.clone());
    }
    set
}

/// What an index orders by: a hash first, so that a search seldom looks at the entities themselves.
trait Key {
    fn hash(&self) -> u64;
    /// An account and a name in it, whose case does not count; or a unique id, whose case does.
    fn text(&self) -> (Option<AccountId>, &str);
}

/// What is looked for.
struct Wanted<'a> {
    hash: u64,
    account: Option<AccountId>,
    text: &'a str,
}

impl<'a> Wanted<'a> {
    fn named(account: AccountId, name: &'a str) -> Self {
        let mut hasher = DefaultHasher::new();
        account.hash(&mut hasher);
        name.bytes().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
        Self { hash: hasher.finish(), account: Some(account), text: name }
    }

    fn id(unique_id: &'a str) -> Self {
        let mut hasher = DefaultHasher::new();
        unique_id.hash(&mut hasher);
        Self { hash: hasher.finish(), account: None, text: unique_id }
    }
}

impl Key for Wanted<'_> {
    fn hash(&self) -> u64 {
        self.hash
    }

    fn text(&self) -> (Option<AccountId>, &str) {
        (self.account, self.text)
    }
}

fn compare_texts(a: (Option<AccountId>, &str), b: (Option<AccountId>, &str)) -> Ordering {
    let lower = |byte: u8| byte.to_ascii_lowercase();
    a.0.cmp(&b.0).then_with(|| match a.0 {
        Some(_) => a.1.bytes().map(lower).cmp(b.1.bytes().map(lower)),
        None => a.1.cmp(b.1),
    })
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Key + '_ {}

impl PartialOrd for dyn Key + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Key + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hash().cmp(&other.hash()).then_with(|| compare_texts(self.text(), other.text()))
    }
}

/// An entity in an index of one kind.
macro_rules! indexed {
    ($name:ident, $text:expr, $wanted:expr) => {
        #[derive(Debug)]
        struct $name<E> {
            hash: u64,
            entity: Arc<E>,
        }

        impl<E: Entity> $name<E> {
            fn of(entity: &Arc<E>) -> Self {
                let wanted: fn(&E) -> Wanted<'_> = $wanted;
                Self { hash: wanted(entity).hash, entity: Arc::clone(entity) }
            }
        }

        impl<E: Entity> Key for $name<E> {
            fn hash(&self) -> u64 {
                self.hash
            }

            fn text(&self) -> (Option<AccountId>, &str) {
                let text: fn(&E) -> (Option<AccountId>, &str) = $text;
                text(&self.entity)
            }
        }

        impl<'a, E: Entity + 'a> Borrow<dyn Key + 'a> for $name<E> {
            fn borrow(&self) -> &(dyn Key + 'a) {
                self
            }
        }

        impl<E: Entity> PartialEq for $name<E> {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other).is_eq()
            }
        }

        impl<E: Entity> Eq for $name<E> {}

        impl<E: Entity> PartialOrd for $name<E> {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl<E: Entity> Ord for $name<E> {
            fn cmp(&self, other: &Self) -> Ordering {
                self.hash.cmp(&other.hash).then_with(|| compare_texts(self.text(), other.text()))
            }
        }

        impl<E> Clone for $name<E> {
            fn clone(&self) -> Self {
                Self { hash: self.hash, entity: Arc::clone(&self.entity) }
            }
        }
    };
}

indexed!(ByName, |entity| (Some(entity.account()), entity.name()), |entity| Wanted::named(
    entity.account(),
    entity.name()
));
indexed!(ById, |entity| (None, entity.unique_id()), |entity| Wanted::id(entity.unique_id()));

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Someone(AccountId, &'static str, &'static str);

    impl Entity for Someone {
        fn account(&self) -> AccountId {
            self.0
        }

        fn name(&self) -> &str {
            self.1
        }

        fn unique_id(&self) -> &str {
            self.2
        }
    }

    #[test]
    fn an_entity_is_found_by_name_without_case_and_by_id_until_it_is_replaced() {
        let [here, there]: [AccountId; 2] =
            ["111122223333", "444455556666"].map(|number| number.parse().expect("an account"));
        let mut entities = Entities::default();
        for (account, name, id) in
            [(here, "Bob", "B1"), (there, "bob", "B2"), (here, "alice", "A1"), (here, "BOB", "B3")]
        {
            entities.put(Someone(account, name, id));
        }
        let check = |account, name, expected: Option<&str>| {
            assert_eq!(entities.named(account, name).map(|own| own.2), expected, "{name}");
        };
        check(here, "bob", Some("B3"));
        check(here, "bOB", Some("B3"));
        check(there, "BOB", Some("B2"));
        check(here, "ALICE", Some("A1"));
        check(there, "alice", None);
        let by_id = |id| entities.with_id(id).map(|own| own.1);
        assert_eq!(["B1", "B2", "B3", "b3"].map(by_id), [None, Some("bob"), Some("BOB"), None]);
        let mut names: Vec<&str> = entities.iter().map(|own| own.1).collect();
        names.sort_unstable();
        assert_eq!((names, entities.len()), (vec!["BOB", "alice", "bob"], 3));
        let before = entities.clone();
        entities.remove(here, "bob");
        assert!(entities.named(here, "bob").is_none() && entities.with_id("B3").is_none());
        assert!(before.named(here, "bob").is_some() && before.with_id("B3").is_some());
    }

    /// All at once is as one after the other, whatever is there before, and whoever has the name or the id of another.
    #[test]
    fn all_at_once_is_as_one_by_one() {
        let account: AccountId = "111122223333".parse().expect("an account");
        let names: Vec<String> = (0..1000).map(|number| format!("n{number}")).collect();
        let own = |name: usize, id: usize| (names[name].clone(), format!("ID{id}"));
        let check = |before: &[(String, String)], all: &[(String, String)]| {
            let mut one_by_one = Entities::default();
            let mut at_once = Entities::default();
            for (name, id) in before {
                one_by_one.put(Owned(account, name.clone(), id.clone()));
                at_once.put(Owned(account, name.clone(), id.clone()));
            }
            for (name, id) in all {
                one_by_one.put(Owned(account, name.clone(), id.clone()));
            }
            let all: Vec<Arc<Owned>> = all
                .iter()
                .map(|(name, id)| Arc::new(Owned(account, name.clone(), id.clone())))
                .collect();
            at_once.put_all(&all);
            assert_eq!(at_once.iter().collect::<Vec<_>>(), one_by_one.iter().collect::<Vec<_>>());
            for (name, id) in before.iter().chain(
                all.iter()
                    .map(|own| (&own.1, &own.2))
                    .map(|(a, b)| (a.clone(), b.clone()))
                    .collect::<Vec<_>>()
                    .iter(),
            ) {
                assert_eq!(
                    at_once.named(account, &name.to_uppercase()),
                    one_by_one.named(account, name),
                    "{name}"
                );
                assert_eq!(at_once.with_id(id), one_by_one.with_id(id), "{id}");
            }
            // And it can be changed like any other.
            at_once.remove(account, "n7");
            one_by_one.remove(account, "n7");
            assert_eq!(at_once.iter().collect::<Vec<_>>(), one_by_one.iter().collect::<Vec<_>>());
        };
        check(&[], &[]);
        for count in [1, 2, 3, 16, 17, 33, 1000] {
            check(&[], &(0..count).map(|number| own(number, number)).collect::<Vec<_>>());
        }
        check(&[own(5, 1)], &[own(5, 2), own(6, 3)]);
        check(&[], &[own(5, 1), own(5, 2)]);
        check(&[], &[own(5, 1), own(6, 1), own(7, 2)]);
    }

    #[derive(Debug, PartialEq)]
    struct Owned(AccountId, String, String);

    impl Entity for Owned {
        fn account(&self) -> AccountId {
            self.0
        }

        fn name(&self) -> &str {
            &self.1
        }

        fn unique_id(&self) -> &str {
            &self.2
        }
    }

    #[test]
    fn equal_names_are_one() {
        let mut names = Names::default();
        let mut held = [Name::from("a"), Name::from("b"), Name::from("a")];
        names.share(&mut held);
        let [first, second, third] = &held;
        assert!(Arc::ptr_eq(&first.0, &third.0) && !Arc::ptr_eq(&first.0, &second.0));
        assert_eq!((&**first, &**second, names.names.len()), ("a", "b", 2));
        assert_eq!(size_of::<Name>(), 8);
        let mut lists: [Arc<[Name]>; 3] =
            [["a", "c"], ["c", "a"], ["a", "c"]].map(|list| list.map(Name::from).into());
        lists.iter_mut().for_each(|list| names.share_list(list));
        let [one, other, same] = &lists;
        assert!(Arc::ptr_eq(one, same) && !Arc::ptr_eq(one, other));
        assert!(Arc::ptr_eq(&one[0].0, &first.0) && Arc::ptr_eq(&one[1].0, &other[0].0));
    }
}
