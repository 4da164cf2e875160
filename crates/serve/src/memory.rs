//! What a process holds in memory is not written anywhere when it crashes, and no other process of its user may read it.
//!
//! It knows nothing of what is secret: keys, tokens and proofs are in memory for moments or for days, and a core file has them all. Root
//! can still attach a debugger.

/// No core file, for whoever is told of crashes either (`core_pattern`), and nothing for `ptrace` or `/proc/…/mem` but to root. Elsewhere
/// than on Linux it does nothing.
///
/// # Errors
/// With what the system said; the process is as it was then.
#[cfg(target_os = "linux")]
pub fn keep_to_ourselves() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, nothing)?;
    // A program that core files are piped to is not held by the limit (core(5)), but by this.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// As on Linux, where it does something.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn keep_to_ourselves() -> std::io::Result<()> {
    Ok(())
}

/// The same at the start of a program: where the system does not let it, that is said, and the program goes on.
pub fn keep_or_say(program: &str) {
    if let Err(error) = keep_to_ourselves() {
        eprintln!(
            "{program}: a crash may leave its memory in a core file, which has secrets: {error}"
        );
    }
}
