//! Files as people break them.

use super::*;
use crate::{source::offline::fault::lines, state::KeyHash};

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
    let doubt = lines(&empty.doubts.told);
    assert!(
        doubt.contains("auth_config.json: it is not there, so no SDK"),
        "{doubt}"
    );
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
            "segments.json, line 1, column 1: it is empty; a list of nothing is `[]`",
        ),
        (
            TARGETS,
            "{}".into(),
            "targets.json, line 1, column 1: it is not an array",
        ),
        (
            TARGETS,
            "[\n  {\"identifier\": 7}]".into(),
            "targets.json, line 2, column 18, field [0].identifier: `identifier` is of the wrong type",
        ),
        (
            TARGETS,
            "[{},\n{\n\"identifier\": \"t\",\n\"attributes\":\n 7}]".into(),
            "targets.json, line 5, column 2, field [1].attributes: `attributes` is of the wrong type",
        ),
        (
            TARGETS,
            "[{\n\"identifier\": \"t\", \"attributes\": {\n\"a\": [1,\n 1e999]}}]".into(),
            "targets.json, line 4, column 2, field [0].attributes.a[1]: a number is beyond a double",
        ),
        (
            GROUPS,
            "[{\"identifier\": \"g\",\n\"servingRules\": [{},\n null]}]".into(),
            "segments.json, line 3, column 5, field [0].servingRules[1]: invalid type: null, expected an object with clauses",
        ),
        (
            GROUPS,
            "[{\"identifier\": \"f\"},\n {\n \"identifier\": \"\"}]".into(),
            "segments.json, line 3, column 16, field [1].identifier: it is missing or empty",
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
    // Its files would be missing, and so its lists empty.
    std::os::unix::fs::symlink("nowhere", directory.path().join("env-far")).unwrap();
    std::os::unix::fs::symlink("env-loop", directory.path().join("env-loop")).unwrap();
    let folders = folders(directory.path()).unwrap();
    let faults = |at: usize| lines(&environment(&folders[at], None, false).err().unwrap());
    let text = faults(0);
    assert!(
        text.contains("it is not a file") && text.contains("leads nowhere"),
        "{text}"
    );
    let text = faults(1);
    assert!(
        text.ends_with("env-far: it cannot be read: the link leads nowhere"),
        "{text}"
    );
    let text = faults(2);
    assert!(
        text.contains("env-loop: it cannot be read: Too many levels"),
        "{text}"
    );
}

#[test]
fn what_is_hardly_meant_so_is_told_and_loaded() {
    let odd = r#"[
{"feature": "f", "state": "ON", "offVariation": "a",
 "variations": [{"identifier": "a"}, null],
 "defaultServe": {"variation": "\u0061"}},
{"feature": "g", "offVariation": "b", "variations": [{"identifier": "a"}],
 "defaultServe": {"distribution": {"variations": [{"variation": "a"}, {"variation": "c"}]}},
 "variationToTargetMap": [null, {"variation": "d"}],
 "rules": [{"clauses": [{"op": "segmentMatch"}, {"op": "is"}],
            "serve": {"variation": "e"}}]},
{"feature": "f", "state": "off", "defaultServe": null}]"#;
    let groups = r#"[{"identifier": "g", "rules": [{"op": "In"}],
 "servingRules": [{"clauses": [{"attribute": "a"}]}]}]"#;
    let loaded = load(&[
        (FLAGS, odd),
        (GROUPS, groups),
        (KEYS, "[\n\"hunter2\"]"),
        (
            TARGETS,
            "[{},\n{\"identifier\": \"t\"},\n{\"identifier\": \"t\"}]",
        ),
    ]);
    let loaded = loaded.unwrap();
    assert_eq!(loaded.prepared.flags.unwrap().list().len(), 3);
    let told = loaded.doubts.told.iter().map(|doubt| {
        let text = doubt.to_string();
        let (_, text) = text.rsplit_once("env-e/").unwrap();
        text.to_owned()
    });
    let told: Vec<String> = told.collect();
    let expected = [
        "auth_config.json, line 2, column 1, field [0]: ignored: it is not the SHA-256",
        "feature_config.json, line 10, column 13, field [2].feature: \"f\" is listed before, at line 2, field [0]; the last",
        "feature_config.json, line 2, column 27, field [0].state: \"ON\" is neither",
        "feature_config.json, line 5, column 1, field [1].state: \"\" is neither",
        "feature_config.json, line 5, column 34, field [1].offVariation: the flag has no variation \"b\"",
        "feature_config.json, line 6, column 85, field [1].defaultServe.distribution.variations[1].variation: the flag has no",
        "feature_config.json, line 7, column 47, field [1].variationToTargetMap[1].variation: the flag has no",
        "feature_config.json, line 9, column 36, field [1].rules[0].serve.variation: the flag has no variation \"e\"",
        "feature_config.json, line 8, column 56, field [1].rules[0].clauses[1].op: there is no operator \"is\"",
        "segments.json, line 1, column 39, field [0].rules[0].op: there is no operator \"In\"",
        "segments.json, line 1, column 2, field [0].servingRules[0].clauses[0].op: there is no operator \"\"",
        "targets.json, line 1, column 2, field [0].identifier: ignored",
        "targets.json, line 3, column 16, field [2].identifier: \"t\" is listed before, at line 2, field [1]",
    ];
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}\nis not\n{expected}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    assert!(!told[0].contains("hunter2"));
    let fine = load(&[(FLAGS, &format!("[{FLAG}]")), (KEYS, "[]")]).unwrap();
    assert!(fine.doubts.told.is_empty(), "{:?}", fine.doubts);
    let many = vec!["{}"; 1_000].join(",");
    let many = load(&[(TARGETS, &format!("[{many}]")), (KEYS, "[]")]).unwrap();
    assert_eq!((many.doubts.told.len(), many.doubts.more), (20, 980));
}

#[test]
fn copies_beside_an_environment_are_none() {
    let directory = tempfile::tempdir().unwrap();
    let good = ["env-8f2c0e5a-0b1c-4b7e-9d7e-111111111111", "env-Prod_1"];
    let bad = ["env-prod (copy)", "env-prod.bak", "env-prod~", "env-é"];
    for name in good.iter().chain(&bad).chain(&["env-", "other"]) {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    fs::write(directory.path().join("env-file"), "").unwrap();
    let (folders, others) = folders_and_others(directory.path()).unwrap();
    let names = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let found: Vec<_> = folders.iter().map(|folder| names(&folder.path)).collect();
    assert_eq!(found, good);
    let others: Vec<_> = others.iter().map(names).collect();
    assert_eq!(others, [&["env-"], &bad[..]].concat());
}
