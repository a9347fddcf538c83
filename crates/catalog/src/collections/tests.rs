use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::tests::{Home, START_MS, account, key, name, new_collection};

#[tokio::test]
async fn a_dropped_table_is_known_until_its_files_are_gone() {
    let home = Home::new();
    let catalog = home.open().await;
    let owner = account("default");
    let made = catalog.create_collection(&key(), new_collection("default", "first")).await.unwrap();
    assert!(catalog.dropped_tables().await.unwrap().is_empty());
    catalog.drop_collection(&key(), &owner, "first").await.unwrap();
    assert!(catalog.table_ids().await.unwrap().is_empty());
    assert_eq!(catalog.dropped_tables().await.unwrap(), [made.table].into());
    catalog.forget_dropped_table(made.table).await.unwrap();
    assert!(catalog.dropped_tables().await.unwrap().is_empty());
}

#[tokio::test]
async fn collections_are_made_found_changed_and_dropped() {
    let home = Home::new();
    let catalog = home.open().await;
    let owner = account("default");
    let new = NewCollection {
        project: "p\0é".into(),
        aliases: vec![name("z"), name("a"), name("z")],
        vectorize: Some("{\"a\":\"\\u0000\"}".into()),
        ..new_collection("default", "example")
    };
    let created = catalog.create_collection(&key(), new.clone()).await.unwrap();
    assert_eq!(
        created,
        Collection {
            account: owner.clone(),
            name: name("example"),
            table: new.table,
            project: new.project.clone(),
            description: new.description.clone(),
            aliases: vec![name("a"), name("z")],
            vectorize: new.vectorize.clone(),
            created_ms: START_MS,
            updated_ms: START_MS,
            updated_by: key(),
        }
    );
    assert_eq!(catalog.collection(&owner, "example").await.unwrap(), Some(created.clone()));
    for alias in ["a", "z"] {
        assert_eq!(catalog.collection_by_alias(&owner, alias).await.unwrap(), Some(created.clone()));
        assert_eq!(catalog.collection(&owner, alias).await.unwrap(), None);
    }
    for missing in ["Example", "", "\0", "example\0", "é", "%"] {
        assert_eq!(catalog.collection(&owner, missing).await.unwrap(), None, "{missing}");
        assert_eq!(catalog.collection_by_alias(&owner, missing).await.unwrap(), None, "{missing}");
    }
    let again = catalog.create_collection(&key(), new_collection("default", "example")).await.unwrap_err();
    assert!(matches!(again, Error::CollectionExists { .. }), "{again:?}");

    home.clock.set_wall(START_MS + 9);
    let by = KeyId::new("AKLTother");
    let change = CollectionChange { aliases: Some(vec![name("m")]), ..Default::default() };
    let changed = catalog.update_collection(&by, &owner, "example", change).await.unwrap();
    let expected = Collection {
        aliases: vec![name("a"), name("m"), name("z")],
        updated_ms: START_MS + 9,
        updated_by: by,
        ..created
    };
    assert_eq!(changed, expected);
    let change = CollectionChange { description: Some(String::new()), ..Default::default() };
    let changed = catalog.update_collection(&key(), &owner, "example", change).await.unwrap();
    assert_eq!((changed.description.as_str(), changed.aliases.len()), ("", 3));

    assert_eq!(catalog.table_ids().await.unwrap(), HashSet::from([new.table]));
    assert_eq!(catalog.drop_collection(&key(), &owner, "example").await.unwrap(), changed);
    assert_eq!(catalog.collection_by_alias(&owner, "m").await.unwrap(), None);
    assert!(catalog.table_ids().await.unwrap().is_empty());
    let gone = catalog.drop_collection(&key(), &owner, "example").await.unwrap_err();
    assert!(matches!(gone, Error::CollectionMissing { .. }), "{gone:?}");

    let again = catalog.create_collection(&key(), new_collection("default", "example")).await.unwrap();
    assert_ne!(again.table, new.table, "made again, it is another one");
    assert!(again.aliases.is_empty());
}

