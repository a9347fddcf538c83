use super::*;

fn args<'a>(query: &'a str, body: &'a str) -> Args<'a> {
    Args::new(query, body.as_bytes()).expect("valid")
}

#[test]
fn the_body_wins_key_by_key() {
    let both = args("collection_name=q&ttl=5&del_all=true", r#"{"collection_name":"b"}"#);
    assert_eq!(both.text("collection_name").expect("text").as_deref(), Some("b"));
    assert_eq!(both.int("ttl").expect("int"), Some(5));
    assert_eq!(both.flag("del_all").expect("flag"), Some(true));
    assert_eq!(both.text("nope").expect("absent"), None);
    let null = args("collection_name=q", r#"{"collection_name":null}"#);
    assert_eq!(null.text("collection_name").expect("absent"), None);
}

#[test]
fn query_texts_take_the_type_that_is_asked_for() {
    let query = args("n=7&t=7&b=false&k=1&k=2&z+a=a%2Bb%2Fc~d", "");
    assert_eq!(query.int("n").expect("int"), Some(7));
    assert_eq!(query.text("t").expect("text").as_deref(), Some("7"));
    assert_eq!(query.flag("b").expect("flag"), Some(false));
    assert_eq!(query.text("z a").expect("text").as_deref(), Some("a+b/c~d"));
    let list = [Value::Text("1".to_owned()), Value::Text("2".to_owned())];
    assert_eq!(query.value("k").expect("list"), Some(Value::List(list.to_vec())));
    assert!(query.int("t").is_ok() && query.int("b").is_err() && query.flag("n").is_err());
    // Two texts for one string could be read in two ways.
    assert!(query.text("k").is_err());
}

#[test]
fn query_strings_are_utf8() {
    assert!(Args::new("a=%ff", b"").is_err());
    assert!(Args::new("a=%zz", b"").is_err());
    assert_eq!(args("a=%E5%8C%97", "").text("a").expect("text").as_deref(), Some("北"));
}

#[test]
fn raw_texts_come_from_the_body_alone() {
    let both = args("fields=[]&x=1", r#"{"fields": [ 1 ],"gone":null}"#);
    assert_eq!(both.raw("fields"), Some("[ 1 ]"));
    assert_eq!(both.raw("gone"), None);
    assert_eq!(both.raw("x"), None);
    assert!(!both.is_empty() && args("", "{}").is_empty() && !args("a", "").is_empty());
}
