//! Who this process is to Google Cloud Profiler, by the variables of Google's own libraries.

use std::path::PathBuf;

use url::Url;

const API: &str = "https://cloudprofiler.googleapis.com/";
const METADATA: &str = "metadata.google.internal";

/// Where profiles go, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcpProfiler {
    /// The API.
    pub api: Url,
    /// `GOOGLE_APPLICATION_CREDENTIALS`: the key file of a service account or a user; none: the
    /// machine is asked.
    pub credentials: Option<PathBuf>,
    /// `GOOGLE_CLOUD_PROJECT`; none: that of the credentials.
    pub project: Option<String>,
    /// `GCE_METADATA_HOST`, or the usual one.
    pub metadata: String,
}

impl GcpProfiler {
    pub(super) fn read(get: &dyn Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        Self {
            api: Url::parse(API).expect("a constant that the tests parse"),
            credentials: get("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from),
            project: get("GOOGLE_CLOUD_PROJECT"),
            metadata: get("GCE_METADATA_HOST").unwrap_or_else(|| METADATA.to_owned()),
        }
    }
}