#[tokio::test]
async fn lists_are_by_name_and_project() {
    let home = Home::new();
    let catalog = home.open().await;
    for (text, project) in [("b", "p"), ("B", "q"), ("a_1", "p"), ("aB", "q")] {
        let new = NewCollection { project: project.into(), ..new_collection("default", text) };
        catalog.create_collection(&key(), new).await.unwrap();
    }
    let names = async |project| {
        let list = catalog.collections(&account("default"), project).await.unwrap();
        list.into_iter().map(|c| c.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(None).await, ["B", "aB", "a_1", "b"]);
    assert_eq!(names(Some("p")).await, ["a_1", "b"]);
    assert!(names(Some("")).await.is_empty());
}

#[tokio::test]
async fn an_account_has_bounds() {
    let home = Home::new();
    let catalog = home.open().await;
    for i in 0..COLLECTIONS_PER_ACCOUNT {
        catalog.create_collection(&key(), new_collection("full", &format!("c{i}"))).await.unwrap();
    }
    let before = home.dump().await;
    let error = catalog.create_collection(&key(), new_collection("full", "more")).await.unwrap_err();
    assert!(matches!(error, Error::TooManyCollections { max: COLLECTIONS_PER_ACCOUNT }), "{error:?}");
    let error = catalog.create_collection(&key(), new_collection("full", "c7")).await.unwrap_err();
    assert!(matches!(error, Error::CollectionExists { .. }), "{error:?}");
    assert_eq!(home.dump().await, before);
    catalog.create_collection(&key(), new_collection("other", "more")).await.unwrap();

    let aliases: Vec<_> = (0..=ALIASES_PER_COLLECTION).map(|i| name(&format!("a{i}"))).collect();
    let too_many = NewCollection { aliases: aliases.clone(), ..new_collection("other", "many") };
    let error = catalog.create_collection(&key(), too_many).await.unwrap_err();
    assert!(matches!(error, Error::TooManyAliases { .. }), "{error:?}");
    let change = CollectionChange { aliases: Some(aliases), ..Default::default() };
    catalog.update_collection(&key(), &account("other"), "more", change).await.unwrap_err();
    assert_eq!(catalog.collection_by_alias(&account("other"), "a0").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_makes_the_collection() {
    let home = Home::new();
    let catalog = home.open().await;
    let calls = (0..16).map(|_| {
        let catalog = catalog.clone();
        tokio::spawn(async move { catalog.create_collection(&key(), new_collection("a", "race")).await })
    });
    let results = futures::future::join_all(calls.collect::<Vec<_>>()).await;
    let (made, refused): (Vec<_>, Vec<_>) = results.into_iter().map(Result::unwrap).partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 15));
    assert_eq!(catalog.collection(&account("a"), "race").await.unwrap(), made.into_iter().next().unwrap().ok());
    assert!(refused.into_iter().all(|e| matches!(e, Err(Error::CollectionExists { .. }))));
}

/// One call of one of two accounts.
#[derive(Debug, Clone)]
enum Call {
    Create { name: u8, alias: u8 },
    Alias { name: u8, alias: u8 },
    Drop { name: u8 },
}

/// What one account can see: aliases by collection.
type World = BTreeMap<String, BTreeSet<String>>;

fn call() -> impl Strategy<Value = (bool, Call)> {
    let call = prop_oneof![
        (0..4_u8, 0..4_u8).prop_map(|(name, alias)| Call::Create { name, alias }),
        (0..4_u8, 0..4_u8).prop_map(|(name, alias)| Call::Alias { name, alias }),
        (0..4_u8).prop_map(|name| Call::Drop { name }),
    ];
    (any::<bool>(), call)
}

/// The same call on the model; false if it must be refused.
fn model(world: &mut World, call: &Call) -> bool {
    let (name, alias) = match call {
        Call::Drop { name } => return world.remove(&format!("c{name}")).is_some(),
        Call::Create { name, alias } | Call::Alias { name, alias } => (format!("c{name}"), format!("a{alias}")),
    };
    if world.contains_key(&name) == matches!(call, Call::Create { .. }) {
        return false;
    }
    for aliases in world.values_mut() {
        aliases.remove(&alias);
    }
    world.entry(name).or_default().insert(alias);
    true
}

async fn apply(catalog: &Catalog, owner: &str, call: &Call) -> bool {
    let by = key();
    match call {
        Call::Create { name: n, alias } => {
            let aliases = vec![name(&format!("a{alias}"))];
            let new = NewCollection { aliases, ..new_collection(owner, &format!("c{n}")) };
            catalog.create_collection(&by, new).await.is_ok()
        }
        Call::Alias { name: n, alias } => {
            let aliases = Some(vec![name(&format!("a{alias}"))]);
            let change = CollectionChange { aliases, ..Default::default() };
            catalog.update_collection(&by, &account(owner), &format!("c{n}"), change).await.is_ok()
        }
        Call::Drop { name } => catalog.drop_collection(&by, &account(owner), &format!("c{name}")).await.is_ok(),
    }
}

async fn visible(catalog: &Catalog, owner: &str) -> World {
    let owner = account(owner);
    let list = catalog.collections(&owner, None).await.unwrap();
    for i in 0..4 {
        let alias = format!("a{i}");
        let mapped = list.iter().find(|c| c.aliases.contains(&name(&alias)));
        assert_eq!(catalog.collection_by_alias(&owner, &alias).await.unwrap().as_ref(), mapped);
    }
    let entry = |c: Collection| (c.name.to_string(), c.aliases.iter().map(Name::to_string).collect());
    list.into_iter().map(entry).collect()
}

/// Threat model A2 at this level: two accounts use the same names at random, and each sees exactly what it would see
/// alone. An alias has one owner, the last that asked for it.
#[test]
fn two_accounts_never_meet() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let home = Home::new();
    let catalog = runtime.block_on(home.open());
    let round = std::cell::Cell::new(0);
    let config = ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(8), ..Default::default() };
    proptest!(config, |(calls in proptest::collection::vec(call(), 1..24))| {
        round.set(round.get() + 1);
        let owners = [format!("a{}", round.get()), format!("b{}", round.get())];
        let mut worlds = [World::new(), World::new()];
        runtime.block_on(async {
            for (second, call) in calls {
                let who = usize::from(second);
                let expected = model(&mut worlds[who], &call);
                prop_assert_eq!(apply(&catalog, &owners[who], &call).await, expected, "{:?}", call);
                for who in 0..2 {
                    prop_assert_eq!(&visible(&catalog, &owners[who]).await, &worlds[who]);
                }
            }
            Ok(())
        })?;
    });
}
