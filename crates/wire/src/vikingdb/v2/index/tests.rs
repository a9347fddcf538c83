use knarr_base::value::Value;
use knarr_service::indexes::Group;

use super::*;
use crate::testing::golden;

fn groups() -> Groups {
    let group = |value: &str, rows| Group { value: Value::Str(value.to_owned()), rows };
    Groups { total: 9, groups: vec![group("a", 2), group("b\"", 5), group("c", 2)] }
}

#[test]
fn groups_are_by_value_unless_an_order_is_asked_for() {
    let line = |field: Option<&str>, descending| {
        let (mut groups, mut out) = (groups(), Vec::new());
        if field.is_none() {
            groups.groups.clear();
        }
        sort(&mut groups, descending);
        write_groups(&groups, field, &mut out);
        String::from_utf8(out).expect("UTF-8")
    };
    let lines =
        [line(None, None), line(Some("city"), None), line(Some("city"), Some(true)), line(Some("city"), Some(false))];
    golden("v2_agg.jsonl", &lines.join("\n"));
}
