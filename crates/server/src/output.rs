//! What a command shows: tables or JSON on stdout, questions and progress on stderr.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, TableComponent, presets};
use indicatif::{ProgressBar, ProgressStyle};
use knarr_base::clock::{SharedClock, SystemClock};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::failure::{Failure, Result};

/// Characters of a value in a table cell before it is cut.
const CELL_CHARS: usize = 48;
/// Time between two moves of a bar that has no news.
const BAR_TICK: Duration = Duration::from_millis(200);
/// Time between two lines of progress; what is done sooner prints none.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Where results go, and in which form.
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// True if every result shall be one JSON document.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// A line with `json`, or with what `human` makes of it.
    pub(crate) fn show(&self, json: &str, human: impl FnOnce() -> String) -> Result<()> {
        let text = if self.json { json.to_owned() } else { human() };
        let mut stdout = io::stdout().lock();
        match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            // `| head` has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            shown => Ok(shown?),
        }
    }

    /// A remark on the way to the result; none when JSON was asked for.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// Progress of `what`; a bar on a terminal, lines otherwise, nothing with JSON.
    pub(crate) fn progress(&self, what: &str) -> Progress {
        Progress::new(what, !self.json)
    }
}

/// True if a person can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on stderr; anything but `y` or `yes` is no.
pub(crate) fn ask(question: &str) -> Result<bool> {
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Goes on if `yes` was given or a person agrees.
pub(crate) fn agree(yes: bool, question: &str) -> Result<()> {
    if yes {
        Ok(())
    } else if !can_ask() {
        Err(Failure::usage("nobody to ask here: give --yes"))
    } else if ask(question)? {
        Ok(())
    } else {
        Err(declined())
    }
}

/// The end of a command whose question was answered with no.
pub(crate) fn declined() -> Failure {
    Failure::failed("stopped: the answer was no, so nothing was done")
}

/// A table of texts.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = blank_table();
    table.set_header(head);
    rows.into_iter().for_each(|row| {
        table.add_row(row);
    });
    table.to_string()
}

/// A JSON object with its members in the order they came.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Row(pub(crate) Vec<(String, Value)>);

impl Row {
    /// The member of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Row;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Row(members))
            }
        }
        from.deserialize_map(Members)
    }
}

/// A table of rows: one column per member, in the order they first appear.
pub(crate) fn rows_table(rows: &[Row]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.0) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let mut table = blank_table();
    table.set_header(&names);
    for row in rows {
        table.add_row(names.iter().map(|name| row.get(name).map_or_else(String::new, cell)));
    }
    table.to_string()
}

fn blank_table() -> Table {
    let mut table = Table::new();
    // As wide as it is: an id that is broken over lines cannot be copied.
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table
}

/// A value as a short text: strings bare, long lists cut with their length.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.len() > 6 => {
            let head: Vec<String> = items.iter().take(4).map(Value::to_string).collect();
            return format!("[{}, ... {} in all]", head.join(", "), items.len());
        }
        other => other.to_string(),
    };
    match text.char_indices().nth(CELL_CHARS) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

/// Bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}

/// A count for people: 1,234,567.
pub(crate) fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// How far something is, in percent and words.
pub(crate) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere: lines that are far enough apart to be read.
    Lines { what: String, clock: SharedClock, last: Duration },
    /// JSON was asked for.
    Silent,
}

impl Progress {
    fn new(what: &str, shown: bool) -> Self {
        if !shown {
            return Self::Silent;
        }
        if !io::stderr().is_terminal() {
            return Self::Lines { what: what.to_owned(), clock: SystemClock::shared(), last: Duration::ZERO };
        }
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos:>3}% {elapsed} {msg}")
            .expect("the template is a constant of known keys")
            .progress_chars("=> ");
        let bar = ProgressBar::new(100).with_style(style).with_prefix(what.to_owned());
        bar.enable_steady_tick(BAR_TICK);
        Self::Bar(bar)
    }

    /// Shows `percent` and a few words.
    pub(crate) fn at(&mut self, percent: u64, words: &str) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(words.to_owned());
                bar.set_position(percent);
            }
            Self::Lines { what, clock, last } => {
                let now = clock.monotonic();
                if now >= *last + LINE_EVERY {
                    *last = now;
                    eprintln!("{what} {percent}% {words}");
                }
            }
            Self::Silent => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_cut_what_is_long_and_keep_every_column() {
        let rows = format!(r#"[{{"id":1,"v":{:?}}},{{"id":2,"city":"{}"}}]"#, [0.5; 64], "x".repeat(100));
        let rows: Vec<Row> = serde_json::from_str(&rows).expect("JSON");
        let text = rows_table(&rows);
        assert!(text.contains("64 in all") && text.contains("..."), "{text}");
        let head = text.lines().next().expect("a header");
        assert_eq!(head.split_whitespace().collect::<Vec<_>>(), ["id", "v", "city"]);
        assert_eq!(count(1_234_567), "1,234,567");
    }
}
