//! What is in the image.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::{Container, IMAGE, say, text};
use crate::support::{Program, repository};

#[tokio::test]
async fn the_image_is_small_and_holds_the_program_alone() {
    let size: u64 = say(&["image", "inspect", "--format", "{{.Size}}", IMAGE]).await.parse().unwrap();
    assert!(size <= 15_000_000, "{size} bytes");
    let config: Value = serde_json::from_str(&say(&["image", "inspect", IMAGE]).await).unwrap();
    let config = &config[0];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Config"]["Entrypoint"][0], "/cupbearer");
    assert_eq!(config["Config"]["WorkingDir"], "/etc/cupbearer");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(config["Labels"]["org.opencontainers.image.licenses"], "MIT OR Apache-2.0");
    // Of sources that are no checkout nobody knows it.
    let revision = config["Labels"]["org.opencontainers.image.revision"].as_str().map(str::len);
    assert!(matches!(revision, Some(0 | 40)), "{revision:?}");

    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("root.tar");
    let container = Container(say(&["create", "--pull=never", IMAGE]).await);
    say(&["export", "--output", archive.to_str().unwrap(), &container.0]).await;
    let list = Program::peer("tar", "tar").arg("-tf").arg(&archive).output().await.unwrap();
    let list = text(&list.stdout);
    let files: BTreeSet<&str> = list.lines().filter(|name| !name.ends_with('/')).collect();
    // What the runtime puts there itself is empty.
    let ours: BTreeSet<&str> = files
        .iter()
        .copied()
        .filter(|name| {
            !["dev/", "proc/", "sys/", "run/", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"]
                .iter()
                .any(|of| name.starts_with(of))
        })
        .collect();
    assert_eq!(
        ours.into_iter().collect::<Vec<_>>(),
        ["cupbearer", "etc/ssl/certs/ca-certificates.crt", "usr/share/cupbearer/sbom.cdx.json"]
    );

    let bill = Program::peer("tar", "tar")
        .args(["-xOf", archive.to_str().unwrap(), "usr/share/cupbearer/sbom.cdx.json"])
        .output()
        .await
        .unwrap();
    let bill: Value = serde_json::from_slice(&bill.stdout).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let components = bill["components"].as_array().unwrap();
    assert!(components.len() > 100, "{}", components.len());
    let mut names = BTreeSet::new();
    for component in components {
        let (name, version) = (component["name"].as_str().unwrap(), component["version"].as_str().unwrap());
        assert!(lock.contains(&format!("name = \"{name}\"\nversion = \"{version}\"")), "{name} {version}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64));
        names.insert(name);
    }
    assert!(names.contains("hyper") && names.contains("rustls") && !names.contains("criterion"));
}
