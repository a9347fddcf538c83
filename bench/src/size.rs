//! How much there is to ship and to trust.

use std::{fs, io};

use crate::bench::Bench;
use crate::measure::print_table;

pub(crate) fn run(bench: &Bench) -> io::Result<()> {
    let lock = fs::read_to_string("Cargo.lock")?;
    print_table(
        &["binary MB", "packages in the lock file"],
        &[vec![
            format!("{:.1}", fs::metadata(&bench.knarr)?.len() as f64 / 1e6),
            lock.lines().filter(|line| *line == "[[package]]").count().to_string(),
        ]],
    );
    Ok(())
}
