//! From the bodies of SaaS' answers to what the writer takes. Pure and heavy: callers run it off
//! the event loop. An answer that is empty, `null` or of another shape is malformed, so that
//! nothing never replaces something. Contract: upstream.md "Requests".

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::Error;
use crate::state::{
    Domain, Environment, EnvironmentId,
    prepare::{self, Prepared, RawEnvironment},
};

const CONFIG: &str = "/proxy/config";

/// Flags and groups that were deleted since an answer was asked for, or that SaaS forgets late.
pub(super) type Gone = HashSet<(Domain, String)>;

/// What was held when an answer was asked for.
pub(super) type Held = HashMap<EnvironmentId, Arc<Environment>>;

/// One page of the config.
pub(super) struct Page {
    pub(super) environments: Vec<Prepared>,
    /// Pages of the whole config.
    pub(super) pages: u32,
    /// Environments of the whole config; of this page only, where SaaS counts so.
    pub(super) items: Option<u64>,
}

/// A config has no more pages than this.
const MAX_PAGES: u32 = 10_000;

#[derive(Deserialize)]
struct RawPage<'a> {
    #[serde(borrow)]
    environments: Vec<&'a RawValue>,
    #[serde(rename = "pageCount")]
    page_count: u32,
    #[serde(default, rename = "itemCount")]
    item_count: Option<u64>,
}

/// Reads a page of the config.
pub(super) fn page(body: &[u8], held: &Held, and_rules: bool) -> Result<Page, Error> {
    let raw: RawPage<'_> = parse(CONFIG, body)?;
    if raw.page_count > MAX_PAGES {
        return Err(malformed(CONFIG, format!("pageCount: {}", raw.page_count)));
    }
    let gone = Gone::new();
    let environments = raw
        .environments
        .iter()
        .map(|raw| environment(raw, held, &gone, and_rules))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Page {
        environments,
        pages: raw.page_count,
        items: raw.item_count,
    })
}

/// Reads the config of one environment.
pub(super) fn one(
    body: &[u8],
    id: &EnvironmentId,
    held: Option<&Arc<Environment>>,
    gone: &Gone,
    and_rules: bool,
) -> Result<Prepared, Error> {
    #[derive(Deserialize)]
    struct Raw<'a> {
        #[serde(borrow)]
        environments: Vec<&'a RawValue>,
    }
    let held: Held = held
        .map(|held| (id.clone(), held.clone()))
        .into_iter()
        .collect();
    let raw: Raw<'_> = parse(CONFIG, body)?;
    raw.environments
        .iter()
        .map(|raw| environment(raw, &held, gone, and_rules))
        .find(|read| read.as_ref().map_or(true, |prepared| prepared.id == *id))
        .unwrap_or(Err(Error::NotListed))
}

fn environment(
    raw: &RawValue,
    held: &Held,
    gone: &Gone,
    and_rules: bool,
) -> Result<Prepared, Error> {
    let text = raw.get();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read: Result<RawEnvironment<'_>, _> = serde_path_to_error::deserialize(&mut deserializer);
    let mut read = read.map_err(|fault| {
        let name = name_of(text);
        malformed(
            CONFIG,
            format!("environment {name}: {}: {}", fault.path(), fault.inner()),
        )
    })?;
    if read.id.is_empty() {
        return Err(malformed(CONFIG, "environment without id".into()));
    }
    read.flags
        .iter_mut()
        .for_each(|flags| leave_out(flags, Domain::Flag, gone));
    let groups = read.groups.iter_mut();
    groups.for_each(|groups| leave_out(groups, Domain::TargetSegment, gone));
    prepare::environment(&read, held.get(&*read.id).map(|held| &**held), and_rules).map_err(
        |source| Error::Rejected {
            url: CONFIG,
            source,
        },
    )
}

/// The identifier of an environment that could not be read.
fn name_of(text: &str) -> String {
    let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let id = value.as_ref().and_then(|value| value.get("id")?.as_str());
    id.unwrap_or("without id").to_owned()
}

/// Reads the flags or groups of an environment, without those in `gone`: they were deleted since.
pub(super) fn items(
    body: &[u8],
    environment: &Environment,
    domain: Domain,
    gone: &Gone,
    and_rules: bool,
) -> Result<Prepared, Error> {
    let url = match domain {
        Domain::Flag => "/client/env/:env/feature-configs",
        Domain::TargetSegment => "/client/env/:env/target-segments",
    };
    let mut raw: Vec<&RawValue> = parse(url, body)?;
    leave_out(&mut raw, domain, gone);
    let rejected = |source| Error::Rejected { url, source };
    let (held, id) = (Some(environment), environment.id());
    let mut prepared = Prepared {
        id: id.clone(),
        keys: None,
        flags: None,
        groups: None,
        basis: Some(environment.revision()),
    };
    match domain {
        Domain::Flag => {
            prepared.flags = Some(prepare::flags(id, &raw, held).map_err(rejected)?);
        }
        Domain::TargetSegment => {
            let groups = prepare::groups(id, &raw, held, and_rules);
            prepared.groups = Some(groups.map_err(rejected)?);
        }
    }
    Ok(prepared)
}

