//! Keys to sign with, made by `openssl` as people make theirs.

use super::program::Program;

/// A private key in PEM (PKCS #8).
#[derive(Clone, Debug)]
pub struct Key {
    pub pem: String,
    /// The `alg` that it is meant for.
    pub algorithm: &'static str,
}

impl Key {
    /// For an algorithm of JWS with RSA or a curve.
    pub async fn new(algorithm: &'static str) -> Self {
        let options: &[&str] = match algorithm {
            "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => {
                &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
            }
            "ES256" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            "ES384" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            "ES512" => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            "EdDSA" => &["-algorithm", "ED25519"],
            _ => panic!("no key for {algorithm}"),
        };
        let mut command = Program::peer("openssl", "openssl");
        let output = command.arg("genpkey").args(options).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { pem: String::from_utf8(output.stdout).unwrap(), algorithm }
    }

    /// Its public half as it is verified with: RSA's numbers in DER (PKCS #1), or the point on the curve.
    pub async fn public(&self) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        std::fs::write(&file, &self.pem).unwrap();
        let is_rsa = self.algorithm.starts_with(['R', 'P']);
        let how: &[&str] = if is_rsa { &["rsa", "-RSAPublicKey_out"] } else { &["pkey", "-pubout"] };
        let mut command = Program::peer("openssl", "openssl");
        let output = command.args(how).args(["-outform", "DER", "-in"]).arg(&file).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Before the point, which is last, DER has the curve's name.
        let from = if is_rsa { 0 } else { output.stdout.len() - POINT_BYTES };
        output.stdout[from..].to_vec()
    }

    /// As the switchboard of the authorization server takes it.
    pub fn named(&self, id: &str) -> serde_json::Value {
        serde_json::json!({ "pem": self.pem, "alg": self.algorithm, "kid": id })
    }
}

/// On P-256, uncompressed.
const POINT_BYTES: usize = 65;
