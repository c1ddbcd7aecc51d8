//! Why a target gets what it gets: one question and its answer, for `ff-relay explain`, over a
//! directory or by a running relay, and for the admin endpoint `GET /explain`.

use std::{path::Path, time::Duration};

use ff_evaluation::{Target, explain::Explanation};
use serde::Serialize;
use serde_json::value::RawValue;
use url::Url;

use crate::{
    source::offline::{fault::lines, load},
    state::{Change, Environment, Relay, writer},
};

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The environment.
    pub environment: String,
    /// The flag.
    pub flag: String,
    /// The target's identifier.
    pub target: String,
    /// The target's name, which may be empty; the identifier where it is not given.
    pub name: Option<String>,
    /// The target's attributes, a JSON object; what the relay remembers where there are none.
    pub attributes: Option<String>,
}

/// Why there is no answer, fit for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The question is malformed.
    #[error("{0}")]
    Malformed(String),
    /// There is no such thing.
    #[error("{0}")]
    Unknown(String),
}

impl Question {
    /// Reads the parameters of `GET /explain`: `environment`, `flag`, `target`, and perhaps `name`
    /// and `attributes`. Whether the answer is to be text, and not JSON: `format=text`.
    ///
    /// # Errors
    /// One is missing.
    pub fn from_pairs<'p>(
        pairs: impl Iterator<Item = (&'p str, &'p str)>,
    ) -> Result<(Self, bool), NoAnswer> {
        let mut question = Self::default();
        let mut text = false;
        for (name, value) in pairs {
            let given = || Some(value.to_owned()).filter(|value| !value.is_empty());
            match name {
                "environment" => value.clone_into(&mut question.environment),
                "flag" => value.clone_into(&mut question.flag),
                "target" => value.clone_into(&mut question.target),
                "name" => question.name = Some(value.to_owned()),
                "attributes" => question.attributes = given(),
                "format" => text = value == "text",
                _ => {}
            }
        }
        for (name, value) in [
            ("environment", &question.environment),
            ("flag", &question.flag),
        ] {
            if value.is_empty() {
                return Err(NoAnswer::Malformed(format!(
                    "{name} is missing; /explain takes environment, flag, target, name and attributes"
                )));
            }
        }
        Ok((question, text))
    }

    /// As a query.
    fn to_query(&self, text: bool) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("environment", &self.environment)
            .append_pair("flag", &self.flag)
            .append_pair("target", &self.target);
        for (name, value) in [("name", &self.name), ("attributes", &self.attributes)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if text {
            query.append_pair("format", "text");
        }
        query.finish()
    }

    /// The target, as one that comes with auth.
    ///
    /// # Errors
    /// The attributes are no JSON object.
    pub fn target(&self) -> Result<Target, NoAnswer> {
        let malformed = |reason: String| {
            NoAnswer::Malformed(format!(
                "attributes: {reason}; it takes a JSON object, such as {{\"plan\":\"gold\"}}"
            ))
        };
        let attributes = self.attributes.as_deref().unwrap_or("{}");
        // One value and nothing behind it, so that it stays where it is put.
        let attributes: &RawValue =
            serde_json::from_str(attributes).map_err(|error| malformed(error.to_string()))?;
        let text = |text: &str| serde_json::Value::from(text);
        let name = self.name.as_deref().unwrap_or_default();
        let json = format!(
            r#"{{"identifier":{},"name":{},"attributes":{}}}"#,
            text(&self.target),
            text(name),
            attributes.get()
        );
        let target =
            Target::parse(json.as_bytes()).map_err(|error| malformed(error.to_string()))?;
        // As one that comes with auth, where no name is given; an empty one is one, as of the
        // `Harness-Target` header.
        Ok(match self.name {
            Some(_) => target,
            None => target.with_name_default(),
        })
    }

    /// The target that was asked for as it is remembered, by the name that was asked for if any was.
    pub fn remembered(&self, asked: Target, known: &Target) -> Target {
        let mut target = known.clone();
        if self.name.is_some() {
            target.name = asked.name;
        }
        target
    }

    /// The answer over an environment.
    ///
    /// # Errors
    /// There is no such flag.
    pub fn answer(
        &self,
        environment: &Environment,
        target: &Target,
        and_rules: bool,
    ) -> Result<Explanation, NoAnswer> {
        let explanation = environment.explain(&self.flag, target, and_rules);
        explanation.ok_or_else(|| {
            let flags = environment.flags().list();
            let some: Vec<&str> = flags.items().take(5).map(|flag| flag.id).collect();
            NoAnswer::Unknown(format!(
                "environment {} has no flag `{}`; it has {} flags, such as {}",
                self.environment,
                self.flag,
                flags.len(),
                some.join(", ")
            ))
        })
    }

    /// That there is no such environment among `known`.
    pub fn no_environment<'k>(&self, known: impl Iterator<Item = &'k str>) -> NoAnswer {
        let mut some: Vec<&str> = known.collect();
        some.sort_unstable();
        let count = some.len();
        some.truncate(5);
        NoAnswer::Unknown(format!(
            "there is no environment {}; there are {count}, such as {}",
            self.environment,
            some.join(", ")
        ))
    }
}

