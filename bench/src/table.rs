//! Numbers of several rounds as rows of Markdown.

use std::fs;

/// The machine in a line.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or("");
        line.split(':').nth(1).unwrap_or("?").trim().to_owned()
    };
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cpus} × {}, memory {}, Linux {}, load average before {}",
        after(&read("/proc/cpuinfo"), "model name"),
        after(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or("?"),
    )
}

/// The least of several rounds: what others on the machine took comes on top of it.
pub(crate) fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

/// The greatest of several rounds.
pub(crate) fn greatest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

/// The value below which so many per cent of all lie.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Prints a table's head.
pub(crate) fn head(title: &str, columns: &[&str]) {
    println!("## {title}\n");
    row(columns.iter().copied());
    row(columns.iter().map(|_| "---"));
}

/// Prints a row.
pub(crate) fn row(cells: impl IntoIterator<Item = impl AsRef<str>>) {
    let cells: Vec<String> = cells.into_iter().map(|c| c.as_ref().to_owned()).collect();
    println!("| {} |", cells.join(" | "));
}
