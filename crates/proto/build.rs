//! Compiles `proto/` with protox, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

/// Messages that carry secrets: their `Debug` is written by hand in `lib.rs`, and shows nothing.
const SECRET: [&str; 20] = [
    ".envoy.service.auth.v3.AttributeContext.HttpRequest",
    ".countersign.token.v1.ExchangeWithChallengeRequest",
    ".countersign.decision.v1.FilterResourcesRequest",
    ".countersign.decision.v1.AuthorizeAssumeRoleRequest",
    ".countersign.decision.v1.AuthorizeExchangeRequest",
    ".countersign.decision.v1.ProofOfPossession",
    ".countersign.token.v1.ExchangeRequest",
    ".countersign.token.v1.ExchangeResponse",
    ".countersign.token.v1.ExchangeWithChallengeRequest.step",
    ".countersign.token.v1.IntrospectRequest",
    ".countersign.token.v1.RevokeRequest",
    ".countersign.policy.v1.AccessKey",
    ".countersign.policy.v1.DeriveSigningKeyResponse",
    ".countersign.decision.v1.AuthorizeRequest",
    ".countersign.decision.v1.AuthorizeRequest.subject",
    ".countersign.decision.v1.ExplainRequest",
    ".countersign.decision.v1.ExplainRequest.subject",
    ".countersign.decision.v1.BatchAuthorizeRequest",
    ".countersign.decision.v1.BatchAuthorizeRequest.subject",
    ".countersign.decision.v1.FilterResourcesRequest.subject",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());

    let mut files = Vec::new();
    for area in ["policy", "decision", "token"] {
        for entry in fs::read_dir(root.join("countersign").join(area).join("v1"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "proto") {
                files.push(path);
            }
        }
    }
    files.push(root.join("envoy/service/auth/v3/external_auth.proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;

    // With the comments in it, `grpcurl describe` is the manual.
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("countersign.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;

    let mut config = tonic_prost_build::Config::new();
    config.skip_debug(SECRET);
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::codec::Strict")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
