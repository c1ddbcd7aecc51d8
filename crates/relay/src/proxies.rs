//! Which proxy a request goes through, by the standard variables. `NO_PROXY` is read as Go programs
//! read it, so that a deployment keeps its meaning: but loopback addresses, which are excepted only
//! where they are named. `ALL_PROXY`, which Go does not know, stands in for either.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use url::Url;

/// A proxy, and the variable that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The variable.
    pub variable: &'static str,
    /// Where it is; may hold a password.
    pub url: Url,
}

/// The variables, read.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// A variable that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} names no proxy: {reason}; it takes http://, https:// or socks5h://host:port")]
pub struct BadProxy {
    variable: &'static str,
    reason: String,
}

impl Proxies {
    /// Reads them.
    ///
    /// # Errors
    /// One names no proxy. Its value, which may hold a password, is not told.
    pub fn read(get: &dyn Fn(&str) -> Option<String>) -> Result<Self, BadProxy> {
        let set = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let first = |names: [&'static str; 4]| {
            let value = names.into_iter().find_map(|name| Some((name, set(name)?)));
            value.map(|(name, value)| proxy(name, &value)).transpose()
        };
        let exceptions = set("NO_PROXY").or_else(|| set("no_proxy"));
        let exceptions = exceptions.unwrap_or_default();
        let entries = exceptions.split(|c: char| c == ',' || c.is_whitespace());
        Ok(Self {
            http: first(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])?,
            https: first(["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?,
            exceptions: entries.filter_map(Exception::read).collect(),
        })
    }

    /// Reads those of this process.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of_process() -> Result<Self, BadProxy> {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// The proxy on the way to `url`.
    pub fn on_the_way_to(&self, url: &Url) -> Option<&Proxy> {
        let proxy = if url.scheme() == "https" {
            &self.https
        } else {
            &self.http
        };
        let proxy = proxy.as_ref()?;
        let host = bare(url.host_str()?).to_ascii_lowercase();
        let port = url.port_or_known_default();
        let excepted = self.exceptions.iter().any(|e| e.covers(&host, port));
        (!excepted).then_some(proxy)
    }

    /// Sends what a client asks through them.
    pub fn apply(self, client: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        let proxies = Arc::new(self);
        client.no_proxy().proxy(reqwest::Proxy::custom(move |url| {
            proxies.on_the_way_to(url).map(|proxy| proxy.url.clone())
        }))
    }
}

fn proxy(variable: &'static str, value: &str) -> Result<Proxy, BadProxy> {
    let bad = |reason: String| BadProxy { variable, reason };
    let value = value.trim();
    let url = if value.contains("://") {
        Url::parse(value)
    } else {
        Url::parse(&format!("http://{value}"))
    };
    let url = url.map_err(|error| bad(error.to_string()))?;
    match url.scheme() {
        "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h" => {}
        scheme => return Err(bad(format!("{scheme}:// is no kind of proxy"))),
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("there is no host".into()));
    }
    Ok(Proxy { variable, url })
}

/// A host as names are looked up: an IPv6 address has no brackets.
pub fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// An entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    hosts: Hosts,
    /// On this port alone.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    Network(IpNet),
    Address(IpAddr),
    /// Those whose names end so; it begins with a dot.
    Under(String),
    /// That one, and those under it.
    Domain(String),
}

impl Exception {
    fn read(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry.is_empty() {
            return None;
        }
        let of = |hosts| Some(Self { hosts, port: None });
        if entry == "*" {
            return of(Hosts::All);
        }
        if let Ok(network) = entry.parse() {
            return of(Hosts::Network(network));
        }
        if let Ok(address) = bare(&entry).parse() {
            return of(Hosts::Address(address));
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (&*entry, None),
        };
        let hosts = match bare(host).parse() {
            Ok(address) => Hosts::Address(address),
            Err(_) => match host.strip_prefix('*').unwrap_or(host) {
                "" => Hosts::All,
                under if under.starts_with('.') => Hosts::Under(under.to_owned()),
                _ => Hosts::Domain(host.to_owned()),
            },
        };
        Some(Self { hosts, port })
    }