fn leave_out(items: &mut Vec<&RawValue>, domain: Domain, gone: &Gone) {
    if gone.iter().any(|(of, _)| *of == domain) {
        items.retain(|item| {
            let identifier = identifier_of(item, domain);
            !identifier.is_some_and(|identifier| gone.contains(&(domain, identifier)))
        });
    }
}

fn identifier_of(item: &RawValue, domain: Domain) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        feature: Option<String>,
        identifier: Option<String>,
    }
    let head: Head = serde_json::from_str(item.get()).ok()?;
    match domain {
        Domain::Flag => head.feature,
        Domain::TargetSegment => head.identifier,
    }
}

fn parse<'a, T: Deserialize<'a>>(url: &'static str, body: &'a [u8]) -> Result<T, Error> {
    let text = std::str::from_utf8(body).map_err(|_| malformed(url, "not UTF-8".into()))?;
    if text.trim().is_empty() {
        return Err(malformed(url, "empty".into()));
    }
    serde_json::from_str(text).map_err(|fault| malformed(url, fault.to_string()))
}

fn malformed(url: &'static str, reason: String) -> Error {
    Error::Malformed { url, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn read(text: &str) -> Result<Page, Error> {
        page(text.as_bytes(), &Held::new(), false)
    }

    #[test]
    fn a_page_needs_its_environments_and_its_count() {
        for bad in [
            "",
            " ",
            "null",
            "{}",
            "[]",
            "<html>",
            r#"{"environments":null,"pageCount":1}"#,
            r#"{"environments":{},"pageCount":1}"#,
            r#"{"environments":[]}"#,
            r#"{"environments":[],"pageCount":99999}"#,
            r#"{"environments":[{"id":""}],"pageCount":1}"#,
            r#"{"environments":[],"pageCount":1"#,
        ] {
            assert!(matches!(read(bad), Err(Error::Malformed { .. })), "{bad}");
        }
        let page = read(r#"{"environments":[{"id":"e"}],"pageCount":3,"itemCount":21}"#).unwrap();
        assert_eq!((page.pages, page.items), (3, Some(21)));
        assert!(page.environments[0].flags.is_none());
    }

    #[test]
    fn a_fault_names_environment_and_field() {
        let cases = [
            (r#"{"id":"e1","apiKeys":7}"#, "apiKeys"),
            (r#"{"id":"e1","featureConfigs":{}}"#, "featureConfigs"),
            (
                r#"{"id":"e1","featureConfigs":[{"feature":"f","variations":7}]}"#,
                "variations",
            ),
            (r#"{"id":"e1","segments":[{"identifier":7}]}"#, "segment"),
        ];
        for (environment, field) in cases {
            let text = format!(r#"{{"environments":[{environment}],"pageCount":1}}"#);
            let fault = read(&text).err().unwrap().to_string();
            assert!(fault.contains("e1"), "{fault}");
            let named = fault.contains(field) || field == "segment" && fault.contains("group");
            assert!(named, "{fault}");
        }
    }

    #[test]
    fn one_environment_must_be_listed() {
        let id = EnvironmentId::from("e");
        let text = format!(r#"{{"environments":[{{"id":"e","apiKeys":["{HASH}"]}}]}}"#);
        assert_eq!(
            one(text.as_bytes(), &id, None, &Gone::new(), false)
                .unwrap()
                .keys
                .unwrap()
                .len(),
            1
        );
        let other = br#"{"environments":[{"id":"f"}]}"#;
        assert!(matches!(
            one(other, &id, None, &Gone::new(), false),
            Err(Error::NotListed)
        ));
    }

    #[test]
    fn an_answer_without_a_list_is_malformed_and_deleted_items_are_left_out() {
        let gone = Gone::from([(Domain::Flag, "b".to_owned())]);
        let environment = test_environment();
        let read = |body: &str| items(body.as_bytes(), &environment, Domain::Flag, &gone, false);
        for bad in ["", "null", "{}", "7", "[", "[{}]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read("[]").unwrap().flags.unwrap().list().is_empty());
        let flag = |id: &str| {
            format!(
                r#"{{"feature":"{id}","kind":"int","state":"on","variations":[{{"identifier":"a","value":"1"}}],"offVariation":"a","defaultServe":{{"variation":"a"}}}}"#
            )
        };
        let flags = read(&format!("[{},{}]", flag("a"), flag("b")))
            .unwrap()
            .flags
            .unwrap();
        let ids: Vec<_> = flags.list().items().iter().map(|item| &*item.id).collect();
        assert_eq!(ids, ["a"]);
    }

    fn test_environment() -> Arc<Environment> {
        let relay = Arc::new(crate::state::Relay::default());
        let (updates, _kept) = tokio::sync::mpsc::channel(8);
        let (writer, _thread) = crate::state::writer::spawn(relay.clone(), updates).unwrap();
        let prepared = read(r#"{"environments":[{"id":"e"}],"pageCount":1}"#)
            .unwrap()
            .environments;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime
            .block_on(writer.apply(crate::state::Change::Environments(prepared)))
            .unwrap();
        relay.environment("e").unwrap()
    }
}
