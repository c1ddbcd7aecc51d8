//! Lists as SaaS gives them become what is held and served.

use super::*;

fn raw(texts: &[&str]) -> Vec<Box<RawValue>> {
    texts
        .iter()
        .map(|t| RawValue::from_string((*t).to_owned()).unwrap())
        .collect()
}

fn refs(raw: &[Box<RawValue>]) -> Vec<&RawValue> {
    raw.iter().map(|value| &**value).collect()
}

const FLAG: &str = r#"{"feature":"f","kind":"int","state":"on","odd":1.50e1,"variations":[{"identifier":"a","value":"1"}],"offVariation":"a","defaultServe":{"variation":"a"}"#;

#[test]
fn a_missing_target_map_becomes_an_empty_list_and_all_else_stays() {
    let env = EnvironmentId::from("e");
    for (tail, expected) in [
        ("}", r#","variationToTargetMap":[]}"#),
        (
            r#","variationToTargetMap":null,"z":1}"#,
            r#","variationToTargetMap":[],"z":1}"#,
        ),
        (
            r#","variationToTargetMap":[],"z":1}"#,
            r#","variationToTargetMap":[],"z":1}"#,
        ),
    ] {
        let raw = raw(&[&format!("{FLAG}{tail}")]);
        let set = flags(&env, &refs(&raw), None).unwrap();
        let body = String::from_utf8(set.list().body().bytes().to_vec()).unwrap();
        assert_eq!(body, format!("[{FLAG}{expected}]"));
    }
}

#[test]
fn rules_are_made_of_the_first_clauses_of_serving_rules() {
    let env = EnvironmentId::from("e");
    let clause = |n| format!(r#"{{"attribute":"a{n}","op":"equal","values":["x"]}}"#);
    let group = format!(
        r#"{{"identifier":"g","name":"G","servingRules":[{{"ruleId":"1","priority":1,"clauses":[{},{}]}},{{"ruleId":"2","priority":2,"clauses":[]}}]}}"#,
        clause(1),
        clause(2)
    );
    let raw = raw(&[&group]);
    let set = groups(&env, &refs(&raw), None, false).unwrap();
    let served = set.served(false).body().bytes().clone();
    let expected = format!(
        r#"[{{"identifier":"g","name":"G","rules":[{}]}}]"#,
        clause(1)
    );
    assert_eq!(std::str::from_utf8(&served).unwrap(), expected);
    let v2 = String::from_utf8(set.served(true).body().bytes().to_vec()).unwrap();
    assert!(
        v2.contains("servingRules") && !v2.contains("\"rules\":"),
        "{v2}"
    );
}

#[test]
fn a_group_that_has_only_rules_keeps_them_where_serving_rules_are_asked_for() {
    let env = EnvironmentId::from("e");
    let rules = r#""rules":[{"attribute":"plan","op":"equal","values":["gold"]}]"#;
    for serving in ["", r#","servingRules":[]"#, r#","servingRules":null"#] {
        let raw = raw(&[&format!(r#"{{"identifier":"g",{rules}{serving}}}"#)]);
        let set = groups(&env, &refs(&raw), None, true).unwrap();
        let served = String::from_utf8(set.served(true).body().bytes().to_vec()).unwrap();
        assert_eq!(served, format!(r#"[{{"identifier":"g",{rules}}}]"#));
    }
}

#[test]
fn a_malformed_item_names_environment_item_and_field() {
    let env = EnvironmentId::from("e1");
    let raw = raw(&[r#"{"feature":"f","variations":7}"#]);
    let error = flags(&env, &refs(&raw), None).err().unwrap().to_string();
    assert!(
        error.contains("e1") && error.contains("\"f\"") && error.contains("variations"),
        "{error}"
    );
}

#[test]
fn nothing_is_compiled_until_somebody_evaluates_and_then_nobody_waits_again() {
    let env = EnvironmentId::from("e");
    let text = format!("{FLAG}}}");
    let environment = |flags: Arc<FlagSet>, evaluated| {
        let groups = Arc::default();
        Environment::new(
            env.clone(),
            1,
            Arc::default(),
            flags,
            groups,
            [].into(),
            evaluated,
        )
    };
    let first = raw(&[&text]);
    let held = environment(flags(&env, &refs(&first), None).unwrap(), false);
    assert!(!held.is_evaluated());
    let target = ff_evaluation::Target::from_identifier("t");
    let served = held.evaluation().evaluate("f", &target).unwrap().unwrap();
    assert_eq!(&*served.value, "1");
    // A change in an environment that is evaluated comes compiled, and takes over what it can.
    let changed = [text.replace("\"f\"", "\"g\""), text];
    let second = raw(&changed.each_ref().map(String::as_str));
    let set = flags(&env, &refs(&second), Some(&held)).unwrap();
    let compiled = set.compiled_so_far();
    assert!(compiled.iter().all(Option::is_some));
    let kept = held.flags().compiled_so_far();
    assert!(Arc::ptr_eq(
        compiled[1].as_ref().unwrap(),
        kept[0].as_ref().unwrap()
    ));
    assert!(environment(set, held.is_evaluated()).is_evaluated());
}

#[test]
fn a_list_that_did_not_change_is_the_one_that_is_held() {
    let env = EnvironmentId::from("e");
    let held = raw(&[
        &format!("{FLAG}}}"),
        &format!("{}}}", FLAG.replace("\"f\"", "\"g\"")),
    ]);
    let set = flags(&env, &refs(&held), None).unwrap();
    let environment = Environment::new(
        env.clone(),
        1,
        Arc::default(),
        set.clone(),
        Arc::default(),
        [].into(),
        false,
    );
    let again = |list: &[&RawValue]| flags(&env, list, Some(&environment)).unwrap();
    let list = refs(&held);
    assert!(Arc::ptr_eq(&again(&list), &set));
    let (swapped, fewer) = ([list[1], list[0]], &list[..1]);
    for other in [&swapped[..], fewer, &[]] {
        assert!(!Arc::ptr_eq(&again(other), &set));
    }
    let groups = groups(&env, &[], Some(&environment), false).unwrap();
    assert!(Arc::ptr_eq(&groups, environment.groups()));
}
