//! What signs and verifies SDK tokens, as its files change (configuration.md, `AUTH_SECRET`).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    server::{App, token::Secrets},
    settings::{Secret, Settings},
    watch::SecretFile,
};

/// Former contents of a file that still verify; a relay that is never restarted keeps no more.
const MOST_FORMER: usize = 16;

/// One secret signs; it, those that its file held before and `AUTH_SECRET_PREVIOUS` verify.
///
/// So does what `AUTH_SECRET_PREVIOUS` held before: when a rotation swaps the two files, the relay may
/// see this one first, and must not refuse the new secret until it sees the other.
#[derive(Debug)]
pub(super) struct AuthSecrets {
    current: Secret,
    former: VecDeque<Secret>,
    /// What it holds now, then what it held before.
    previous: VecDeque<Secret>,
}

impl AuthSecrets {
    pub(super) fn new(settings: &Settings) -> Self {
        if settings.auth_secret_is_default() {
            tracing::warn!(
                "AUTH_SECRET is the published default: anybody can forge SDK tokens; set one of your own"
            );
        }
        if settings.bypass_auth {
            tracing::warn!(
                "BYPASS_AUTH is on: nobody is asked for a token; never do this in production"
            );
        }
        Self {
            current: settings.auth_secret.clone(),
            former: VecDeque::new(),
            previous: settings.auth_secret_previous.iter().cloned().collect(),
        }
    }

    pub(super) fn secrets(&self) -> Secrets {
        let verify: Vec<&str> = self
            .former
            .iter()
            .chain(&self.previous)
            .map(Secret::expose)
            .collect();
        Secrets::new(self.current.expose(), &verify)
    }

    /// The file of `AUTH_SECRET` holds another one.
    fn replace(&mut self, current: Secret) {
        self.former.retain(|former| *former != current);
        let before = std::mem::replace(&mut self.current, current);
        put_first(&mut self.former, before);
    }

    /// The file of `AUTH_SECRET_PREVIOUS` holds another one, or none. Emptied, it withdraws what it
    /// held, also where that signed here before.
    fn replace_previous(&mut self, now: Option<Secret>) {
        match now {
            Some(now) => put_first(&mut self.previous, now),
            None => {
                let withdrawn = std::mem::take(&mut self.previous);
                self.former.retain(|former| !withdrawn.contains(former));
            }
        }
    }
}

fn put_first(secrets: &mut VecDeque<Secret>, first: Secret) {
    secrets.retain(|secret| *secret != first);
    secrets.push_front(first);
    secrets.truncate(MOST_FORMER);
}

/// Follows the files, if there are any. Never ends.
pub(super) async fn follow(
    mut secrets: AuthSecrets,
    settings: &Settings,
    every: Duration,
    app: Arc<App>,
) {
    let file = |name, path: &Option<_>| {
        let path: Option<&std::path::PathBuf> = path.as_ref();
        path.map(|path| SecretFile::new(name, path.clone(), every))
    };
    let mut current = file("AUTH_SECRET_FILE", &settings.auth_secret_file);
    let mut previous = file(
        "AUTH_SECRET_PREVIOUS_FILE",
        &settings.auth_secret_previous_file,
    );
    loop {
        // Also at once: a file may have changed since the settings were read.
        let now = current.as_ref().and_then(SecretFile::now);
        if let Some(now) = now.filter(|now| *now != secrets.current) {
            secrets.replace(now);
            app.set_secrets(secrets.secrets());
            tracing::info!("tokens are signed with the new AUTH_SECRET; those before stay valid");
        }
        let now = previous.as_ref().and_then(SecretFile::now_or_empty);
        if let Some(now) = now.filter(|now| secrets.previous.front() != now.as_ref()) {
            let is_none = now.is_none();
            secrets.replace_previous(now);
            app.set_secrets(secrets.secrets());
            if is_none {
                tracing::info!(
                    "AUTH_SECRET_PREVIOUS_FILE is empty: tokens of the secret that it held are refused"
                );
            } else {
                tracing::info!("tokens of the new AUTH_SECRET_PREVIOUS are valid");
            }
        }
        tokio::select! {
            () = new_secret(current.as_mut()) => {}
            () = new_content(previous.as_mut()) => {}
        }
    }
}

/// Waits for a secret.
async fn new_secret(file: Option<&mut SecretFile>) {
    match file {
        Some(file) => _ = file.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for a secret, or for none.
async fn new_content(file: Option<&mut SecretFile>) {
    match file {
        Some(file) => _ = file.next_or_empty().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::KeyHash;

    #[test]
    fn what_the_file_held_before_verifies_and_the_oldest_goes_first() {
        let mut secrets = AuthSecrets {
            current: Secret::new("0"),
            former: VecDeque::new(),
            previous: [Secret::new("by hand")].into(),
        };
        let key = KeyHash::of_key("k");
        let token = |secret: &str| Secrets::new(secret, &[]).mint(&key, "e", None, 1);
        for n in 1..=20 {
            secrets.replace(Secret::new(n.to_string()));
        }
        let now = secrets.secrets();
        let verifies = |secret: &str| now.verify(&token(secret), 1).is_ok();
        assert!(verifies("20") && verifies("19") && verifies("4") && verifies("by hand"));
        assert!(!verifies("3") && !verifies("never"));
        // Back to a former one: it signs, and is not kept twice.
        secrets.replace(Secret::new("19"));
        assert_eq!(secrets.former.len(), 16);
        assert_eq!(secrets.former[0], Secret::new("20"));
    }

    #[test]
    fn an_emptied_previous_secret_is_withdrawn_also_where_it_signed_here() {
        let mut secrets = AuthSecrets {
            current: Secret::new("old"),
            former: VecDeque::new(),
            previous: [Secret::new("new")].into(),
        };
        let key = KeyHash::of_key("k");
        let verifies = |secrets: &AuthSecrets, secret: &str| {
            let token = Secrets::new(secret, &[]).mint(&key, "e", None, 1);
            secrets.secrets().verify(&token, 1).is_ok()
        };
        // The rotation of a fleet, from its second step on: its files are seen one after the other.
        secrets.replace_previous(Some(Secret::new("old")));
        assert!(verifies(&secrets, "old") && verifies(&secrets, "new"));
        secrets.replace(Secret::new("new"));
        assert!(verifies(&secrets, "old") && verifies(&secrets, "new"));
        secrets.replace_previous(None);
        assert!(!verifies(&secrets, "old") && verifies(&secrets, "new"));
        assert!(secrets.former.is_empty());
    }
}
