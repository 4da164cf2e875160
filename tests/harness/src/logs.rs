//! Everything that this process logs, kept in memory: so that a test can look for what must not be there.

use std::{
    io::{self, Write},
    sync::{Mutex, Once, PoisonError},
};

use tracing_subscriber::{EnvFilter, fmt};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static STARTED: Once = Once::new();

#[derive(Clone, Copy)]
struct Kept;

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps all of Countersign's own lines, and of libraries all but the traces. `RUST_LOG` does not change it: what is looked for must
/// be absent from the most talkative log.
pub fn capture() {
    STARTED.call_once(|| {
        let filter = EnvFilter::new("debug,countersign=trace");
        let lines = fmt().with_env_filter(filter).with_ansi(false).with_writer(|| Kept).finish();
        // Another logger may have been started by the test: then there is nothing to keep.
        let _ = tracing_subscriber::util::SubscriberInitExt::try_init(lines);
    });
}

/// What has been logged so far, of all systems of this process.
#[must_use]
pub fn logs() -> String {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&lines).into_owned()
}
