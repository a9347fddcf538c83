//! How a command ends: one exit code per thing a script can do about it.

use std::fmt;
use std::process::ExitCode;

/// What the process tells the shell. The table is part of the interface (`knarr --help`, README).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The operation or the task failed, or a person who was asked said no.
    Failed = 1,
    /// The command line, a setting or a file given to the command is wrong.
    Usage = 2,
    /// No answer from the server.
    Unreachable = 3,
    /// Keys missing, unknown, or without the right.
    Denied = 4,
    /// No such collection, row, task, bucket, object or key.
    NotFound = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

/// Why a command did not succeed: a sentence for the person who ran it, and the code for the script.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    /// The server's own code, where it answered with one.
    code: Option<i64>,
}

/// Result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// `message`: lower case, no full stop, names the object.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), code: None }
    }

    /// The operation failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// What was typed cannot be done.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// A local file could not be read or written.
    pub(crate) fn file(path: &str, error: impl fmt::Display) -> Self {
        Self::usage(format!("{path}: {error}"))
    }

    /// The server's refusal, by the codes of docs/wire/vikingdb.md section 2.1.
    pub(crate) fn refused(status: u16, code: i64, message: &str) -> Self {
        let exit = match (code, status) {
            (1_000_001 | 1_000_002, _) | (_, 401 | 403) => Exit::Denied,
            (1_000_005 | 1_000_008 | 1_000_011 | 1_000_031 | 1_000_035, _) | (_, 404) => Exit::NotFound,
            _ => Exit::Failed,
        };
        Self { exit, message: message.to_owned(), code: Some(code) }
    }

    /// Says first what was being done.
    pub(crate) fn during(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Prints to stderr, as one line of JSON when asked, and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let exit = self.exit as u8;
        if json {
            let body = serde_json::json!({"error": {"exit": exit, "code": self.code, "message": self.message}});
            eprintln!("{body}");
        } else {
            eprintln!("knarr: {self}");
        }
        ExitCode::from(exit)
    }

    #[cfg(test)]
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} (code {code})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl From<std::io::Error> for Failure {
    /// Terminals, pipes and temporary files; named files go through [`Failure::file`].
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<knarr_base::Error> for Failure {
    fn from(error: knarr_base::Error) -> Self {
        Self::failed(error.chain())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_map_to_what_a_script_can_do() {
        for (status, code, exit) in [
            (401, 1_000_001, Exit::Denied),
            (403, 1_000_002, Exit::Denied),
            (400, 1_000_005, Exit::NotFound),
            (404, 1_000_035, Exit::NotFound),
            (404, 1_000_024, Exit::NotFound),
            (400, 1_000_003, Exit::Failed),
            (429, 1_000_029, Exit::Failed),
            (500, 1_000_028, Exit::Failed),
        ] {
            assert_eq!(Failure::refused(status, code, "x").exit(), exit, "{status} {code}");
        }
    }
}
