//! What is in the image.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::{Container, IMAGE, say, text};
use cupbearer_testing::{Program, python, repository};

/// The files of a container that never ran.
struct Root(TempDir);

impl Root {
    async fn unpack() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        let container = Container(say(&["create", "--pull=never", IMAGE]).await);
        let archive = root.archive();
        say(&["export", "--output", archive.to_str().unwrap(), &container.0]).await;
        out(Program::peer("tar", "tar").arg("-C").arg(root.0.path()).arg("-xf").arg(archive)).await;
        root
    }

    fn archive(&self) -> PathBuf {
        self.0.path().join("root.tar")
    }

    fn share(&self, name: &str) -> PathBuf {
        self.0.path().join("usr/share/cupbearer").join(name)
    }

    fn bill_of_materials(&self) -> Value {
        serde_json::from_slice(&fs::read(self.share("sbom.cdx.json")).unwrap()).unwrap()
    }
}

/// What the program says; it must succeed.
async fn out(program: &mut Command) -> String {
    let output = program.output().await.unwrap();
    assert!(output.status.success(), "{program:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test]
async fn the_image_is_small_and_holds_the_program_alone() {
    let size: u64 = say(&["image", "inspect", "--format", "{{.Size}}", IMAGE]).await.parse().unwrap();
    assert!(size <= 18_000_000, "{size} bytes");
    let config: Value = serde_json::from_str(&say(&["image", "inspect", IMAGE]).await).unwrap();
    let config = &config[0];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Config"]["Entrypoint"][0], "/cupbearer");
    assert_eq!(config["Config"]["WorkingDir"], "/etc/cupbearer");
    let label = |name: &str| {
        let label = config["Labels"][format!("org.opencontainers.image.{name}")].as_str();
        label.unwrap_or_else(|| panic!("no label {name}: {}", config["Labels"])).to_owned()
    };
    assert_eq!(label("title"), "cupbearer");
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(label("licenses"), "MIT OR Apache-2.0");
    // Of sources that are no checkout nobody knows it.
    let revision = label("revision");
    assert!(matches!(revision.trim_end_matches("-dirty").len(), 0 | 40), "{revision}");
    // RFC 3339, as OCI's annotations have it.
    let created = label("created");
    let shape: String =
        created.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z", "{created}");

    let root = Root::unpack().await;
    let list = out(Program::peer("tar", "tar").arg("-tf").arg(root.archive())).await;
    // What the runtime puts there itself is empty.
    let of_the_runtime =
        ["dev/", "proc/", "sys/", "run/", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"];
    let ours: BTreeSet<&str> = list
        .lines()
        .filter(|name| !name.ends_with('/') && !of_the_runtime.iter().any(|of| name.starts_with(of)))
        .collect();
    assert_eq!(
        ours.into_iter().collect::<Vec<_>>(),
        [
            "cupbearer",
            "etc/ssl/certs/ca-certificates.crt",
            "usr/share/cupbearer/licenses.txt.gz",
            "usr/share/cupbearer/sbom.cdx.json"
        ]
    );
}

#[tokio::test]
async fn the_authorities_of_the_web_are_there_and_can_all_be_read() {
    let root = Root::unpack().await;
    let pem = fs::read(root.0.path().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).map(|certificate| certificate.unwrap()).collect();
    let (read, unread) = RootCertStore::empty().add_parsable_certificates(certificates);
    assert!((100..300).contains(&read) && unread == 0, "{read} can be read, {unread} cannot");
}

#[tokio::test]
async fn the_bill_of_materials_is_one_by_cyclonedx_s_own_schema_and_names_what_is_in_the_image() {
    let root = Root::unpack().await;
    out(python("image/bill.py").arg(root.share("sbom.cdx.json"))).await;

    let bill = root.bill_of_materials();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let lock = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let components = bill["components"].as_array().unwrap();
    assert!(components.len() > 100, "{}", components.len());
    let mut names = BTreeSet::new();
    for component in components {
        let of = |key: &str| component[key].as_str().unwrap_or_else(|| panic!("no {key}: {component}"));
        let (name, version) = (of("name"), of("version"));
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        if of("purl").starts_with("pkg:cargo/") {
            let locked = format!("name = \"{name}\"\nversion = \"{version}\"");
            assert!(lock.contains(&locked), "{name} {version}");
            assert_eq!(component["hashes"][0]["content"].as_str().map(str::len), Some(64));
        } else {
            assert!(of("purl").starts_with(&format!("pkg:deb/debian/{name}@")), "{component}");
            assert!(of("purl").contains("&distro=debian-12"), "{component}");
        }
        names.insert(name);
    }
    // What scanners look for: the C library is in the program as much as the crates are.
    for name in ["hyper", "rustls", "libc6-dev", "ca-certificates"] {
        assert!(names.contains(name), "{name}");
    }
    assert!(!names.contains("criterion"));
}

#[tokio::test]
async fn each_component_s_licence_goes_with_the_program() {
    let root = Root::unpack().await;
    let licences = out(Program::peer("gzip", "gzip").arg("-dc").arg(root.share("licenses.txt.gz"))).await;
    let (list, texts) = licences.split_once("\n====").unwrap();
    let bill = root.bill_of_materials();
    for component in bill["components"].as_array().unwrap().iter().chain([&bill["metadata"]["component"]]) {
        let who =
            format!("{} {}", component["name"].as_str().unwrap(), component["version"].as_str().unwrap());
        let licence = component["licenses"][0]["expression"].as_str().unwrap();
        let line = list.lines().find(|line| line.starts_with(&format!("{who}: {licence}")));
        let line = line.unwrap_or_else(|| panic!("{who} is not named"));
        // Who a text is of stands above it.
        let above = |line: &str| line.split(", ").any(|owner| owner == who);
        assert!(line.contains("no text came with it; by ") || texts.lines().any(above), "no text of {who}");
    }
    for word in [
        "Copyright (c) Tokio Contributors",
        "The Rust Project Developers",
        "GNU C Library",
        "GNU GENERAL PUBLIC LICENSE",
        "GNU LESSER GENERAL PUBLIC LICENSE",
        "Mozilla Public License",
    ] {
        assert!(texts.contains(word), "{word}");
    }
}
