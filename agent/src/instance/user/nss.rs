//! Users and their groups from the host's name service (NSS): queried with `getent` and `id`, which know every source
//! that the host is configured for, even if this binary is statically linked. If these programs are missing,
//! `/etc/passwd` and `/etc/group` are read.

use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::fs::{MemfdFlags, memfd_create};

use wyneos_core::workload::is_user;

use super::super::PATH;

/// Time limit for all queries about one user. Longer: a slow directory server is waited for; shorter: an instance that
/// cannot start reports it sooner.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Maximum size of an answer, bytes: 65,536 groups, the kernel's maximum, fit.
const ANSWER: u64 = 1024 * 1024;

/// Maximum number of supplementary groups of one user; the kernel's own bound.
const GROUPS: usize = 65_536;

/// The number that the kernel interprets as "unchanged"; no user and no group has it.
const NONE: u32 = u32::MAX;

/// A user in the name service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The reason for which a user could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupError {
    /// No source knows the user.
    #[error("there is no user {0:?} on this host")]
    Unknown(String),
    /// The name service did not answer, or its answer is unusable.
    #[error("cannot look up the user {user:?}: {reason}")]
    Failed {
        /// The user.
        user: String,
        /// The result.
        reason: String,
    },
}

/// Queries to the name service with a shared deadline.
pub(super) struct Lookup {
    deadline: Instant,
    sources: Sources,
}

/// The sources of answers; replaced by tests.
pub(super) struct Sources {
    /// Directories that are searched for `getent` and `id`, as in `PATH`.
    pub(super) path: String,
    /// The file that is read if they are missing.
    pub(super) passwd: &'static str,
    pub(super) group: &'static str,
}

impl Default for Sources {
    fn default() -> Sources {
        Sources {
            path: PATH.to_owned(),
            passwd: "/etc/passwd",
            group: "/etc/group",
        }
    }
}

impl Lookup {
    pub(super) fn new(sources: Sources, patience: Duration) -> Lookup {
        let deadline = Instant::now() + patience;
        Lookup { deadline, sources }
    }

    /// Looks up a user by name or number.
    ///
    /// A number without a user is accepted, with the group of the same number, unless that is another group's.
    pub(super) fn user(&self, name: &str) -> Result<Entry, LookupError> {
        let failed = |reason: String| LookupError::Failed {
            user: name.to_owned(),
            reason,
        };
        if !is_user(name) {
            return Err(failed(
                "not a user's name, nor a number from 0 to 4294967294".to_owned(),
            ));
        }
        let number = name.parse::<u32>().ok();
        // "007" is 7.
        let key = number.map_or_else(|| name.to_owned(), |number| number.to_string());
        let entry = self.entry("passwd", &key).map_err(failed)?;
        let entry = match (entry, number) {
            (Some(line), _) => parse_user(&line).ok_or_else(|| failed(format!("its entry is {line:?}")))?,
            (None, Some(number)) if number != NONE => {
                if self.entry("group", &key).map_err(failed)?.is_some() {
                    let reason =
                        "no user has this number, but a group does: create the user, or use another one".to_owned();
                    return Err(failed(reason));
                }
                Entry {
                    name: key,
                    uid: number,
                    gid: number,
                }
            }
            (None, _) => return Err(LookupError::Unknown(name.to_owned())),
        };
        // An answer about another user is invalid: programs differ in their parsing of numbers.
        if let Some(number) = number.filter(|number| *number != entry.uid) {
            return Err(failed(format!(
                "the name service answers with user {} for number {number}",
                entry.uid
            )));
        }
        match entry.uid == NONE || entry.gid == NONE {
            true => Err(failed(format!("{NONE} is no user's or group's number"))),
            false => Ok(entry),
        }
    }

