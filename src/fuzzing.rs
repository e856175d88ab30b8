//! The entry points of the fuzz targets in `fuzz/`: what comes from outside and is parsed here, as functions of bytes
//! that panic where something does not hold.
//!
//! Behind the feature `fuzzing`, which no release has. A test replays the committed corpus through each of them, so
//! that a machine without `cargo fuzz` tests it too.

/// An answer of a token endpoint.
pub fn token_response(data: &[u8]) {
    crate::oauth::fuzzing::token_response(data);
}

/// An authorization server's metadata.
pub fn metadata(data: &[u8]) {
    crate::oauth::fuzzing::metadata(data);
}

/// A JWT whose claims are read without verifying it.
pub fn jwt_claims(data: &[u8]) {
    crate::oauth::fuzzing::jwt_claims(data);
}

/// The challenges of a 401, a field to a line.
pub fn www_authenticate(data: &[u8]) {
    crate::oauth::fuzzing::challenge(data);
}

/// A file of the token store: what is read from it is written as it was, and read again.
pub fn store_file(data: &[u8]) {
    crate::token::fuzzing::store_file(data);
}

/// The path of a request's target.
pub fn request_path(data: &[u8]) {
    crate::proxy::fuzzing::request_path(data);
}

/// A request's target, from the path's judgement through the route to what is sent.
pub fn request_route(data: &[u8]) {
    crate::proxy::fuzzing::request_route(data);
}

/// The fields of a request and of an answer, a field to a line: what of them goes on.
pub fn request_head(data: &[u8]) {
    crate::proxy::fuzzing::request_head(data);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    type Target = fn(&[u8]);

    /// All targets: each has a file in `fuzz/fuzz_targets` and a folder in `fuzz/corpus`.
    const TARGETS: [(&str, Target); 8] = [
        ("jwt_claims", jwt_claims),
        ("metadata", metadata),
        ("request_head", request_head),
        ("request_path", request_path),
        ("request_route", request_route),
        ("store_file", store_file),
        ("token_response", token_response),
        ("www_authenticate", www_authenticate),
    ];

    fn folder(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
    }

    fn names(path: PathBuf) -> BTreeSet<String> {
        fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn each_fuzz_target_holds_over_its_committed_corpus() {
        for (name, target) in TARGETS {
            let mut inputs = 0;
            for entry in fs::read_dir(folder("corpus").join(name)).unwrap() {
                let data = fs::read(entry.unwrap().path()).unwrap();
                target(&data);
                // What a fuzzer would try first.
                for end in 0..data.len().min(256) {
                    target(&data[..end]);
                }
                inputs += 1;
            }
            assert!(inputs >= 3, "fuzz/corpus/{name} has {inputs} inputs");
        }
    }

    #[test]
    fn each_fuzz_target_is_replayed_here() {
        let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names(folder("fuzz_targets")), known);
        assert_eq!(names(folder("corpus")), known);
    }
}