/// Where the attributes come from that an explanation goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Attributes {
    /// Of the question.
    Given,
    /// This relay remembers them of the target's last authentication here, or was told by a file.
    Relay,
    /// Another relay left them in Redis.
    Redis,
    /// The directory lists them.
    File,
    /// Nobody knows any.
    None,
}

impl Attributes {
    fn about(self) -> Option<&'static str> {
        match self {
            Self::Given => None,
            Self::Relay => Some(
                "attributes: those that this relay remembers of the target, of its last \
                 authentication here (or of targets.json); the token of an SDK that authenticated at \
                 another relay carries its own, which may be newer. --attributes asks with others",
            ),
            Self::Redis => Some(
                "attributes: those that another relay left in Redis when the target last authenticated \
                 there; the token of an SDK carries its own, which may be newer. --attributes asks with \
                 others",
            ),
            Self::File => Some("attributes: those that targets.json lists of the target"),
            Self::None => Some(
                "attributes: none are known of the target here; the token of its SDK may carry some. \
                 --attributes asks with them",
            ),
        }
    }
}

/// An explanation as it is written: for people, or as JSON.
pub fn render(explanation: &Explanation, attributes: Attributes, text: bool) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Whole<'e> {
        #[serde(flatten)]
        explanation: &'e Explanation,
        attributes_from: Attributes,
    }
    if !text {
        let whole = Whole {
            explanation,
            attributes_from: attributes,
        };
        return serde_json::to_string(&whole).unwrap_or_default();
    }
    match attributes.about() {
        Some(about) => format!("{explanation}\n{about}"),
        None => explanation.to_string(),
    }
}

/// Answers over a directory of offline mode.
///
/// # Errors
/// In words for the user.
pub async fn from_directory(
    question: &Question,
    directory: &Path,
    and_rules: bool,
    text: bool,
) -> Result<String, String> {
    let folders = load::folders(directory)
        .map_err(|error| format!("cannot read CONFIG_DIR {}: {error}", directory.display()))?;
    let folder = folders
        .iter()
        .find(|folder| folder.id.as_str() == question.environment);
    let Some(folder) = folder.cloned() else {
        let known = folders.iter().map(|folder| folder.id.as_str());
        return Err(question.no_environment(known).to_string());
    };
    let load = move || load::environment(&folder, None, and_rules);
    let loaded = tokio::task::spawn_blocking(load).await;
    let loaded = loaded.map_err(|error| error.to_string())?;
    let loaded = loaded.map_err(|faults| lines(&faults))?;
    let mut target = question.target().map_err(|error| error.to_string())?;
    let mut listed = loaded.targets.iter();
    let is_it = |(listed, _): &&(Target, usize)| listed.identifier == target.identifier;
    let mut attributes = Attributes::Given;
    if question.attributes.is_none() {
        attributes = Attributes::None;
        if let Some((known, _)) = listed.find(is_it) {
            target = question.remembered(target, known);
            attributes = Attributes::File;
        }
    }
    // Through the state, as a relay would: it alone makes snapshots.
    let relay = std::sync::Arc::new(Relay::default());
    let (updates, _unread) = tokio::sync::mpsc::channel(4);
    let (writer, _thread) =
        writer::spawn(relay.clone(), updates).map_err(|error| error.to_string())?;
    let change = Change::Environments(vec![loaded.prepared]);
    writer
        .apply(change)
        .await
        .map_err(|error| error.to_string())?;
    let environment = relay.environment(&question.environment);
    let environment = environment.ok_or("the environment could not be loaded")?;
    let explanation = question
        .answer(&environment, &target, and_rules)
        .map_err(|error| error.to_string())?;
    Ok(render(&explanation, attributes, text))
}