    /// All groups of a user: the primary one and the supplementary ones, in order, each once.
    pub(super) fn groups(&self, user: &Entry) -> Result<Vec<u32>, LookupError> {
        let failed = |reason: String| LookupError::Failed {
            user: user.name.clone(),
            reason,
        };
        let mut groups = match self.ask("id", &["-G", &user.name]).map_err(failed)? {
            Answer::Said(status, text) if status.success() => {
                let parsed: Result<Vec<u32>, _> = text.split_whitespace().map(str::parse).collect();
                parsed.map_err(|_| failed(format!("`id -G` says {text:?}")))?
            }
            // A number without a user is in no group.
            Answer::Said(..) if user.name.parse() == Ok(user.uid) => Vec::new(),
            Answer::Said(status, _) => return Err(failed(format!("`id -G`: {status}"))),
            Answer::Absent => self.groups_of_file(user).map_err(failed)?,
        };
        groups.push(user.gid);
        groups.sort_unstable();
        groups.dedup();
        match groups.len() > GROUPS || groups.contains(&NONE) {
            true => Err(failed(format!("it is in {} groups; at most {GROUPS}", groups.len()))),
            false => Ok(groups),
        }
    }

    /// The line of a key in a database; `None` if no source has it.
    fn entry(&self, database: &str, key: &str) -> Result<Option<String>, String> {
        match self.ask("getent", &[database, key])? {
            Answer::Said(status, text) if status.success() => Ok(text.lines().next().map(str::to_owned)),
            // By getent(1): the key was not found.
            Answer::Said(status, _) if status.code() == Some(2) => Ok(None),
            Answer::Said(status, _) => Err(format!("`getent {database}`: {status}")),
            Answer::Absent => {
                let file = match database {
                    "group" => self.sources.group,
                    _ => self.sources.passwd,
                };
                let text = fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
                let field = |line: &str, at: usize| line.split(':').nth(at).map(str::to_owned);
                let named = text.lines().find(|line| field(line, 0).as_deref() == Some(key));
                let numbered = || text.lines().find(|line| field(line, 2).as_deref() == Some(key));
                Ok(named.or_else(numbered).map(str::to_owned))
            }
        }
    }

    fn groups_of_file(&self, user: &Entry) -> Result<Vec<u32>, String> {
        let file = self.sources.group;
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            // A host without groups has none for the user.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("cannot read {file}: {error}")),
        };
        let has = |members: &str| members.split(',').any(|member| member == user.name);
        let group = |line: &str| {
            let mut fields = line.split(':').skip(2);
            let (gid, members) = (fields.next()?, fields.next()?);
            has(members).then(|| gid.parse().ok())?
        };
        Ok(text.lines().filter_map(group).collect())
    }

    /// Runs one of the programs, and ends it at the deadline.
    fn ask(&self, program: &str, args: &[&str]) -> Result<Answer, String> {
        let told = |error: io::Error| format!("`{program}`: {error}");
        // A file and not a pipe: an answer of any length is written without a concurrent reader.
        let mut answer = File::from(memfd_create("answer", MemfdFlags::CLOEXEC).map_err(|error| told(error.into()))?);
        let mut child = Command::new(program);
        child
            .args(args)
            .env_clear()
            .env("PATH", &self.sources.path)
            .stdin(Stdio::null())
            .stdout(answer.try_clone().map_err(told)?)
            .stderr(Stdio::null());
        let mut child = match child.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Answer::Absent),
            Err(error) => return Err(told(error)),
        };
        let mut wait = Duration::from_micros(500);
        let status = loop {
            if let Some(status) = child.try_wait().map_err(told)? {
                break status;
            }
            if Instant::now() >= self.deadline {
                drop(child.kill());
                drop(child.wait());
                return Err(format!(
                    "`{program}` did not answer within {PATIENCE:?}: is the directory server reachable?"
                ));
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(20));
        };
        let mut text = Vec::new();
        answer.rewind().map_err(told)?;
        answer.take(ANSWER).read_to_end(&mut text).map_err(told)?;
        Ok(Answer::Said(status, String::from_utf8_lossy(&text).into_owned()))
    }
}

enum Answer {
    Said(ExitStatus, String),
    /// The program does not exist.
    Absent,
}

fn parse_user(line: &str) -> Option<Entry> {
    let mut fields = line.split(':');
    let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
    Some(Entry {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
    })
}
