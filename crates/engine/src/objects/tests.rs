use std::fs;
use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use knarr_base::Kind;
use proptest::prelude::*;

use super::fault::Faults;
use super::*;

fn bucket(name: &str) -> BucketName {
    BucketName::parse(name).unwrap()
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

async fn open(dir: &Path) -> Stores {
    let stores = Stores::open_local(dir).unwrap();
    stores.ensure_bucket(&bucket("data")).await.unwrap();
    stores
}

fn body(parts: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, Error>> + Send + use<> {
    stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part))).collect::<Vec<_>>())
}

async fn put(stores: &Stores, name: &str, bytes: &'static [u8]) -> ObjectInfo {
    stores.put_stream(&bucket("data"), &key(name), body(&[bytes])).await.unwrap()
}

async fn read(stores: &Stores, name: &str) -> Result<Vec<u8>, Error> {
    let (_, body) = stores.get(&bucket("data"), &key(name)).await?;
    Ok(body.try_collect::<Vec<_>>().await?.concat())
}

async fn keys(stores: &Stores, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let page = stores.list(&bucket("data"), prefix, after, limit).await.unwrap();
    page.into_iter().map(|info| info.key).collect()
}

#[tokio::test]
async fn an_object_is_a_plain_file() {
    let dir = tempfile::tempdir().unwrap();
    let stores = open(dir.path()).await;
    for name in
        ["a", "x/0.parquet", "北京/1.json", "sp ace/~*?{}[]^`\"<>|:;=&+,@!$'()#x", "é/....", "C:/a:/b|", "half#1"]
    {
        let info = put(&stores, name, b"bytes").await;
        assert_eq!((info.key.as_str(), info.size), (name, 5));
        assert_eq!(fs::read(dir.path().join("data").join(name)).unwrap(), b"bytes", "{name}");
        assert_eq!(stores.head(&bucket("data"), &key(name)).await.unwrap(), Some(info.clone()), "the etag is stable");
        assert_eq!(read(&stores, name).await.unwrap(), b"bytes");
        let other = put(&stores, name, b"other").await;
        assert_ne!(other.etag, info.etag, "replaced");
        assert!(keys(&stores, "", None, 100).await.contains(&name.to_owned()));
    }
    assert!(fs::read_dir(dir.path().join(".staging")).unwrap().next().is_none());
}

#[tokio::test]
async fn buckets_are_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let stores = Stores::open_local(dir.path()).unwrap();
    let b = bucket("data");
    assert!(!stores.bucket_exists(&b).await.unwrap());
    let missing = stores.put_new(&b, &key("a"), Bytes::new()).await.unwrap_err();
    assert!(matches!(missing, Error::BucketMissing(_)) && missing.kind() == Kind::NotFound);
    assert!(matches!(stores.list(&b, "", None, 1).await, Err(Error::BucketMissing(_))));
    assert!(stores.ensure_bucket(&b).await.unwrap());
    assert!(!stores.ensure_bucket(&b).await.unwrap());
    assert!(stores.bucket_exists(&b).await.unwrap());
}

#[tokio::test]
async fn put_new_never_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let stores = open(dir.path()).await;
    let (b, k) = (bucket("data"), key("t/_SUCCESS"));
    stores.put_new(&b, &k, Bytes::from_static(b"one")).await.unwrap();
    stores.put_new(&b, &k, Bytes::from_static(b"one")).await.unwrap();
    for other in [&b"two"[..], b"longer", b""] {
        let refused = stores.put_new(&b, &k, Bytes::copy_from_slice(other)).await.unwrap_err();
        assert!(matches!(refused, Error::ObjectExists(_)) && refused.kind() == Kind::Refused);
    }
    assert_eq!(read(&stores, "t/_SUCCESS").await.unwrap(), b"one");
}

#[tokio::test]
async fn names_that_cannot_stand_beside_others_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let stores = open(dir.path()).await;
    put(&stores, "a/b", b"1").await;
    put(&stores, "c", b"1").await;
    for name in ["a", "c/d", "c/d/e"] {
        let refused = stores.put_stream(&bucket("data"), &key(name), body(&[b"2"])).await.unwrap_err();
        assert!(matches!(refused, Error::ObjectKey { .. }), "{name}: {refused:?}");
        let refused = stores.put_new(&bucket("data"), &key(name), Bytes::new()).await.unwrap_err();
        assert!(matches!(refused, Error::ObjectKey { .. } | Error::ObjectExists(_)), "{name}: {refused:?}");
    }
    assert_eq!(keys(&stores, "", None, 100).await, ["a/b", "c"]);
    assert!(matches!(read(&stores, "a").await, Err(Error::ObjectMissing(_))));
    assert_eq!(stores.head(&bucket("data"), &key("a")).await.unwrap(), None);
}

