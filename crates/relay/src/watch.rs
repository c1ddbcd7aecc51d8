//! Files whose content is followed: certificates, keys, secrets.
//!
//! By content, read again and again: whatever an editor, `mv` or a kubelet that swaps a symbolic
//! link does to a path, all that counts is what can be read under it now. The files are few and
//! small, so reading them costs less than the cases that notifications of a file system miss.

use std::{io, io::Read, path::PathBuf, time::Duration};

use crate::settings::{Secret, oddity, secret_in};

/// Nothing that is followed is larger; more is not read.
const MOST: u64 = 4 << 20;

/// What a file held when it was read, or why it could not be, in the system's words.
pub type Content = Result<Vec<u8>, String>;

/// A set of files that belong together.
#[derive(Debug)]
pub struct Watched {
    paths: Vec<PathBuf>,
    every: Duration,
    told: Vec<Content>,
}

impl Watched {
    /// Follows `paths`, which are read now and then `every` so often.
    pub fn new(paths: Vec<PathBuf>, every: Duration) -> Self {
        let told = read_all(&paths);
        Self { paths, every, told }
    }

    /// What the files held when they were last told, in the order of their paths.
    pub fn contents(&self) -> &[Content] {
        &self.told
    }

    /// Waits until one of the files holds something else, and nothing is being written: two
    /// readings in a row are alike. A cancelled wait loses nothing.
    pub async fn changed(&mut self) -> &[Content] {
        let mut last = None;
        loop {
            tokio::time::sleep(self.every).await;
            let paths = self.paths.clone();
            // On a thread of its own: a network file system may take its time.
            let Ok(now) = tokio::task::spawn_blocking(move || read_all(&paths)).await else {
                continue;
            };
            if now == self.told {
                last = None;
            } else if last.as_ref() == Some(&now) {
                self.told = now;
                return &self.told;
            } else {
                last = Some(now);
            }
        }
    }
}

/// A file that holds a secret.
#[derive(Debug)]
pub struct SecretFile {
    setting: &'static str,
    file: Watched,
}

impl SecretFile {
    /// Follows `path`, which `setting` names, as [`Watched`] does.
    pub fn new(setting: &'static str, path: PathBuf, every: Duration) -> Self {
        let file = Watched::new(vec![path], every);
        Self { setting, file }
    }

    /// What it held when it was last read; none: nothing that is a secret.
    pub fn now(&self) -> Option<Secret> {
        self.now_or_empty().flatten()
    }

    /// As [`Self::now`], for a file that may be empty, which then is what it says: `Some(None)`.
    pub fn now_or_empty(&self) -> Option<Option<Secret>> {
        secret(self.file.contents()).ok()
    }

    /// What it held when it was last read, or why that is no secret.
    pub fn reading(&self) -> Result<Secret, String> {
        secret(self.file.contents())?.ok_or_else(|| "it is empty".to_owned())
    }

    /// Waits for the next content that is a secret. A file that is empty or gone is reported, and
    /// is no reason to forget what it held.
    pub async fn next(&mut self) -> Secret {
        loop {
            if let Ok(secret) = self.next_reading().await {
                return secret;
            }
        }
    }

    /// As [`Self::next`], for whoever shows what is wrong, too.
    pub async fn next_reading(&mut self) -> Result<Secret, String> {
        self.file.changed().await;
        let reading = self.reading();
        match &reading {
            Ok(secret) => self.doubt(secret),
            Err(reason) => self.report(reason),
        }
        reading
    }

    /// As [`Self::next`], for a file that may be empty. One that is gone says nothing: a mount
    /// comes and goes.
    pub async fn next_or_empty(&mut self) -> Option<Secret> {
        loop {
            match secret(self.file.changed().await) {
                Ok(secret) => {
                    _ = secret.as_ref().map(|secret| self.doubt(secret));
                    return secret;
                }
                Err(reason) => self.report(&reason),
            }
        }
    }

