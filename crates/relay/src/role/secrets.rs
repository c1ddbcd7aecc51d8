//! What signs and verifies SDK tokens, as its files change (configuration.md, `AUTH_SECRET`).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    server::{App, token::Secrets},
    settings::{Secret, Settings},
    watch::SecretFile,
};

/// Former contents of the file that still verify; a relay that is never restarted keeps no more.
const MOST_FORMER: usize = 16;

/// One secret signs; it, those that its file held before and `AUTH_SECRET_PREVIOUS` verify.
#[derive(Debug)]
pub(super) struct AuthSecrets {
    current: Secret,
    former: VecDeque<Secret>,
    previous: Option<Secret>,
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
            previous: settings.auth_secret_previous.clone(),
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
        self.former.push_front(before);
        self.former.truncate(MOST_FORMER);
    }
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
        if let Some(now) = held(current.as_ref()).filter(|now| *now != secrets.current) {
            secrets.replace(now);
            app.set_secrets(secrets.secrets());
            tracing::info!("tokens are signed with the new AUTH_SECRET; those before stay valid");
        }
        let now = held(previous.as_ref()).filter(|now| secrets.previous.as_ref() != Some(now));
        if let Some(now) = now {
            secrets.previous = Some(now);
            app.set_secrets(secrets.secrets());
            tracing::info!("tokens of the new AUTH_SECRET_PREVIOUS are valid");
        }
        tokio::select! {
            () = changed(current.as_mut()) => {}
            () = changed(previous.as_mut()) => {}
        }
    }
}

fn held(file: Option<&SecretFile>) -> Option<Secret> {
    file.and_then(SecretFile::now)
}

async fn changed(file: Option<&mut SecretFile>) {
    match file {
        Some(file) => _ = file.next().await,
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
            previous: Some(Secret::new("by hand")),
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
}
