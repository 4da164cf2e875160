//! What the system says of the process: memory, processor time, and when its certificate ends.

use std::fs;

use super::Metrics;
use crate::tls::Tls;

/// Linux counts in ticks of a hundredth of a second (proc_pid_stat(5)); no kernel that this runs on has another number.
const TICKS: f64 = 100.0;
/// Of a page of memory, in bytes.
const PAGE: f64 = 4096.0;

/// Puts it on the page. Where there is no /proc, the rows are not there.
pub fn read(metrics: &Metrics) {
    metrics.read_gauge("process_resident_bytes", "Memory that the process holds", || {
        let statm = fs::read_to_string("/proc/self/statm").ok()?;
        let pages: f64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * PAGE)
    });
    metrics.read_counter("process_cpu_seconds", "Processor time, of all threads", || {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is a name, which may hold anything but ends with the last parenthesis.
        let (_, rest) = stat.rsplit_once(") ")?;
        let ticks = |place: usize| rest.split(' ').nth(place)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) / TICKS)
    });
}

/// Puts on the page when the certificate ends, in seconds since 1970.
pub fn read_certificate(metrics: &Metrics, tls: &Tls) {
    let tls = tls.clone();
    metrics.read_gauge(
        "certificate_not_after_seconds",
        "When the certificate ends, in seconds since 1970",
        move || Some(tls.not_after() as f64),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen() {
        let metrics = Metrics::default();
        read(&metrics);
        let page = metrics.page();
        let number = |name: &str| -> f64 {
            let line = page.lines().find(|line| line.starts_with(name));
            let line = line.unwrap_or_else(|| panic!("{name} is not in {page}"));
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(number("countersign_process_resident_bytes ") > 1_000_000.0, "{page}");
        assert!(number("countersign_process_cpu_seconds_total ") >= 0.0, "{page}");
    }
}
