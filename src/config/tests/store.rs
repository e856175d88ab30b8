//! `[store]`.

use super::*;
use crate::secret::SecretSource;
use crate::token::{FolderSettings, StoreSettings};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn store(lines: &str) -> String {
    format!("[store]\n{lines}\n{GOOD}")
}

fn folder(path: &str) -> FolderSettings {
    FolderSettings { path: path.into(), encryption_key: None }
}

#[test]
fn tokens_live_in_memory_in_a_folder_or_in_the_keyring() {
    let store_in = |lines: &str, variables: &[(&str, &str)]| {
        load_in(&store(lines), variables).unwrap_or_else(|problems| panic!("{problems}")).settings.store
    };
    assert_eq!(load_text(GOOD).unwrap().settings.store, StoreSettings::Memory);
    assert_eq!(store_in("kind = \"memory\"", &[]), StoreSettings::Memory);
    assert_eq!(store_in("kind = \"file\"\npath = \"/p\"", &[]), StoreSettings::File(folder("/p")));
    let home = ("HOME", "/home/alice");
    assert_eq!(
        store_in("kind = \"keyring\"", &[home]),
        StoreSettings::Keyring(folder("/home/alice/.local/state/cupbearer"))
    );
    assert_eq!(
        store_in("kind = \"file\"", &[home, ("XDG_STATE_HOME", "/state")]),
        StoreSettings::File(folder("/state/cupbearer"))
    );
    assert_eq!(
        store_in("kind = \"file\"", &[home, ("XDG_STATE_HOME", "relative")]),
        StoreSettings::File(folder("/home/alice/.local/state/cupbearer"))
    );
    assert_eq!(
        store_in("", &[("CUPBEARER__STORE__KIND", "file"), ("CUPBEARER__STORE__PATH", "/v")]),
        StoreSettings::File(folder("/v"))
    );
}

#[test]
fn the_folder_and_its_key_are_looked_for_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, store("kind = \"file\"\npath = \"tokens\"\nencryption_key_file = \"key\""))
        .unwrap();
    let load_file =
        || load(&Source::File(config.clone()), [("ORDERS_SECRET".into(), "x".into())], Options::default());
    let key = dir.path().join("key");
    let loaded = load_file().unwrap();
    assert_eq!(loaded.warnings.len(), 1, "the key may come later: {}", loaded.warnings);
    let path = dir.path().join("tokens");
    let settings = FolderSettings { path, encryption_key: Some(SecretSource::File(key.clone())) };
    assert_eq!(loaded.settings.store, StoreSettings::File(settings));
    assert!(loaded.files.contains(&key));
    let hexadecimal = "0123456789abcdef".repeat(4);
    for good in [KEY, KEY.trim_end_matches('='), &hexadecimal, &hexadecimal.to_uppercase()] {
        write_private(&key, &format!("{good}\n"));
        assert!(load_file().unwrap().warnings.is_empty(), "{good}");
    }
    for bad in ["sentinel", &KEY[..40], &hexadecimal.replace('0', "g")] {
        write_private(&key, bad);
        let shown = load_file().unwrap_err().to_string();
        assert!(shown.contains("store.encryption_key_file: the file does not hold 32 bytes"), "{shown}");
        assert!(shown.contains("openssl rand -base64 32") && !shown.contains(bad), "{shown}");
    }
}
