//! What to do about each thing that can be wrong. Pure: findings in, words out.

use super::redis::needed;
use crate::{
    redis::RedisFault,
    settings::{RedisSettings, RedisTopology},
    tls_fault::TlsFault,
};

/// Of TLS on the way to a server, whose authority `setting` names.
pub(super) fn tls(fault: TlsFault, setting: &str) -> String {
    match fault {
        TlsFault::UnknownIssuer => format!(
            "set {setting} to the PEM file of the authority that signed the certificate (the \
             server's own, or that of a proxy or firewall that opens TLS on the way); in an image \
             without certificates, mount them"
        ),
        TlsFault::OtherHost => "the certificate is another host's: write the address by a name that \
             it is for, or give the server one for this name; it may also be that something else \
             answers there, such as a proxy"
            .into(),
        TlsFault::Expired => "the server's certificate has ended: renew it there; if it has not, this \
             machine's clock is wrong"
            .into(),
        TlsFault::NotYetValid => "the server's certificate is not valid yet: this machine's clock is \
             behind, or the server's was ahead when it was made"
            .into(),
        TlsFault::Authority => format!(
            "the server shows an authority's certificate as its own, as `openssl req -x509` makes \
             them: trusted or not, a server may not. Make it one that is none (add `-addext \
             basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:<host>`) and set {setting} \
             to that file; or sign one for it with the authority"
        ),
        TlsFault::ClientCertificate => "the server wants a certificate of its clients, and the relay \
             has none to show: let it in there without one (in Redis: `tls-auth-clients no`, with a \
             password in its place)"
            .into(),
        TlsFault::Version => "the server knows no version or cipher of TLS that the relay does: let it \
             speak TLS 1.2 or 1.3"
            .into(),
        TlsFault::NoTls => "what answers there speaks no TLS: check the port, and whether the address \
             begins with the right scheme (http:// or https://, redis:// or rediss://)"
            .into(),
        TlsFault::Other => format!(
            "if a proxy or firewall opens TLS on the way, set {setting} to its authority's PEM file; \
             check this machine's clock"
        ),
    }
}

const NODES: &str = "name several nodes of the cluster in REDIS_ADDRESS, host:port,host:port (the same \
                     one twice will do), which says that it is one";
const CLUSTER: &str = "a part of the cluster's slots has no master: `redis-cli --cluster check \
                       host:port` tells which; bring its nodes back";
const SENTINEL: &str = "Sentinels go by redis+sentinel://host:port,host:port/<master name>; `redis-cli -p \
                        26379 sentinel masters` asks one for the names that it knows";
const MASTER: &str = "this is a copy: let REDIS_ADDRESS lead to a master; where masters change, \
                      redis+sentinel:// finds them";
const CLIENTS: &str = "as many clients are connected as Redis' maxclients allows (`redis-cli info \
                       clients`): raise it, or find who keeps connections";

/// Of Redis, where it answers nothing, or refuses to do `what`.
pub(super) fn redis(fault: &RedisFault, settings: &RedisSettings, what: &str) -> String {
    let server = settings.server.as_ref();
    let tls_wanted = server.is_some_and(|server| server.tls);
    let text = match fault {
        RedisFault::Tls(fault, _) => return tls(*fault, "REDIS_TLS_CA"),
        RedisFault::Login(_) => {
            "check REDIS_USERNAME and REDIS_PASSWORD (or those in REDIS_ADDRESS); a server without \
             users takes a password alone, one without a password none"
        }
        RedisFault::Silent(_) | RedisFault::TimedOut if tls_wanted => {
            "if it speaks no TLS at that port, write redis:// in place of rediss://; else let this \
             machine out to it (firewall, security group, NetworkPolicy), or look at its load"
        }
        RedisFault::Silent(_) | RedisFault::TimedOut => {
            "let this machine out to it (firewall, security group, NetworkPolicy), or look at its \
             load; if it speaks TLS at that port, write rediss://"
        }
        RedisFault::Closed(_) if tls_wanted => {
            "it ends the connection at once: it wants a certificate of its clients, which relays do \
             not have (`tls-auth-clients no` lets them in), or has as many of them as maxclients \
             allows (`redis-cli info clients`)"
        }
        RedisFault::Closed(_) => {
            "it ends the connection at once: it speaks TLS at that port (write rediss://), or has as \
             many clients as maxclients allows (`redis-cli info clients`)"
        }
        RedisFault::Unreachable(words) | RedisFault::Unable(words) | RedisFault::Refused(words) => {
            return of_words(words, settings, what);
        }
    };
    text.to_owned()
}

