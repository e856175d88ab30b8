//! How the image is built, without building one.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Output;

use cupbearer_testing::{Program, repository};

use super::text;

/// What `scripts/image` says where these builders are installed, each of which does nothing but tell how it was called.
async fn build(builders: &[&str], words: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    for tool in ["bash", "date", "dirname", "git", "head", "sed"] {
        let paths = ["/usr/bin", "/bin"].map(|folder| format!("{folder}/{tool}"));
        let path = paths.iter().find(|path| fs::exists(path).unwrap()).unwrap();
        symlink(path, dir.path().join(tool)).unwrap();
    }
    for builder in builders {
        let file = dir.path().join(builder);
        fs::write(&file, "#!/bin/sh\nprintf '%s\\n' \"${0##*/}\" \"$@\"\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut script = Program::peer("bash", "bash");
    script.env("PATH", dir.path()).arg(repository().join("scripts/image")).args(words);
    script.output().await.unwrap()
}

#[tokio::test]
async fn whichever_builder_is_there_makes_the_image_with_its_labels_and_its_health_check() {
    for (builders, format) in [
        (["podman", "docker"].as_slice(), true),
        (["docker"].as_slice(), false),
        (["buildah"].as_slice(), true),
    ] {
        let output = build(builders, &[]).await;
        let said = text(&output.stdout);
        let words: Vec<&str> = said.lines().collect();
        assert!(output.status.success() && words[..2] == [builders[0], "build"], "{said}");
        assert_eq!(words.windows(2).any(|pair| pair == ["--format", "docker"]), format, "{said}");
        let tag = format!("cupbearer:{}", env!("CARGO_PKG_VERSION"));
        assert!(words.windows(2).any(|pair| pair == ["--tag", &tag]), "{said}");
        for stamp in ["revision=", "created=20"] {
            let label = format!("org.opencontainers.image.{stamp}");
            assert!(
                words.windows(2).any(|pair| pair[0] == "--label" && pair[1].starts_with(&label)),
                "{said}"
            );
        }
        assert_eq!(words.last(), Some(&"."), "{said}");
    }
    let output =
        build(&["podman"], &["registry.example/cupbearer:1", "--", "--build-arg", "FEATURES=otlp"]).await;
    let said = text(&output.stdout);
    assert!(said.ends_with("--tag\nregistry.example/cupbearer:1\n--build-arg\nFEATURES=otlp\n."), "{said}");
}

#[tokio::test]
async fn without_a_builder_it_says_what_is_missing() {
    let output = build(&[], &[]).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    assert_eq!(text(&output.stderr), "scripts/image: none of podman, docker and buildah is installed");
}

#[tokio::test]
async fn the_features_of_a_build_reach_the_program_its_layer_of_dependencies_and_its_bill_of_materials() {
    let dockerfile = fs::read_to_string(repository().join("Dockerfile")).unwrap();
    let uses: Vec<&str> = dockerfile
        .lines()
        .filter(|line| !line.starts_with('#') && (line.contains("cargo build") || line.contains("/sbom ")))
        .filter(|line| !line.starts_with("COPY"))
        .collect();
    assert_eq!(uses.len(), 3, "{uses:?}");
    for line in uses {
        assert!(line.contains("--features \"$FEATURES\""), "{line}");
    }
    let bill = async |features: &str| {
        let output = Program::peer("sh", "dash")
            .arg(repository().join("scripts/sbom"))
            .args(["--features", features])
            .envs(std::env::vars())
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(bill("otlp").await.contains("\"name\":\"opentelemetry-proto\""));
    assert!(!bill("").await.contains("\"name\":\"opentelemetry"));
}
