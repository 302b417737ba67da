//! Exit codes: 0 done; 1 the server refused or failed, or something here did; 2 the command line is wrong; 3 the server
//! cannot be reached; 4 verification or a
//! simulated expectation failed; 5 what was asked for does not exist.

use std::process::ExitCode;

/// How wynectl ends. The numbers are documented, and scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The server refused or failed, or something on this machine did.
    Failed = 1,
    /// The command line is wrong. clap ends with the same number.
    Usage = 2,
    /// The server cannot be reached.
    Unreachable = 3,
    /// Verification failed, or an expectation of a scenario.
    Unverified = 4,
    /// What was asked for does not exist.
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
  1  the server refused or failed, or something on this machine did
  2  the command line is wrong
  3  the server cannot be reached
  4  verification failed, or an expectation of a scenario
  5  what was asked for does not exist

Environment:
  WYNEOS_ADDRESS      stands for --address
  WYNEOS_CONTEXT      stands for --context
  WYNEOS_CREDENTIALS  stands for --credentials
  NO_COLOR            when it is not empty, no colours; there are none either when output is no terminal";
