//! The difference of two values as a JSON Patch (RFC 6902): what an admission webhook answers with.

use serde_json::{Value, json};

/// The operations that make `new` of `old`.
pub(super) fn patch(old: &Value, new: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare("", old, new, &mut operations);
    operations
}

fn compare(path: &str, old: &Value, new: &Value, operations: &mut Vec<Value>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(before), Value::Object(after)) => {
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                operations.push(json!({ "op": "remove", "path": format!("{path}/{}", escaped(key)) }));
            }
            for (key, value) in after {
                let path = format!("{path}/{}", escaped(key));
                match before.get(key) {
                    Some(before) => compare(&path, before, value, operations),
                    None => operations.push(json!({ "op": "add", "path": path, "value": value })),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            let (same_first, same_last) = common_ends(before, after);
            // From the last to the first, so that no index moves under an operation that comes later.
            for index in (same_first..before.len() - same_last).rev() {
                operations.push(json!({ "op": "remove", "path": format!("{path}/{index}") }));
            }
            for (index, value) in after.iter().enumerate().take(after.len() - same_last).skip(same_first) {
                operations.push(json!({ "op": "add", "path": format!("{path}/{index}"), "value": value }));
            }
        }
        _ => operations.push(json!({ "op": "replace", "path": path, "value": new })),
    }
}

/// How many items two lists have in common from their first on, and how many of the rest up to their last.
pub(super) fn common_ends(before: &[Value], after: &[Value]) -> (usize, usize) {
    let first = before.iter().zip(after).take_while(|(before, after)| before == after).count();
    let last =
        before[first..].iter().rev().zip(after[first..].iter().rev()).take_while(|(b, a)| b == a).count();
    (first, last)
}

/// A key in a JSON Pointer (RFC 6901 section 3).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::patch;

    #[test]
    fn it_says_no_more_than_what_changed() {
        let old = json!({ "a": [1, 2], "b/~": { "c": 1 }, "gone": 1 });
        let new = json!({ "a": [0, 1, 2], "b/~": { "c": 2 }, "new": {} });
        assert_eq!(
            Value::Array(patch(&old, &new)),
            json!([
                { "op": "remove", "path": "/gone" },
                { "op": "add", "path": "/a/0", "value": 0 },
                { "op": "replace", "path": "/b~1~0/c", "value": 2 },
                { "op": "add", "path": "/new", "value": {} }
            ])
        );
        assert!(patch(&old, &old).is_empty());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(json!(null)), any::<bool>().prop_map(Value::from), (0..4).prop_map(Value::from)];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a~/]{0,2}", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn another_implementation_makes_the_new_one_of_the_old(old in values(), new in values()) {
            let operations: json_patch::Patch = serde_json::from_value(Value::Array(patch(&old, &new))).unwrap();
            let mut made = old;
            json_patch::patch(&mut made, &operations).unwrap();
            prop_assert_eq!(made, new);
        }
    }
}
