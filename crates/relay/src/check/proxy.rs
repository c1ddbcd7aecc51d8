//! Which proxy a request goes through, by the standard variables. Pure: for what is said, the
//! requests themselves follow the HTTP client's own reading of the same variables.

use url::Url;

/// A proxy: the variable that names it, its host and port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) variable: &'static str,
    pub(super) host: String,
    pub(super) port: u16,
}

/// The proxy for `url`, if there is one.
pub(super) fn proxy_of(url: &Url, get: &dyn Fn(&str) -> Option<String>) -> Option<Proxy> {
    let host = url.host_str()?;
    let set = |name: &str| get(name).filter(|value| !value.is_empty());
    let except = set("NO_PROXY")
        .or_else(|| set("no_proxy"))
        .unwrap_or_default();
    if except.split(',').any(|entry| excepts(entry.trim(), host)) {
        return None;
    }
    let variables: &[&'static str] = if url.scheme() == "https" {
        &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    } else {
        &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    };
    let (variable, value) = variables
        .iter()
        .find_map(|name| Some((*name, set(name)?)))?;
    let proxy = if value.contains("://") {
        Url::parse(&value)
    } else {
        Url::parse(&format!("http://{value}"))
    };
    let proxy = proxy.ok()?;
    Some(Proxy {
        variable,
        host: bare(proxy.host_str()?).to_owned(),
        port: proxy.port_or_known_default().unwrap_or(1080),
    })
}

/// A host as names are looked up: an IPv6 address has no brackets.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether an entry of `NO_PROXY` means `host`: itself, a domain it is in, or everything.
fn excepts(entry: &str, host: &str) -> bool {
    let entry = entry.trim_start_matches("*.").trim_start_matches('.');
    match entry {
        "" => false,
        "*" => true,
        _ => {
            let rest = host.strip_suffix(entry);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_variables_are_read() {
        let of = |url: &str, variables: &[(&str, &str)]| {
            let get = |name: &str| {
                let mut found = variables.iter();
                found
                    .find(|(n, _)| *n == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            proxy_of(&Url::parse(url).unwrap(), &get).map(|proxy| (proxy.host, proxy.port))
        };
        let proxy = Some(("p".to_owned(), 3128));
        let https = "https://config.ff.harness.io/api/1.0";
        assert_eq!(of(https, &[]), None);
        assert_eq!(
            of(https, &[("HTTPS_PROXY", "http://user:secret@p:3128")]),
            proxy
        );
        assert_eq!(of(https, &[("https_proxy", "p:3128")]), proxy);
        assert_eq!(of(https, &[("HTTP_PROXY", "p:3128")]), None);
        assert_eq!(of("http://h/", &[("ALL_PROXY", "http://p:3128")]), proxy);
        for none in ["*", "harness.io", ".harness.io", "x, config.ff.harness.io"] {
            let variables = [("HTTPS_PROXY", "p:3128"), ("NO_PROXY", none)];
            assert_eq!(of(https, &variables), None, "{none}");
        }
        let variables = [("HTTPS_PROXY", "p:3128"), ("no_proxy", "rness.io,,x")];
        assert_eq!(of(https, &variables), proxy);
    }
}
