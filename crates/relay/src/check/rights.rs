//! Whether the user in Redis may do all that its role does there: each command is asked for on a key
//! of the kind that it is for, in a form that finds nothing to do. Redis looks at rights first.

use redis::{Cmd, Value, cmd};

use super::{Failure, redis::TRIAL};
use crate::{
    redis::{Link, RedisFault, layout},
    state::{Domain, EnvironmentId, KeyHash},
};

/// What to call a command, and the command.
type Tried = (String, Cmd);

fn command(words: &[&str]) -> Tried {
    let mut asked = cmd(words[0]);
    asked.arg(&words[1..]);
    (words[0].to_owned(), asked)
}

/// A write to a stream that adds nothing, whatever the key holds: no entry may have this number.
fn write(key: &str) -> Tried {
    let (name, asked) = command(&["XADD", key, "0-0", layout::FIELD, ""]);
    // The beginning of a key, which rights go by.
    let begins = key.split(TRIAL).next().unwrap_or_default();
    (format!("{name} to {begins}…"), asked)
}

fn commands(primary: bool, one_server: bool) -> Vec<Tried> {
    // Nobody has keys or groups of this name.
    let id = &*format!("{TRIAL}{:016x}", rand::random::<u64>());
    let environment: &EnvironmentId = &id.into();
    let (target, metrics) = (layout::target(environment, "t"), layout::METRICS);
    let mut all = vec![
        write(&target),
        write(metrics),
        command(&["SET", &target, "", "XX"]),
        command(&["UNLINK", &target]),
        command(&["GETRANGE", layout::HEALTH, "0", "0"]),
        command(&["STRLEN", layout::HEALTH]),
        command(&["XREVRANGE", layout::CONTROL, "+", "-", "COUNT", "1"]),
        command(&["XRANGE", layout::EVENTS, "0", "0", "COUNT", "1"]),
        command(&["XINFO", "STREAM", layout::EVENTS]),
        command(&["XREAD", "COUNT", "1", "STREAMS", layout::EVENTS, "$"]),
    ];
    if one_server {
        all.push(command(&["SCAN", "0", "COUNT", "1"]));
    }
    if !primary {
        return all;
    }
    all.extend([
        write(&layout::list(environment, Domain::Flag)),
        write(&layout::auth_key(&KeyHash::of_key(id))),
        write(&layout::inventory(id)),
        write(layout::EVENTS),
        write(layout::CONTROL),
        write(layout::HEALTH),
        command(&["EXISTS", layout::EVENTS]),
        command(&["TYPE", layout::EVENTS]),
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
    let all = commands(primary, one_server);
    let count = all.len();
    let mut refused = Vec::new();
    for (name, command) in all {
        match link.run::<Value>(&command).await {
            Err(RedisFault::Refused(words)) if is_forbidden(&words) => refused.push(name),
            // What is no matter of rights: there is no such group, key, entry.
            Ok(_) | Err(RedisFault::Refused(_)) => {}
            Err(fault) => {
                let (detail, advice) = (fault.to_string(), "look at Redis: it answered before");
                let advice = advice.into();
                return Err(Failure { detail, advice });
            }
        }
    }
    if refused.is_empty() {
        let detail = format!("the user may do what this role does, {count} commands tried");
        return Ok(((), detail));
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