/// By the code that Redis answers with; what is only `ERR`, or the client's own, by its text.
fn of_words(words: &str, settings: &RedisSettings, what: &str) -> String {
    let server = settings.server.as_ref();
    let topology = server.map(|server| &server.topology);
    let one_server = matches!(topology, Some(RedisTopology::Standalone(_)));
    let text = match words.split(' ').next().unwrap_or_default() {
        "MOVED" | "ASK" => NODES,
        "CLUSTERDOWN" if one_server => return format!("{CLUSTER}. Besides, {NODES}"),
        "CLUSTERDOWN" => CLUSTER,
        "OOM" => {
            "Redis is at its maxmemory: raise it (docs/sizing.md says what relays need), or remove \
             what others keep there"
        }
        "NOREPLICAS" => {
            "Redis takes no writes without copies (min-replicas-to-write): bring its replicas back, \
             or lower that"
        }
        "MISCONF" => {
            "Redis takes no writes while it cannot save to its disk: its log says why; make room \
             there, or set stop-writes-on-bgsave-error to no"
        }
        "READONLY" => MASTER,
        "MASTERDOWN" | "NOMASTERLINK" => {
            "this is a copy that has lost its master: bring that back, or let REDIS_ADDRESS lead to it"
        }
        "LOADING" => "Redis is reading its data from disk: try again when it has",
        "WRONGTYPE" => {
            "somebody else keeps something else in this key: set REDIS_DB to a database of its own \
             for relays, or remove the key (`redis-cli unlink`); relays write theirs anew"
        }
        "NOPERM" => return needed(what),
        _ if words.contains("DB index") => {
            return format!(
                "there is no database {} (REDIS_DB, or the number in REDIS_ADDRESS): a server has 0 \
                 to 15, unless its setting `databases` says otherwise, a cluster 0 alone",
                settings.database
            );
        }
        _ if words.contains("SELECT is not allowed") => {
            "a cluster has database 0 alone: unset REDIS_DB, and write no number in REDIS_ADDRESS"
        }
        _ if words.contains("max number of clients") => CLIENTS,
        _ if words.contains("unknown command") => {
            return format!(
                "this is no Redis server, or one that hides commands. A Sentinel? {SENTINEL}. A proxy \
                 of Redis? Let the commands pass that docs/redis.md lists"
            );
        }
        _ if words.contains("cluster support disabled") => {
            "a list of addresses means a cluster, and this server is none: name one in REDIS_ADDRESS"
        }
        // A cluster's client hands on no more than the words of what became of each node.
        _ if words.contains("UnknownIssuer") => {
            return tls(TlsFault::UnknownIssuer, "REDIS_TLS_CA");
        }
        _ if words.contains("ClusterConnectionNotFound") => CLUSTER,
        _ if words.to_ascii_lowercase().contains("sentinel") => SENTINEL,
        _ if matches!(topology, Some(RedisTopology::Sentinel { .. })) => {
            "the Sentinels of REDIS_ADDRESS, or the master that they name, cannot be reached: let this \
             machine out to both, and look whether they run"
        }
        _ if words.contains("of another type") => {
            "something else than Redis listens there: check REDIS_ADDRESS and its port"
        }
        _ => {
            "check REDIS_ADDRESS, and that this machine may connect to it (firewall, security group, \
             NetworkPolicy); rediss:// is for one that speaks TLS, a list of addresses for a cluster"
        }
    };
    text.to_owned()
}
