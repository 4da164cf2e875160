//! Writes the proofs of the corpus anew: they hold a signature by a secret that is in no other place.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_sigv4::sign::Credentials;
use countersign_sigv4::{SecretKey, StsProof};

fn main() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/sts_proof");
    let credentials = |token: Option<&str>| {
        Credentials::new("AKIDEXAMPLE", SecretKey::new("not a secret"), token.map(str::to_owned))
    };
    let write = |name: &str, subject_token: String| {
        let json = URL_SAFE_NO_PAD.decode(subject_token).expect("base64url");
        std::fs::write(folder.join(name), json).expect("the corpus can be written");
    };
    let (origin, region) = ("https://sts.eu-central-1.amazonaws.com", "eu-central-1");
    let (audience, binding, now) = ("https://gateway.example", "b1:abc", 1_790_000_000);
    let post =
        StsProof::sign_post(origin, region, &credentials(Some("token+/=")), audience, binding, now);
    write("post.json", post.expect("signed"));
    let get = StsProof::sign_presigned(origin, region, &credentials(None), audience, binding, now);
    write("presigned.json", get.expect("signed"));
}
