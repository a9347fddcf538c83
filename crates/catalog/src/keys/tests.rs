use super::*;
use crate::tests::{Home, START_MS, account, key};

fn grants() -> Vec<Grant> {
    vec![
        Grant { rights: vec![Right::Read, Right::Export], pattern: "shop_*".into() },
        Grant { rights: Vec::new(), pattern: "\0 é 船 \"".into() },
    ]
}

#[tokio::test]
async fn keys_are_made_found_listed_and_revoked() {
    let home = Home::new();
    let catalog = home.open().await;
    let (owner, label) = (account("default"), "label \0 é 船 \" '");
    let (id, secret) = catalog.create_key(&key(), &owner, label, grants()).await.unwrap();
    assert!(id.as_str().starts_with("AKLT") && id.as_str().len() == 36, "{id}");
    assert!(secret.expose().len() >= 40);

    let found = catalog.find_key(&id).await.unwrap().unwrap();
    assert_eq!((found.id, found.account, found.label.as_str()), (id.clone(), owner.clone(), label));
    assert_eq!((found.secret.expose(), found.grants), (secret.expose(), grants()));

    let (second, other) = catalog.create_key(&key(), &owner, "", Vec::new()).await.unwrap();
    assert_ne!(other.into_inner(), secret.into_inner());
    let ids = |list: Vec<KeyInfo>| list.into_iter().map(|info| (info.id, info.revoked_ms)).collect::<Vec<_>>();
    assert_eq!(ids(catalog.list_keys(&owner).await.unwrap()), [(id.clone(), None), (second.clone(), None)]);

    home.clock.set_wall(START_MS + 5);
    assert!(catalog.revoke_key(&key(), &owner, &id).await.unwrap());
    assert!(!catalog.revoke_key(&key(), &owner, &id).await.unwrap());
    assert!(!catalog.revoke_key(&key(), &owner, &KeyId::new("AKLTnone")).await.unwrap());
    assert!(catalog.find_key(&id).await.unwrap().is_none());
    assert!(catalog.find_key(&second).await.unwrap().is_some());
    assert_eq!(ids(catalog.list_keys(&owner).await.unwrap()), [(id, Some(START_MS + 5)), (second, None)]);
}

#[tokio::test]
async fn an_account_neither_sees_nor_revokes_keys_of_another() {
    let home = Home::new();
    let catalog = home.open().await;
    let (id, _) = catalog.create_key(&key(), &account("a"), "", Vec::new()).await.unwrap();
    assert!(!catalog.revoke_key(&key(), &account("b"), &id).await.unwrap());
    assert!(catalog.list_keys(&account("b")).await.unwrap().is_empty());
    assert_eq!(catalog.find_key(&id).await.unwrap().unwrap().account, account("a"));
}

#[tokio::test]
async fn an_admin_key_is_one_for_every_name_that_is_not_revoked() {
    let home = Home::new();
    let catalog = home.open().await;
    let (by, owner) = (key(), account("default"));
    assert!(!catalog.has_admin_key().await.unwrap());
    let partial = Grant { rights: vec![Right::Admin], pattern: "a*".into() };
    let lesser = Grant { rights: vec![Right::Read], pattern: "*".into() };
    catalog.create_key(&by, &owner, "", vec![partial, lesser]).await.unwrap();
    assert!(!catalog.has_admin_key().await.unwrap());
    let (id, _) = catalog.create_key(&by, &owner, "", vec![Grant::everything()]).await.unwrap();
    assert!(catalog.has_admin_key().await.unwrap());
    catalog.revoke_key(&by, &owner, &id).await.unwrap();
    assert!(!catalog.has_admin_key().await.unwrap());
}

#[tokio::test]
async fn secret_canary() {
    let home = Home::new();
    let catalog = home.open().await;
    let (_, secret) = catalog.create_key(&key(), &account("default"), "canary-label", grants()).await.unwrap();
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let raw: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&secret.expose()[2 * i..2 * i + 2], 16).unwrap()).collect();
    for closed in [false, true] {
        if closed {
            catalog.close().await;
        }
        let bytes = home.bytes();
        assert!(holds(&bytes, "canary-label"), "the check finds what is there");
        assert!(!holds(&bytes, secret.expose()));
        assert!(!bytes.windows(raw.len()).any(|window| window == raw));
    }
}

#[tokio::test]
async fn a_secret_moved_to_another_key_does_not_open() {
    let home = Home::new();
    let catalog = home.open().await;
    let (strong, _) = catalog.create_key(&key(), &account("a"), "", vec![Grant::everything()]).await.unwrap();
    let (weak, _) = catalog.create_key(&key(), &account("b"), "", Vec::new()).await.unwrap();
    let sql = format!(
        "UPDATE access_keys SET sealed_secret = (SELECT sealed_secret FROM access_keys WHERE id = '{weak}')
         WHERE id = '{strong}'"
    );
    home.raw(&sql).await;
    assert!(
        matches!(catalog.find_key(&strong).await.err(), Some(Error::SecretDamaged { id }) if id == strong.as_str())
    );
    assert!(catalog.find_key(&weak).await.unwrap().is_some());
}
