//! The table of DESIGN.md section 2: what each package may import of the workspace. Names are folders, without `countersign-`.

/// The workspace's packages: `(name, what it may import)`. A package that is not here may not be in the workspace.
pub const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("policy", &[]),
    ("evaluator", &["policy"]),
    ("sigv4", &[]),
    ("aws-query", &[]),
    ("token", &[]),
    ("store", &[]),
    ("proto", &[]),
    ("replica", &["policy", "evaluator", "token", "proto"]),
    // Never a domain crate: what every process needs, whatever it does.
    ("serve", &[]),
    // `replica` is the one reading of records into policies, and `sigv4` derives the keys that gateways are handed.
    (
        "policy-store",
        &["policy", "proto", "serve", "evaluator", "token", "store", "replica", "sigv4"],
    ),
    ("decision", &["policy", "proto", "serve", "evaluator", "token", "replica"]),
    ("gateway", &["policy", "proto", "serve", "sigv4", "aws-query", "token", "replica"]),
    // The one place that imports the three services' libraries.
    (
        "countersign",
        &[
            "policy",
            "proto",
            "serve",
            "evaluator",
            "sigv4",
            "token",
            "policy-store",
            "decision",
            "gateway",
        ],
    ),
    ("harness", &["countersign", "policy", "proto", "serve", "evaluator", "sigv4", "token"]),
    ("e2e", &["harness", "proto", "sigv4", "token"]),
    ("layers", &[]),
    // It starts the decision service as a process of its own.
    ("load", &["decision", "proto", "serve", "token"]),
    // Events and a clock of its own: it knows the protocol, and none of the code.
    ("simulation", &[]),
];

/// Values in, values out: no runtime, no network, no clock, no environment, no logging.
pub const PURE: &[&str] = &["policy", "evaluator", "sigv4", "aws-query", "token"];

/// What no pure package may reach, by whatever way.
pub const IMPURE: &[&str] = &[
    "tokio", "tonic", "hyper", "axum", "tracing", "log", "clap", "sled", "mio", "socket2",
    "reqwest",
];

/// The services; only [`ALL_IN_ONE`] may import them.
pub const SERVICES: &[&str] = &["policy-store", "decision", "gateway", "countersign"];

/// What may import a service: the all-in-one binary; the test harness, which is the same on free ports; and the load program, which
/// starts what it measures.
pub const ALL_IN_ONE: &[&str] = &["countersign", "harness", "load"];

/// The heavy packages of which the binary holds exactly one version.
pub const ONE_VERSION: &[&str] =
    &["tonic", "prost", "hyper", "rustls", "tokio", "aws-lc-rs", "http", "tower"];

/// What the binary does not hold at all: the second provider of cryptography, and the system's.
pub const ABSENT: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls"];
