//! `[store]`.

use std::path::PathBuf;

use crate::config::file::{Store, StoreKind};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::secret_ref::{Need, Variables, Wanted, Written};
use crate::token::store::is_encryption_key;
use crate::token::{FolderSettings, StoreSettings};

/// `logins`: whether a token needs a person's login.
pub(super) fn resolve(
    store: &Store,
    logins: bool,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<StoreSettings> {
    let path = KeyPath::from("store");
    let kind_path = path.key("kind");
    // A login should outlive a restart.
    let kind = store.kind.unwrap_or(if logins { StoreKind::Keyring } else { StoreKind::Memory });
    if kind == StoreKind::Memory {
        if review.is_whole() && !review.is_spoken_for(&kind_path) {
            for key in ["path", "encryption_key_file"].map(|key| path.key(key)) {
                if review.is_given(&key) {
                    let help = "set `kind` to \"file\" or \"keyring\", or take it out";
                    review.error(&key, "has no meaning with kind = \"memory\"", help);
                }
            }
        }
        return Some(StoreSettings::Memory);
    }
    let folder = folder(&path.key("path"), store.path.as_deref(), variables, review);
    let keys = vec![("encryption_key_file", Written::File(store.encryption_key_file.as_deref()))];
    let wanted = Wanted { noun: "key", owner: "the store", keys };
    let key = wanted.resolve(&path, Need::Optional, variables, review);
    if let Ok(Some(found)) = &key
        && found.now.as_ref().is_some_and(|now| !is_encryption_key(now.expose()))
    {
        review.error(
            &found.key,
            "the file does not hold 32 bytes in base64 or in hexadecimal",
            "make one: openssl rand -base64 32",
        );
        return None;
    }
    let encryption_key = key.ok()?.map(|found| found.source);
    let folder = FolderSettings { path: folder?, encryption_key };
    Some(match kind {
        StoreKind::Memory => StoreSettings::Memory,
        StoreKind::File => StoreSettings::File(folder),
        StoreKind::Keyring => StoreSettings::Keyring(folder),
    })
}

/// The folder that is named, or the usual one (the XDG Base Directory Specification's state folder).
fn folder(
    path: &KeyPath,
    text: Option<&str>,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<PathBuf> {
    let usual = |name: &str| variables.value(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let folder = match text {
        Some("") => {
            review.error(path, "is empty", "name the folder, or take it out for the usual one");
            return None;
        }
        Some(text) => Some(review.file(path, text)),
        None => usual("XDG_STATE_HOME")
            .or_else(|| usual("HOME").map(|home| home.join(".local/state")))
            .map(|state| state.join("cupbearer")),
    };
    match folder {
        None => {
            let what = "is missing, and neither XDG_STATE_HOME nor HOME says where it would be";
            review.missing(path, what, format!("{} to a folder", review.set(path)));
            None
        }
        Some(folder) if folder.exists() && !folder.is_dir() => {
            review.error(path, format!("{} is not a folder", folder.display()), "name a folder");
            None
        }
        folder => folder,
    }
}
