//! Exit codes: 0 success; 1 the server refused or failed, or a local operation failed; 2 invalid command line; 3 the
//! server cannot be reached; 4 verification or a simulated expectation failed; 5 the requested object does not exist.

use std::process::ExitCode;

/// Exit code of wynectl. The numbers are documented, and scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The server refused or failed, or a local operation failed.
    Failed = 1,
    /// Invalid command line. clap exits with the same number.
    Usage = 2,
    /// The server cannot be reached.
    Unreachable = 3,
    /// Verification failed, or an expectation of a scenario.
    Unverified = 4,
    /// The requested object does not exist.
    NotFound = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// The footer of `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  1  the server refused or failed, or a local operation failed
  2  invalid command line
  3  the server cannot be reached
  4  verification failed, or an expectation of a scenario
  5  the requested object does not exist

Environment:
  WYNEOS_ADDRESS      same as --address
  WYNEOS_CONTEXT      same as --context
  WYNEOS_CREDENTIALS  same as --credentials
  NO_COLOR            no colours if it is not empty; output to anything but a terminal never has colours";
