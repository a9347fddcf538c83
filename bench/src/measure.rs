//! What the figures are made of: medians, percentiles, the noise of the machine, its disk, and the server's /proc.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use knarr_base::clock::{SharedClock, SystemClock};

use crate::process::proc_value;

static CLOCK: LazyLock<SharedClock> = LazyLock::new(SystemClock::shared);

/// Seconds of a monotonic clock.
pub(crate) fn now() -> f64 {
    CLOCK.monotonic().as_secs_f64()
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    CLOCK.now_ms()
}

/// Nobody unparks these threads, so this waits.
pub(crate) fn pause(time: Duration) {
    thread::park_timeout(time);
}

/// Least, middle and greatest of some runs.
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut runs: Vec<f64>) -> Self {
        runs.sort_by(f64::total_cmp);
        Self { min: runs[0], median: runs[runs.len() / 2], max: runs[runs.len() - 1] }
    }

    /// `median (min..max)` with so many decimals.
    pub(crate) fn show(&self, decimals: usize) -> String {
        let Self { min, median, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}..{max:.decimals$})")
    }
}

/// Percentile of a sorted list.
pub(crate) fn percentile(sorted: &[f64], percent: f64) -> f64 {
    sorted[((sorted.len() as f64 * percent / 100.0) as usize).min(sorted.len() - 1)]
}

/// Median seconds of appending 64 KiB with fdatasync below `dir`.
pub(crate) fn sync_p50(dir: &Path) -> io::Result<f64> {
    let path = dir.join("sync.probe");
    let mut file = File::create(&path)?;
    let block = vec![1u8; 64 * 1024];
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(now() - start);
    }
    fs::remove_file(path)?;
    times.sort_by(f64::total_cmp);
    Ok(percentile(&times, 50.0))
}

/// Seconds to copy `files` by two threads: read, write, fdatasync. What any export of so many bytes costs at least.
pub(crate) fn raw_copy(files: &[std::path::PathBuf], dir: &Path) -> io::Result<f64> {
    const BLOCK: usize = 1024 * 1024;
    let start = now();
    thread::scope(|scope| {
        let half = |turn: usize| {
            let out = dir.join(format!("raw.copy.{turn}"));
            let mut to = File::create(&out)?;
            let mut block = vec![0; BLOCK];
            for path in files {
                // Every file is split, so that both threads have half of the bytes however few files there are.
                let mut from = File::open(path)?;
                let middle = from.metadata()?.len() / 2;
                let mut left = if turn == 0 { middle } else { from.metadata()?.len() - middle };
                io::Seek::seek(&mut from, io::SeekFrom::Start(if turn == 0 { 0 } else { middle }))?;
                while left > 0 {
                    let n = from.read(&mut block[..BLOCK.min(left as usize)])?;
                    to.write_all(&block[..n])?;
                    left -= n as u64;
                }
            }
            to.sync_data()?;
            drop(to);
            Ok::<_, io::Error>(out)
        };
        let other = scope.spawn(move || half(1));
        let outs = [half(0)?, other.join().expect("copying does not panic")?];
        let seconds = now() - start;
        outs.iter().try_for_each(fs::remove_file)?;
        Ok(seconds)
    })
}

/// Processors' worth of work that anything but the watched processes did: 0 is a quiet machine.
pub(crate) struct Noise {
    start: f64,
    busy: f64,
    own: f64,
    pids: Vec<u32>,
}

impl Noise {
    /// Watches from now on; this process and `pid` are not noise.
    pub(crate) fn start(pid: u32) -> Self {
        let mut pids = vec![std::process::id(), pid];
        pids.dedup();
        Self { start: now(), busy: machine_ticks(), own: pids.iter().map(|p| cpu_ticks(*p)).sum(), pids }
    }

    /// Foreign processors since the start.
    pub(crate) fn read(&self) -> f64 {
        let own: f64 = self.pids.iter().map(|p| cpu_ticks(*p)).sum::<f64>() - self.own;
        ((machine_ticks() - self.busy - own) / ticks_per_second() / (now() - self.start)).max(0.0)
    }
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn machine_ticks() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> =
        text.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    // user, nice, system, irq, softirq; not idle, iowait or time stolen by the host
    [0, 1, 2, 5, 6].iter().filter_map(|i| fields.get(*i)).sum()
}

/// User and system time of a process so far.
pub(crate) fn cpu_ticks(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold blanks; counted from its end, utime and stime are fields 12 and 13.
    let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    after.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<f64>().ok()).sum()
}

/// Waits until a server does nothing any more: flushes and compactions are over.
pub(crate) fn settle(pid: u32) -> f64 {
    let start = now();
    let mut quiet = 0;
    while quiet < 10 && now() - start < 300.0 {
        let before = cpu_ticks(pid);
        pause(Duration::from_millis(200));
        let busy = (cpu_ticks(pid) - before) / ticks_per_second() / 0.2;
        quiet = if busy < 0.06 { quiet + 1 } else { 0 };
    }
    (now() - start - 0.2 * f64::from(quiet)).max(0.0)
}

/// Greatest anonymous memory of a process while this lives.
pub(crate) struct Peak {
    idle_kib: u64,
    peak_kib: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peak {
    pub(crate) fn watch(pid: u32) -> Self {
        let anonymous = move || proc_value(pid, "status", "RssAnon");
        let (peak_kib, stop) = (Arc::new(AtomicU64::new(anonymous())), Arc::new(AtomicBool::new(false)));
        let (peak, stopped) = (peak_kib.clone(), stop.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous(), Ordering::Relaxed);
                pause(Duration::from_millis(5));
            }
        });
        Self { idle_kib: anonymous(), peak_kib, stop, thread: Some(thread) }
    }

    /// MiB above what it was at the start.
    pub(crate) fn over_idle_mib(mut self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.peak_kib.load(Ordering::Relaxed).saturating_sub(self.idle_kib) as f64 / 1024.0
    }
}

/// A table in Markdown, columns aligned.
pub(crate) fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let line = |cells: Vec<String>| {
        let padded = cells.iter().enumerate().map(|(at, cell)| format!("{cell:<w$}", w = width(at)));
        println!("| {} |", padded.collect::<Vec<_>>().join(" | "));
    };
    line(head.iter().map(|s| (*s).to_owned()).collect());
    line((0..head.len()).map(|at| "-".repeat(width(at))).collect());
    rows.iter().for_each(|row| line(row.clone()));
}