/// Asks a running relay's admin endpoint.
///
/// # Errors
/// In words for the user.
pub async fn from_relay(question: &Question, url: &Url, text: bool) -> Result<String, String> {
    // Before it is sent, so that a typing error is told without a relay.
    question.target().map_err(|error| error.to_string())?;
    let mut url = url.clone();
    url.set_query(Some(&question.to_query(text)));
    let shown = format!("{}{}", url.origin().ascii_serialization(), url.path());
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(20))
        .no_proxy()
        .build()
        .map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.map_err(|error| {
        format!(
            "{shown} does not answer: {}; is the relay running with ADMIN_PORT set? Point --url at it, or name a directory with --config-dir",
            error.without_url()
        )
    })?;
    let status = answer.status();
    let body = answer
        .text()
        .await
        .map_err(|error| error.without_url().to_string())?;
    if status.is_success() {
        return Ok(body);
    }
    let said: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    Err(match said["error"].as_str() {
        Some(error) => error.to_owned(),
        None => format!("{shown} answers {status}; is it the relay's ADMIN_PORT?"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_its_query() {
        let question = Question {
            environment: "e&f".into(),
            flag: "a flag".into(),
            target: "ä=1".into(),
            name: None,
            attributes: Some(r#"{"plan":"gold & more"}"#.into()),
        };
        for text in [true, false] {
            let query = question.to_query(text);
            let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
            let pairs = pairs.iter().map(|(name, value)| (&**name, &**value));
            assert_eq!(Question::from_pairs(pairs), Ok((question.clone(), text)));
        }
        let pairs = [("environment", "e"), ("target", "t")];
        let missing = Question::from_pairs(pairs.into_iter()).unwrap_err();
        assert!(missing.to_string().starts_with("flag is missing"));
    }

    #[test]
    fn an_empty_name_is_one_and_none_is_the_identifier() {
        let name = |query: &str| {
            let query = format!("environment=e&flag=f&target=t{query}");
            let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
            let pairs = pairs.iter().map(|(name, value)| (&**name, &**value));
            let (question, _) = Question::from_pairs(pairs).unwrap();
            assert!(
                question
                    .to_query(false)
                    .ends_with(&query[query.len() - 3..])
            );
            question.target().unwrap().name.to_string()
        };
        assert_eq!(name(""), "t");
        assert_eq!(name("&name="), "");
        assert_eq!(name("&name=n"), "n");
    }

    #[test]
    fn attributes_stay_where_they_are_put() {
        let target = |attributes: &str| {
            let question = Question {
                target: "t\"".into(),
                attributes: Some(attributes.into()),
                ..Question::default()
            };
            question.target().map_err(|error| error.to_string())
        };
        let read = target(r#"{"n":56.0}"#).unwrap();
        assert_eq!((&*read.identifier, &*read.name), ("t\"", "t\""));
        assert_eq!(read.attribute("n"), Some("56"));
        for bad in [
            "",
            "[]",
            "{},\"identifier\":\"x\"",
            "{} {}",
            "7",
            "plan=gold",
        ] {
            let error = target(bad).unwrap_err();
            assert!(error.starts_with("attributes: "), "{bad}: {error}");
        }
    }
}
