//! `REDIS_ADDRESS` as a table.

use std::fmt::Write;

use super::*;

/// The address in a line: topology, TLS, user, password, database.
fn told(text: &str) -> Option<String> {
    let address = parse_address(text)?;
    let server = address.server?;
    let list = |nodes: &[RedisNode]| {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| format!("{} {}", node.host, node.port))
            .collect();
        nodes.join(", ")
    };
    let mut told = match &server.topology {
        RedisTopology::Standalone(node) => list(std::slice::from_ref(node)),
        RedisTopology::Cluster(nodes) => format!("cluster {}", list(nodes)),
        RedisTopology::Sentinel { sentinels, master } => {
            format!("{master} of {}", list(sentinels))
        }
    };
    if server.tls {
        told += " tls";
    }
    if let Some(username) = address.username {
        _ = write!(told, " user={username}");
    }
    if let Some(password) = address.password {
        _ = write!(told, " password={}", password.expose());
    }
    if let Some(database) = address.database {
        _ = write!(told, " db={database}");
    }
    Some(told)
}

#[test]
fn addresses_are_told_apart() {
    for (text, expected) in [
        ("localhost:6379", Some("localhost 6379")),
        ("localhost", Some("localhost 6379")),
        ("[::1]:7000", Some("::1 7000")),
        ("a:1,b:2, c", Some("cluster a 1, b 2, c 6379")),
        ("redis://h:1/3", Some("h 1 db=3")),
        ("redis://h:1/", Some("h 1")),
        ("rediss://u:p%40s@h", Some("h 6379 tls user=u password=p@s")),
        ("redis://:p@h", Some("h 6379 password=p")),
        (
            "rediss://u:p@a:1,rediss://b:2",
            Some("cluster a 1, b 2 tls user=u password=p"),
        ),
        (
            "redis+sentinel://:p@a:1,b/main/2",
            Some("main of a 1, b 26379 password=p db=2"),
        ),
        ("rediss+sentinel://a/main", Some("main of a 26379 tls")),
        ("redis+sentinel://a", None),
        ("redis+sentinel://a/", None),
        ("http://h", None),
        ("h:port", None),
        ("h:0", None),
        ("redis://h/one", None),
        ("redis://h/0?x=1", None),
        ("a:1,", None),
        ("redis://a,rediss://b", None),
    ] {
        assert_eq!(told(text).as_deref(), expected, "{text}");
    }
}
