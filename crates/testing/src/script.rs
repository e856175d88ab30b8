//! The scripts under `tests/peers`, run by Node.js or by the Python of `.peers`; what they tell is a JSON object a line.

use std::fs;

use serde_json::Value;
use tokio::process::Command;

use super::program::{Program, repository};

/// A Python script of `tests/peers`, with the packages of its `requirements.txt`.
pub fn python(script: &str) -> Command {
    let python = repository().join(".peers/python/bin/python");
    let generated = repository().join(".peers/grpc/grpc/testing/test_pb2_grpc.py");
    assert!(
        python.is_file() && generated.is_file(),
        "the Python packages of tests/peers/requirements.txt are not installed, and this test needs them. \
         This installs them: scripts/test grpc::"
    );
    let mut command = Command::new(python);
    command.env_clear().env("PATH", std::env::var("PATH").unwrap_or_default());
    command.arg(repository().join("tests/peers").join(script)).kill_on_drop(true);
    command
}

/// A Node.js script of `tests/peers`; `package` is the npm package that must be there, in the script's folder.
pub fn node(script: &str, package: Option<&str>) -> Command {
    let script = repository().join("tests/peers").join(script);
    let folder = script.parent().unwrap().to_owned();
    if let Some(package) = package {
        assert!(
            folder.join("node_modules").join(package).is_dir(),
            "{package} is not installed, and this test needs it: npm ci --prefix {}",
            folder.display()
        );
    }
    let mut command = Program::peer("node", "nodejs npm");
    command.arg(script).current_dir(folder).kill_on_drop(true);
    command
}

/// What a running script has told so far; other lines are for people.
pub fn told(program: &Program) -> Vec<Value> {
    objects(&program.log())
}

/// Waits until a running script tells something that `is` is true of, and says what.
pub async fn hear(program: &mut Program, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let log = program.log_file().to_owned();
    let find = || objects(&fs::read_to_string(&log).unwrap_or_default()).into_iter().find(|event| is(event));
    program.until(what, || async { find().is_some() }).await;
    find().unwrap()
}

/// Runs a script to its end, and says what it told.
pub async fn run(mut command: Command) -> Vec<Value> {
    let output = command.output().await.unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{errors}", output.status);
    objects(&said)
}

fn objects(text: &str) -> Vec<Value> {
    // The last line may be half written still.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
}
