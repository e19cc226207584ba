//! Bytes that no lowering gives: an error, never a panic, and no memory or stack for what is only claimed.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;

use casemate_plan::{Error, MAX_BYTES, Plan};
use proptest::prelude::*;
use serde_json::{Value, json};

fn hardened() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/plan/hardened_do.json"
    );
    let vector: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    vector["plan"].clone()
}

fn encode(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

fn minimal(ops: Value) -> Vec<u8> {
    encode(&json!({"version": 1, "ops": ops}))
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z/_]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z_]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The places of a document, as JSON pointers.
fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    found.push(place.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                places(value, &format!("{place}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{place}/{index}"), found);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Plan::decode(&bytes);
    }

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = encode(&hardened());
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Plan::decode(&bytes);
    }

    #[test]
    fn truncated_plan_is_refused(at in any::<prop::sample::Index>()) {
        let bytes = encode(&hardened());
        prop_assert!(Plan::decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn wrong_value_anywhere_is_an_error_or_a_plan_that_encodes_to_itself(at in any::<prop::sample::Index>(), value in arbitrary_json()) {
        let mut plan = hardened();
        let mut found = Vec::new();
        places(&plan, "", &mut found);
        *plan.pointer_mut(&found[at.index(found.len())]).unwrap() = value;
        if let Ok(plan) = Plan::decode(&encode(&plan)) {
            let again = Plan::decode(&rmp_serde::to_vec_named(&plan).unwrap()).unwrap();
            prop_assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&plan).unwrap());
        }
    }
}

#[test]
fn other_version_is_refused() {
    let bytes = encode(&json!({"version": 2, "ops": []}));
    assert_eq!(
        Plan::decode(&bytes).unwrap_err().to_string(),
        "plan: version 2, this engine speaks 1"
    );
}

#[test]
fn bytes_after_the_plan_are_refused() {
    let mut bytes = minimal(json!([]));
    bytes.extend([0xc0, 0xc0]);
    assert!(matches!(
        Plan::decode(&bytes),
        Err(Error::Trailing { count: 2 })
    ));
}

#[test]
fn plan_above_the_limit_is_refused() {
    let bytes = vec![0; usize::try_from(MAX_BYTES).unwrap() + 1];
    assert!(matches!(Plan::decode(&bytes), Err(Error::TooLarge { .. })));
}

/// Deep enough to end a stack of 2 MiB, were each level a call.
#[test]
fn deep_nesting_is_refused() {
    for opener in [0x91, 0x81] {
        let mut bytes = vec![0x82, 0xa3];
        bytes.extend(b"ops");
        bytes.extend(std::iter::repeat_n(opener, 1 << 20));
        assert!(matches!(Plan::decode(&bytes), Err(Error::Decode(_))));
    }
}

#[test]
fn claimed_length_takes_no_memory() {
    for head in [0xdd, 0xdb, 0xc6, 0xdf] {
        let mut bytes = vec![0x81, 0xa3];
        bytes.extend(b"ops");
        bytes.extend([head, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(Plan::decode(&bytes), Err(Error::Decode(_))));
    }
}

#[test]
fn operation_of_another_name_or_without_one_is_refused() {
    for op in [
        json!({"op": "format_disk"}),
        json!({"op": 7}),
        json!({"path": "/"}),
        json!("setsid"),
        json!(null),
    ] {
        assert!(Plan::decode(&minimal(json!([op]))).is_err(), "{op}");
    }
}

#[test]
fn number_out_of_its_type_is_refused() {
    for op in [
        json!({"op": "credentials", "uid": -1, "gid": 0}),
        json!({"op": "credentials", "uid": 1_u64 << 32, "gid": 0}),
        json!({"op": "pty", "columns": 65_536, "rows": 0}),
        json!({"op": "rlimit", "type": "RLIMIT_NOFILE", "soft": -1, "hard": 0}),
        json!({"op": "parent_death_signal", "signal": 9.5}),
        json!({"op": "dumpable", "value": 1}),
    ] {
        assert!(Plan::decode(&minimal(json!([op]))).is_err(), "{op}");
    }
}

#[test]
fn descriptors_are_those_of_every_part() {
    let plan = json!({
        "version": 1, "listen": 9, "keep_fds": [3], "join": [{"kind": "pid", "fd": 4}], "cgroup": {"tasks": [5, 6], "into": 7},
        "ops": [{"op": "mount", "destination": "/", "source_fd": 8, "idmap": {"fd": 10}}]
    });
    let mut named = Plan::decode(&encode(&plan)).unwrap().descriptors();
    named.sort_unstable();
    assert_eq!(named, [3, 4, 5, 6, 7, 8, 9, 10]);
}
