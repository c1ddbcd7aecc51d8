//! Whether the user in Redis may do all that its role does there: each command is asked for on a key
//! of the kind that it is for, in a form that finds nothing to do. Redis looks at rights first.

use redis::{Cmd, Value, cmd};

use super::Failure;
use crate::{
    redis::{Link, RedisFault, layout},
    state::{Domain, EnvironmentId, KeyHash},
};

/// Names of keys that nobody has.
struct Nobodys {
    id: String,
    environment: EnvironmentId,
}

impl Nobodys {
    fn new() -> Self {
        let id = format!("{}{:016x}", super::redis::TRIAL, rand::random::<u64>());
        let environment = (&*id).into();
        Self { id, environment }
    }

    /// What the role writes to.
    fn written(&self, primary: bool) -> Vec<String> {
        let both = [
            layout::target(&self.environment, "t"),
            layout::METRICS.to_owned(),
        ];
        let primarys = [
            layout::list(&self.environment, Domain::Flag),
            layout::auth_key(&KeyHash::of_key(&self.id)),
            layout::inventory(&self.id),
            layout::EVENTS.to_owned(),
            layout::CONTROL.to_owned(),
            layout::HEALTH.to_owned(),
        ];
        let primarys = primarys.into_iter().filter(|_| primary);
        both.into_iter().chain(primarys).collect()
    }
}

fn command(words: &[&str]) -> (String, String, Cmd) {
    let mut asked = cmd(words[0]);
    asked.arg(&words[1..]);
    let key = words.get(1).copied().unwrap_or_default();
    (words[0].to_owned(), key.to_owned(), asked)
}

/// Commands with what is said of them, and the key.
fn commands(primary: bool, one_server: bool) -> Vec<(String, String, Cmd)> {
    let nobodys = Nobodys::new();
    let (id, metrics) = (&*nobodys.id, layout::METRICS);
    let mut all = Vec::new();
    for key in nobodys.written(primary) {
        // No entry may have this number: nothing is added, whatever the key holds.
        all.push(command(&["XADD", &key, "0-0", layout::FIELD, ""]));
    }
    let target = layout::target(&nobodys.environment, "t");
    all.extend([
        command(&["SET", &target, "", "XX"]),
        command(&["UNLINK", &target]),
        command(&["GETRANGE", layout::HEALTH, "0", "0"]),
        command(&["STRLEN", layout::HEALTH]),
        command(&["XREVRANGE", layout::CONTROL, "+", "-", "COUNT", "1"]),
        command(&["XRANGE", layout::EVENTS, "0", "0", "COUNT", "1"]),
        command(&["XINFO", "STREAM", layout::EVENTS]),
        command(&["XREAD", "COUNT", "1", "STREAMS", layout::EVENTS, "$"]),
    ]);
    if one_server {
        all.push(command(&["SCAN", "0", "COUNT", "1"]));
    }
    if !primary {
        return all;
    }
    all.extend([
        command(&["EXISTS", layout::EVENTS]),
        command(&["TYPE", layout::EVENTS]),
        // Of a group that nobody has.
        command(&["XGROUP", "SETID", metrics, id, "0"]),
        command(&["XREADGROUP", "GROUP", id, "c", "STREAMS", metrics, ">"]),
        command(&["XACK", metrics, id, "0-1"]),
        command(&["XPENDING", metrics, id]),
        command(&["XCLAIM", metrics, id, "c", "0", "0-1"]),
        command(&["XDEL", id, "0-1"]),
    ]);
    if one_server {
        all.push(command(&["TIME"]));
        // At the end, as nobody else uses the connection then: a client that has one refused inside
        // a pipeline loses its count.
        all.extend([command(&["MULTI"]), command(&["EXEC"])]);
    }
    all
}

/// Asks for all of them.
pub(super) async fn check(
    link: &Link,
    primary: bool,
    one_server: bool,
) -> Result<((), String), Failure> {
    let mut refused = Vec::new();
    let mut note = |name: String, answer: Result<(), RedisFault>| match answer {
        // What is no matter of rights: there is no such group, key, entry.
        Err(RedisFault::Refused(words)) if !is_forbidden(&words) => Ok(()),
        Err(RedisFault::Refused(_)) => {
            refused.push(name);
            Ok(())
        }
        other => other,
    };
    let broken = |fault: RedisFault| Failure {
        detail: fault.to_string(),
        advice: "look at Redis: it answered before".into(),
    };
    let all = commands(primary, one_server);
    let count = all.len();
    for (name, key, command) in all {
        let answer = link.run::<Value>(&command).await.map(|_| ());
        let what = match &*name {
            "XADD" => format!("{name} to {}…", shown(&key)),
            _ => name,
        };
        note(what, answer).map_err(broken)?;
    }
    if refused.is_empty() {
        return Ok((
            (),
            format!("the user may do what this role does, {count} commands tried"),
        ));
    }
    let role = if primary { "primary" } else { "replica" };
    Err(Failure {
        detail: format!("the user may not: {}", refused.join("; ")),
        advice: format!(
            "give it the rights of a {role} that docs/redis.md lists, on keys that begin as listed \
             there"
        ),
    })
}

/// `EXEC` is refused by what becomes of the transaction.
fn is_forbidden(words: &str) -> bool {
    words.starts_with("NOPERM") || words.starts_with("EXECABORT")
}

/// The beginning of a key, which rights go by.
fn shown(key: &str) -> &str {
    key.split(super::redis::TRIAL).next().unwrap_or_default()
}