    fn covers(&self, host: &str, port: Option<u16>) -> bool {
        if self.port.is_some() && self.port != port {
            return false;
        }
        let address = || host.parse::<IpAddr>().ok();
        match &self.hosts {
            Hosts::All => true,
            Hosts::Network(network) => address().is_some_and(|a| network.contains(&a)),
            Hosts::Address(excepted) => address().as_ref() == Some(excepted),
            Hosts::Under(end) => host.ends_with(end.as_str()),
            Hosts::Domain(domain) => host
                .strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Proxies, BadProxy> {
        Proxies::read(&|name| {
            let mut found = variables.iter();
            found
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    fn way(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let proxies = read(variables).unwrap();
        let proxy = proxies.on_the_way_to(&Url::parse(url).unwrap())?;
        Some(format!(
            "{}={}",
            proxy.variable,
            proxy.url.host_str().unwrap()
        ))
    }

    const HTTPS: &str = "https://config.ff.harness.io/api/1.0";

    #[test]
    fn each_scheme_has_its_variable() {
        assert_eq!(way(HTTPS, &[]), None);
        for (variables, expected) in [
            (
                [("HTTPS_PROXY", "http://user:secret@p:3128")],
                Some("HTTPS_PROXY=p"),
            ),
            ([("https_proxy", "p:3128")], Some("https_proxy=p")),
            ([("HTTP_PROXY", "p:3128")], None),
            ([("ALL_PROXY", "socks5h://p")], Some("ALL_PROXY=p")),
        ] {
            assert_eq!(way(HTTPS, &variables).as_deref(), expected, "{variables:?}");
        }
        let both = [("ALL_PROXY", "http://a"), ("HTTP_PROXY", "http://h")];
        assert_eq!(way("http://s/", &both).unwrap(), "HTTP_PROXY=h");
    }

    #[test]
    fn exceptions_are_those_of_go() {
        let goes_direct = |url: &str, except: &str| {
            let variables = [("ALL_PROXY", "p:3128"), ("NO_PROXY", except)];
            way(url, &variables).is_none()
        };
        for except in [
            "*",
            "harness.io",
            "FF.Harness.io",
            ".harness.io",
            "*.harness.io",
            "x, config.ff.harness.io",
            "x config.ff.harness.io",
            "config.ff.harness.io:443",
        ] {
            assert!(goes_direct(HTTPS, except), "{except}");
        }
        for except in [
            "",
            "rness.io,,x",
            ".config.ff.harness.io",
            "*.config.ff.harness.io",
            "config.ff.harness.io:8443",
            "config.ff.harness.io:x",
            "10.0.0.0/8",
        ] {
            assert!(!goes_direct(HTTPS, except), "{except}");
        }
        for (url, except) in [
            ("http://10.1.2.3/", "10.0.0.0/8"),
            ("http://10.1.2.3:81/", "10.1.2.3"),
            ("http://10.1.2.3:81/", "10.1.2.3:81"),
            ("http://[fd00::1]/", "fd00::/8"),
            ("http://[fd00::1]/", "[fd00::1]"),
            ("http://[fd00::1]:8/", "[fd00::1]:8"),
        ] {
            assert!(goes_direct(url, except), "{url} {except}");
        }
        assert!(!goes_direct("http://10.1.2.3:81/", "10.1.2.3:82"));
        assert!(!goes_direct("http://11.1.2.3/", "10.0.0.0/8"));
        assert!(!goes_direct("http://127.0.0.1/", "localhost"));
    }

    #[test]
    fn what_is_no_proxy_is_told_without_its_value() {
        for value in [
            "ftp://user:secret@p",
            "http://",
            "http://user:secret@:1",
            "a b",
        ] {
            let error = read(&[("HTTPS_PROXY", value)]).unwrap_err().to_string();
            assert!(error.starts_with("HTTPS_PROXY names no proxy"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
