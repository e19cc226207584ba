//! The vectors that the lowering gives (tests/unit/oci/test_vectors.py) decode into the typed plan, and nothing of them is lost.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::{fs, path::PathBuf};

use casemate_plan::Plan;
use serde_json::Value;

fn vectors() -> Vec<(String, Value)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/plan");
    let mut found: Vec<(String, Value)> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let vector: Value = serde_json::from_str(&text).unwrap();
            (path.display().to_string(), vector["plan"].clone())
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// `found` has all that `meant` has; what it has beyond is a default that the lowering may leave out.
fn assert_same(found: &Value, meant: &Value, place: &str) {
    match (found, meant) {
        (Value::Object(found), Value::Object(meant)) => {
            for (key, value) in meant {
                let Some(other) = found.get(key) else {
                    panic!("{place}.{key} is lost");
                };
                assert_same(other, value, &format!("{place}.{key}"));
            }
            for (key, value) in found.iter().filter(|(key, _)| !meant.contains_key(*key)) {
                assert!(is_default(value), "{place}.{key}: {value} out of nothing");
            }
        }
        (Value::Array(found), Value::Array(meant)) if found.len() == meant.len() => {
            for (index, (found, meant)) in found.iter().zip(meant).enumerate() {
                assert_same(found, meant, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(found, meant, "{place}"),
    }
}

fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_u64() == Some(0),
        Value::String(value) => value.is_empty() || value == "auto",
        Value::Array(value) => value.is_empty(),
        Value::Object(_) => false,
    }
}

#[test]
fn vectors_decode_and_encode_to_the_same() {
    for (name, meant) in vectors() {
        let plan = Plan::decode(&rmp_serde::to_vec_named(&meant).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_same(&serde_json::to_value(&plan).unwrap(), &meant, &name);
        let again = Plan::decode(&rmp_serde::to_vec_named(&plan).unwrap()).unwrap();
        assert_eq!(
            serde_json::to_value(&again).unwrap(),
            serde_json::to_value(&plan).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn there_are_vectors() {
    assert!(vectors().len() > 15);
}

/// A key that the engine does not know, at any place of a plan where it has fields of its own: refused, never left undone.
#[test]
fn unknown_key_is_refused_wherever_it_stands() {
    for (name, meant) in vectors() {
        let mut places = Vec::new();
        objects(&meant, String::new(), &mut places);
        for place in places {
            let mut changed = meant.clone();
            let object = changed.pointer_mut(&place).unwrap();
            object["surprise"] = Value::Null;
            let result = Plan::decode(&rmp_serde::to_vec_named(&changed).unwrap());
            assert!(result.is_err(), "{name}: {place} takes an unknown key");
        }
    }
}

fn objects(value: &Value, place: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                objects(value, format!("{place}/{key}"), found);
            }
            found.push(place);
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                objects(value, format!("{place}/{index}"), found);
            }
        }
        _ => {}
    }
}