#[tokio::test]
async fn deleting_is_idempotent_and_leaves_no_directories() {
    let dir = tempfile::tempdir().unwrap();
    let stores = open(dir.path()).await;
    put(&stores, "a/b/c", b"1").await;
    put(&stores, "a/d", b"1").await;
    for _ in 0..2 {
        stores.delete(&bucket("data"), &key("a/b/c")).await.unwrap();
    }
    assert!(!dir.path().join("data/a/b").exists());
    stores.delete(&bucket("data"), &key("a/b")).await.unwrap();
    stores.delete(&bucket("data"), &key("a")).await.unwrap();
    stores.delete(&bucket("data"), &key("a/d")).await.unwrap();
    stores.delete(&bucket("data"), &key("a/d/e")).await.unwrap();
    assert!(dir.path().join("data").exists() && !dir.path().join("data/a").exists());
    put(&stores, "a", b"now a file").await;
}

/// A link below the store may lead anywhere: nothing is removed, read or listed through it.
#[tokio::test]
async fn links_are_not_followed() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let stores = open(dir.path()).await;
    put(&stores, "a/b", b"1").await;
    std::fs::write(outside.path().join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("data/link")).unwrap();
    assert!(stores.delete(&bucket("data"), &key("link/secret")).await.is_err());
    assert!(read(&stores, "link/secret").await.is_err());
    assert!(keys(&stores, "link/", None, 9).await.is_empty());
    assert!(outside.path().join("secret").exists());
}

#[tokio::test]
async fn listings_are_ordered_pages() {
    let dir = tempfile::tempdir().unwrap();
    let stores = open(dir.path()).await;
    let mut names = ["a!", "a", "b/0", "b/1/x", "b/1!", "b/10", "b-", "b0", "bb", "é/1", "z"].map(str::to_owned);
    for name in &names {
        let plain: &'static [u8] = b"";
        // `a` and `b` are no prefixes of directories here, so all of them fit beside each other.
        stores.put_stream(&bucket("data"), &key(name), body(&[plain])).await.unwrap();
    }
    names.sort();
    for limit in 1..=names.len() + 1 {
        let (mut seen, mut after): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let page = keys(&stores, "", after.as_deref(), limit).await;
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            seen.extend(page);
        }
        assert_eq!(seen, names);
    }
    for prefix in
        ["", "a", "b", "b/", "b/1", "b/1/", "é", "é/", "c", "z", "zz", "/", "/a", "..", "../", "b//", "b/../b"]
    {
        let expected: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).cloned().collect();
        assert_eq!(keys(&stores, prefix, None, 100).await, expected, "{prefix:?}");
        for after in ["", "a", "b", "b/", "b/1", "b/1/x", "c//", "é"] {
            let expected: Vec<_> = expected.iter().filter(|name| name.as_str() > after).cloned().collect();
            assert_eq!(keys(&stores, prefix, Some(after), 100).await, expected, "{prefix:?} after {after:?}");
        }
    }
    assert!(keys(&stores, "", None, 0).await.is_empty());
}

#[tokio::test]
async fn unfinished_uploads_are_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let stores = open(dir.path()).await;
    let broken = stream::iter([Ok(Bytes::from(vec![1; limit::PART_BYTES + 1])), Err(Error::Cancelled)]);
    let failed = stores.put_stream(&bucket("data"), &key("half"), broken).await;
    assert!(matches!(failed, Err(Error::Cancelled)));
    let mut writer = stores.writer(&bucket("data"), &key("half"), Overwrite::Refused).await.unwrap();
    writer.put(Bytes::from_static(b"x")).await.unwrap();
    assert!(keys(&stores, "", None, 9).await.is_empty());
    writer.abort().await;

    // A killed process cannot clean up; the next one does.
    fs::write(dir.path().join(".staging/7"), "left over").unwrap();
    drop(stores);
    let stores = Stores::open_local(dir.path()).unwrap();
    assert!(fs::read_dir(dir.path().join(".staging")).unwrap().next().is_none());
    assert!(keys(&stores, "", None, 9).await.is_empty());
}