    fn doubt(&self, secret: &Secret) {
        if let Some(odd) = oddity(secret) {
            tracing::warn!(setting = self.setting, "the new secret looks odd: {odd}");
        }
    }

    fn report(&self, reason: &str) {
        tracing::error!(
            setting = self.setting,
            reason,
            "the file holds no secret any more; the one before stays in use"
        );
    }
}

/// The secret that a file holds; none: it is empty.
fn secret(contents: &[Content]) -> Result<Option<Secret>, String> {
    let content = match contents.first() {
        Some(Ok(content)) => content,
        Some(Err(error)) => return Err(format!("it cannot be read: {error}")),
        None => return Err("it was not read".into()),
    };
    let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
    Ok(secret_in(text))
}

fn read_all(paths: &[PathBuf]) -> Vec<Content> {
    let read = |path: &PathBuf| -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(MOST).read_to_end(&mut content)?;
        Ok(content)
    };
    let read = |path| read(path).map_err(|error| error.to_string());
    paths.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const EVERY: Duration = Duration::from_millis(5);

    async fn next(watched: &mut Watched) -> Vec<Content> {
        let changed = tokio::time::timeout(Duration::from_secs(20), watched.changed());
        changed.await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn a_swapped_link_a_new_content_and_a_lost_file_are_changes() {
        // As a kubelet lays a mounted secret out: file → ..data/file, ..data → ..generation.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (generation, content) in [("..1", "one"), ("..2", "two")] {
            std::fs::create_dir(at(generation)).unwrap();
            std::fs::write(at(generation).join("key"), content).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/key", at("key")).unwrap();
        let mut watched = Watched::new(vec![at("key")], EVERY);
        assert_eq!(watched.contents(), [Ok(b"one".to_vec())]);
        symlink("..2", at("..tmp")).unwrap();
        std::fs::rename(at("..tmp"), at("..data")).unwrap();
        assert_eq!(next(&mut watched).await, [Ok(b"two".to_vec())]);
        std::fs::write(at("..2").join("key"), "three").unwrap();
        assert_eq!(next(&mut watched).await, [Ok(b"three".to_vec())]);
        std::fs::remove_file(at("key")).unwrap();
        assert_eq!(
            next(&mut watched).await,
            [Err("No such file or directory (os error 2)".to_owned())]
        );
    }

    #[tokio::test]
    async fn an_emptied_file_is_told_where_it_may_be_empty_and_a_lost_one_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "one\n").unwrap();
        let mut strict = SecretFile::new("STRICT_FILE", path.clone(), EVERY);
        let mut lax = SecretFile::new("LAX_FILE", path.clone(), EVERY);
        assert_eq!(lax.now_or_empty(), Some(Some(Secret::new("one"))));
        std::fs::remove_file(&path).unwrap();
        let within = Duration::from_secs(20);
        let silent = tokio::time::timeout(20 * EVERY, lax.next_or_empty()).await;
        assert!(silent.is_err() && lax.now_or_empty().is_none());
        std::fs::write(&path, "  \n").unwrap();
        let told = tokio::time::timeout(within, lax.next_or_empty()).await;
        assert_eq!(told.unwrap(), None);
        assert_eq!((lax.now_or_empty(), lax.now()), (Some(None), None));
        let silent = tokio::time::timeout(20 * EVERY, strict.next()).await;
        assert!(silent.is_err());
        std::fs::write(&path, "two").unwrap();
        let told = tokio::time::timeout(within, strict.next()).await;
        assert_eq!(told.unwrap(), Secret::new("two"));
    }

    #[tokio::test]
    async fn what_was_not_changed_is_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "one").unwrap();
        let mut watched = Watched::new(vec![path.clone()], EVERY);
        std::fs::write(&path, "one").unwrap();
        let changed = tokio::time::timeout(20 * EVERY, watched.changed()).await;
        assert!(changed.is_err(), "the content is the same");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(next(&mut watched).await, [Ok(b"two".to_vec())]);
    }
}
