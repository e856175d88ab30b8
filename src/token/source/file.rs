//! A token that another process keeps fresh in a file. A watcher of the file says when to read it again.

use futures_util::future::BoxFuture;

use crate::oauth::Lifetime;
use crate::secret::SecretSource;
use crate::token::error::{Error, SourceFault, TokenHolder};

use super::dated_secret::{READ_PATIENCE, dated};
use super::text;
use super::token_source::{Fetched, Source};

/// A file, read whole at each fetch.
#[derive(Debug)]
pub(super) struct FileSource {
    file: SecretSource,
}

impl FileSource {
    pub(super) const fn new(file: SecretSource) -> Self {
        Self { file }
    }

    async fn read(&self) -> Result<Fetched, Error> {
        let (secret, written) =
            dated(&self.file).await?.map_err(|error| Error::from(SourceFault::File(error)))?;
        let response = text::read(secret.expose(), TokenHolder::File)?;
        // `expires_in` counts from when the token was handed out: not later than it was written here.
        let asked =
            written.filter(|_| matches!(response.lifetime, Lifetime::ExpiresIn(_) | Lifetime::NoTime(_)));
        Ok(Fetched { asked, ..response.into() })
    }
}

impl Source for FileSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(self.read())
    }

    fn patience(&self) -> std::time::Duration {
        READ_PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use super::super::tests::jwt;
    use super::*;
    use crate::clock::{self, BootInstant};
    use crate::lifecycle::DrainTrigger;
    use crate::metrics::Metrics;
    use crate::oauth::Class;
    use crate::token::renewer::tests::settings;
    use crate::token::{Limits, Origin, Renewer, RenewerHandle, Status, TokenHandle, TokenSettings};

    fn source(path: &Path) -> FileSource {
        FileSource::new(SecretSource::File(path.to_owned()))
    }

    struct Bench {
        renewer: RenewerHandle,
        _drain: DrainTrigger,
        dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let (trigger, drain) = DrainTrigger::new();
            let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
            Self { renewer, _drain: trigger, dir: tempfile::tempdir().unwrap() }
        }

        fn write(&self, text: &str) {
            let new = self.dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, self.path()).unwrap();
        }

        fn path(&self) -> std::path::PathBuf {
            self.dir.path().join("token")
        }

        fn add(&self) -> TokenHandle {
            let origin = Origin::File(SecretSource::File(self.path()));
            self.renewer.add("api", TokenSettings { origin, ..settings() }, source(&self.path()))
        }
    }

    async fn until(token: &TokenHandle, value: &str) {
        for _ in 0..500 {
            let held = token.load().usable(BootInstant::now()).map(|c| c.value.to_str().unwrap().to_owned());
            if held.as_deref() == Some(value) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{value} is not held: {:?}", *token.load());
    }

    #[tokio::test]
    async fn expires_in_counts_from_when_the_file_was_written() {
        let bench = Bench::new();
        bench.write(r#"{"access_token":"t","expires_in":3600}"#);
        let written = clock::wall() - Duration::from_mins(30);
        File::options().write(true).open(bench.path()).unwrap().set_modified(written).unwrap();
        assert_eq!(source(&bench.path()).fetch().await.unwrap().asked, Some(written));
        let held = bench.add().wait().await.unwrap();
        let left = (held.expires_at - BootInstant::now()).as_secs();
        assert!((1795..=1800).contains(&left), "{left}");
    }

    #[tokio::test]
    async fn a_change_counts_at_once_although_the_old_token_is_still_good() {
        let bench = Bench::new();
        bench.write("first\n");
        let token = bench.add();
        until(&token, "Bearer first").await;
        bench.write("second\n");
        token.wake();
        until(&token, "Bearer second").await;
        assert_eq!(token.load().credentials.as_ref().unwrap().generation, 2);
    }

    #[tokio::test]
    async fn a_projected_volume_that_is_swapped_by_its_links_is_read_through_them() {
        let bench = Bench::new();
        let root = bench.dir.path();
        for (folder, text) in [("a", "first"), ("b", "second")] {
            fs::create_dir(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("token"), text).unwrap();
        }
        symlink("a", root.join("data")).unwrap();
        symlink("data/token", bench.path()).unwrap();
        let token = bench.add();
        until(&token, "Bearer first").await;
        symlink("b", root.join("swap")).unwrap();
        fs::rename(root.join("swap"), root.join("data")).unwrap();
        token.wake();
        until(&token, "Bearer second").await;
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_yet_empty_or_half_written_is_waited_for() {
        let bench = Bench::new();
        let token = bench.add();
        for (text, cause) in
            [(None, "token_file"), (Some("\n"), "token_file"), (Some("{\"acc"), "token_text")]
        {
            if let Some(text) = text {
                fs::write(bench.path(), text).unwrap();
            }
            let error = source(&bench.path()).fetch().await.unwrap_err();
            assert_eq!((error.cause(), error.class()), (cause, Class::Transient), "{error}");
        }
        let waiting = tokio::spawn({
            let token = token.clone();
            async move { token.wait().await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(token.load().status(BootInstant::now()), Status::Pending);
        bench.write("t");
        token.wake();
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_file_that_goes_away_leaves_the_token_in_use() {
        let bench = Bench::new();
        bench.write("first");
        let token = bench.add();
        until(&token, "Bearer first").await;
        fs::remove_file(bench.path()).unwrap();
        token.wake();
        while token.load().last_error.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(token.load().status(BootInstant::now()), Status::Degraded);
        until(&token, "Bearer first").await;
    }

    #[tokio::test]
    async fn an_expired_jwt_in_the_file_is_not_used() {
        let bench = Bench::new();
        bench.write(&jwt(-1));
        let error = bench.add().wait().await.unwrap_err();
        assert_eq!(
            error.cause.unwrap().to_string(),
            "the token in the file has expired; what writes it has not written another"
        );
        bench.write(&jwt(300));
        assert!(bench.add().wait().await.is_ok());
    }

    #[tokio::test]
    async fn the_same_jwt_read_again_is_the_same_token_with_the_same_margin() {
        let bench = Bench::new();
        bench.write(&jwt(100));
        let token = bench.add();
        let first = token.wait().await.unwrap();
        token.wake();
        while token.load().attempts() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let again = token.wait().await.unwrap();
        assert_eq!((again.generation, again.usable_until), (1, first.usable_until));
    }
}