/// Objects leave the tables their room on the disk: what would take of it is refused, with nothing left of it.
#[tokio::test]
async fn objects_do_not_take_the_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let stores = open(dir.path()).await;
    put(&stores, "before", b"kept").await;
    drop(stores);

    let stores = Stores::open_reserving(dir.path(), u64::MAX).unwrap();
    let (b, big) = (bucket("data"), vec![1; limit::PART_BYTES + 1]);
    for name in ["new", "before", "x/y"] {
        let small = stores.put_stream(&b, &key(name), body(&[b"bytes"])).await.unwrap_err();
        let parts = stores.put_stream(&b, &key(name), stream::iter([Ok(Bytes::from(big.clone()))])).await.unwrap_err();
        let once = stores.put_new(&b, &key(name), Bytes::from_static(b"bytes")).await.unwrap_err();
        for refused in [small, parts, once] {
            assert!(matches!(refused, Error::DiskFull), "{name}: {refused:?}");
            assert_eq!(refused.kind(), Kind::DiskFull);
        }
    }
    assert_eq!(keys(&stores, "", None, 9).await, ["before"]);
    assert_eq!(read(&stores, "before").await.unwrap(), b"kept");
    assert!(!dir.path().join("data/x").exists());
    assert!(fs::read_dir(dir.path().join(".staging")).unwrap().next().is_none());

    // Reading goes on, and removing, which makes room.
    stores.delete(&b, &key("before")).await.unwrap();
    drop(stores);
    put(&Stores::open_reserving(dir.path(), 0).unwrap(), "new", b"fits").await;
}

#[tokio::test]
async fn large_bodies_come_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let stores = open(dir.path()).await;
    let bytes: Vec<u8> = (0..limit::PART_BYTES * 2 + 12_345).map(|n| (n % 251) as u8).collect();
    let chunks: Vec<_> = bytes.chunks(70_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    let info = stores.put_stream(&bucket("data"), &key("big"), stream::iter(chunks)).await.unwrap();
    assert_eq!(info.size, bytes.len() as u64);
    assert!(read(&stores, "big").await.unwrap() == bytes);
    let (_, mut pieces) = stores.get(&bucket("data"), &key("big")).await.unwrap();
    assert!(pieces.next().await.unwrap().unwrap().len() as u64 <= limit::OBJECT_READ_BYTES);
}

/// Fails the first, second, ... call until a run sees no failure: the object is there exactly when the caller was told
/// so, or the answer was lost.
#[tokio::test]
async fn every_failing_call_is_reported() {
    for lost in [false, true] {
        let mut n = 0;
        loop {
            n += 1;
            let dir = tempfile::tempdir().unwrap();
            let faults = Faults::new();
            let stores = Stores::open_faulty(dir.path(), &faults).unwrap();
            stores.ensure_bucket(&bucket("data")).await.unwrap();
            if lost {
                faults.lose_ack(n)
            } else {
                faults.fail(n)
            }
            let stored = stores.put_stream(&bucket("data"), &key("k"), body(&[b"bytes"])).await;
            let there = fs::read(dir.path().join("data/k")).ok();
            match stored {
                Ok(_) => {
                    assert!(n > faults.calls(), "call {n} failed unnoticed");
                    assert_eq!(there.as_deref(), Some(&b"bytes"[..]));
                    break;
                }
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
                    assert!(there.is_none_or(|bytes| bytes == b"bytes"), "whole or not at all");
                }
            }
        }
        assert!(n > 3, "begin, part, complete and head were each tried");
    }
}

#[tokio::test]
async fn a_hanging_store_goes_on_when_released() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let stores = Stores::open_faulty(dir.path(), &faults).unwrap();
    stores.ensure_bucket(&bucket("data")).await.unwrap();
    faults.hang(1);
    let (b, k) = (bucket("data"), key("k"));
    let put = stores.put_new(&b, &k, Bytes::from_static(b"1"));
    let release = async {
        while faults.hanging() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!dir.path().join("data/k").exists());
        faults.release();
    };
    let (put, ()) = tokio::join!(put, release);
    put.unwrap();
    assert_eq!((faults.hanging(), read(&stores, "k").await.unwrap()), (0, b"1".to_vec()));
}

proptest! {
    /// Whatever a checked key holds, the object is the file of that name and nothing else.
    #[test]
    fn object_key(text in "[ -$&-.0-\\[\\]-~é北]{1,20}(/[ -$&-.0-\\[\\]-~é北]{1,20}){0,3}") {
        prop_assume!(ObjectKey::parse(&text).is_ok());
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let stores = open(dir.path()).await;
            stores.put_new(&bucket("data"), &key(&text), Bytes::from_static(b"x")).await.unwrap();
            assert_eq!(fs::read(dir.path().join("data").join(&text)).unwrap(), b"x");
            assert_eq!(keys(&stores, "", None, 9).await, std::slice::from_ref(&text));
            assert_eq!(read(&stores, &text).await.unwrap(), b"x");
        });
    }
}
