//! Files as people break them.

use super::*;
use crate::source::offline::fault::lines;

const FLAG: &str = r#"{
  "feature": "f", "kind": "boolean", "state": "on", "offVariation": "a",
  "variations": [{"identifier": "a", "value": "1"}],
  "defaultServe": {"variation": "a"}
}"#;

fn load(files: &[(&str, &str)]) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env-e");
    fs::create_dir(&path).unwrap();
    for (name, text) in files {
        fs::write(path.join(name), text).unwrap();
    }
    let folders = folders(directory.path()).unwrap();
    environment(&folders[0], None, false)
        .map_err(|faults| lines(&faults).replace(&format!("{}/", path.display()), ""))
}

#[test]
fn what_is_there_is_loaded_and_what_is_not_is_empty() {
    let hash = KeyHash::of_key("key");
    let keys = format!("\u{feff}[\"{hash}\", \"auth-key-{hash}\", \"not a hash\"]");
    let targets = r#"[{"identifier":"t","account":"a","attributes":{"plan":"gold"}}, {}]"#;
    let loaded = load(&[
        (FLAGS, &format!("[{FLAG}]")),
        (KEYS, &keys),
        (TARGETS, targets),
        (GROUPS, "null"),
        ("README.md", "["),
    ]);
    let loaded = loaded.unwrap();
    assert_eq!(loaded.prepared.keys.unwrap(), [hash, hash]);
    assert!(loaded.prepared.flags.unwrap().list().get("f").is_some());
    assert!(loaded.prepared.groups.unwrap().list().is_empty());
    let [(target, _)] = &loaded.targets[..] else {
        panic!("{:?}", loaded.targets)
    };
    assert_eq!(target.attribute("plan"), Some("gold"));
    let empty = load(&[]).unwrap();
    assert!(empty.prepared.flags.unwrap().list().is_empty());
    assert_eq!(empty.prepared.keys, Some(Vec::new()));
}

#[test]
fn faults_name_file_line_column_and_field() {
    let rules = FLAG.replace(
        "\"defaultServe\"",
        "\"rules\": [{},\n{\"priority\": \"high\"}],\n\"defaultServe\"",
    );
    let cases = [
        (
            FLAGS,
            format!("[\n{FLAG},\n{rules}\n]"),
            "feature_config.json, line 11, column 19, field [1].rules[1].priority: invalid type",
        ),
        (
            FLAGS,
            format!("[\n{FLAG}\n{FLAG}\n]"),
            "feature_config.json, line 7, column 1: expected `,` or `]`",
        ),
        (
            FLAGS,
            "[{\"feature\": \"f\",}]".into(),
            "feature_config.json, line 1, column 18, field [0]: trailing comma",
        ),
        (
            FLAGS,
            "[{}]".into(),
            "feature_config.json, line 1, column 2, field [0].feature: it is missing",
        ),
        (
            GROUPS,
            "[{\"identifier\": \"g\", \"included\": 7}]".into(),
            "segments.json, line 1, column 34, field [0].included: invalid type",
        ),
        (
            GROUPS,
            "[7]".into(),
            "segments.json, line 1, column 2, field [0]: it is not an object",
        ),
        (
            GROUPS,
            String::new(),
            "segments.json, line 1, column 1: EOF while parsing a value",
        ),
        (
            TARGETS,
            "{}".into(),
            "targets.json, line 1, column 1: it is not an array",
        ),
        (
            TARGETS,
            "[\n  {\"identifier\": 7}]".into(),
            "targets.json, line 2, column 3, field [0].identifier: `identifier` is of the wrong type",
        ),
        (
            FLAGS,
            "[] []".into(),
            "feature_config.json, line 1, column 4: trailing characters",
        ),
    ];
    let mut wrong = Vec::new();
    for (name, text, expected) in cases {
        let fault = load(&[(name, &text)]).err().unwrap();
        if !fault.starts_with(expected) {
            wrong.push(format!("{fault}\nis not\n{expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_at_fault_is_told_and_no_key_is() {
    let fault = load(&[(KEYS, "\"hunter2\""), (FLAGS, "["), (TARGETS, "[1]")]);
    let fault = fault.err().unwrap();
    assert_eq!(fault.lines().count(), 3, "{fault}");
    let more = load(&[(KEYS, "[{\"hunter2\": 1}]")]).err().unwrap();
    assert!(
        !fault.contains("hunter2") && !more.contains("hunter2"),
        "{fault}{more}"
    );
    assert!(more.starts_with("auth_config.json, line 1, column 2, field [0]: it is no text"));
}

#[test]
fn what_is_not_a_file_is_no_trap() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("env-e");
    fs::create_dir_all(path.join(FLAGS)).unwrap();
    std::os::unix::fs::symlink("nowhere", path.join(GROUPS)).unwrap();
    let folders = folders(directory.path()).unwrap();
    let faults = environment(&folders[0], None, false).err().unwrap();
    let text = lines(&faults);
    assert!(
        text.contains("it is not a file") && text.contains("leads nowhere"),
        "{text}"
    );
}
