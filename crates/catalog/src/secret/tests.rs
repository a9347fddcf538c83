use std::fmt::{Debug, Display};
use std::marker::PhantomData;

use serde::Serialize;

use super::*;

#[test]
fn master_keys_have_a_text_form() {
    let key = MasterKey::random().unwrap();
    let text = key.to_hex();
    assert_eq!(text.len(), 64);
    assert_eq!(MasterKey::from_hex(&text).unwrap().0, key.0);
    assert_eq!(MasterKey::from_hex(&text.to_uppercase()).unwrap().0, key.0);
    for bad in
        ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32), &format!(" {}", &text[1..])]
    {
        assert!(matches!(MasterKey::from_hex(bad), Err(Error::MalformedMasterKey)), "{bad}");
    }
}

#[test]
fn a_sealed_secret_opens_only_whole_for_its_owner_and_key() {
    let key = MasterKey::random().unwrap();
    let sealed = key.seal("AKLTa", "the secret \0 é").unwrap();
    assert_eq!(key.open("AKLTa", &sealed).unwrap().expose(), "the secret \0 é");
    assert!(key.open("AKLTb", &sealed).is_none());
    assert!(MasterKey::random().unwrap().open("AKLTa", &sealed).is_none());
    for i in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[i] ^= 1;
        assert!(key.open("AKLTa", &damaged).is_none(), "byte {i}");
        assert!(key.open("AKLTa", &sealed[..i]).is_none(), "length {i}");
    }
    assert_ne!(key.seal("AKLTa", "x").unwrap(), key.seal("AKLTa", "x").unwrap());
}

#[test]
fn secrets_cannot_be_printed() {
    struct Probe<T>(PhantomData<T>);
    trait Without {
        const PRINTS: bool = false;
        const DISPLAYS: bool = false;
        const SERIALIZES: bool = false;
    }
    impl<T> Without for Probe<T> {}
    macro_rules! probe {
        ($bound:ident, $const:ident) => {
            impl<T: $bound> Probe<T> {
                const $const: bool = true;
            }
        };
    }
    probe!(Debug, PRINTS);
    probe!(Display, DISPLAYS);
    probe!(Serialize, SERIALIZES);
    let _ = Probe(PhantomData::<()>).0;
    // An inherent constant hides the trait's, so the probe sees a type that has the trait.
    assert_eq!([Probe::<String>::PRINTS, Probe::<String>::DISPLAYS, Probe::<String>::SERIALIZES], [true; 3]);
    assert_eq!([Probe::<Secret>::PRINTS, Probe::<Secret>::DISPLAYS, Probe::<Secret>::SERIALIZES], [false; 3]);
    assert_eq!([Probe::<MasterKey>::PRINTS, Probe::<MasterKey>::DISPLAYS, Probe::<MasterKey>::SERIALIZES], [false; 3]);
}
