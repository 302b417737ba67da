//! Commands that `wynectl dev` prints for another terminal; they work as printed.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use wyneos_shell::files;

use super::{DevArgs, DevError, LISTEN, control::Action, secure};

/// An example declaration: a program that every machine has, which writes a line periodically.
const EXAMPLE: &str = r#"name = "demo"
replicas = 3
command = "/bin/sh"
args = ["-c", "while :; do date; sleep 2; done"]
reschedule_delay = "0s"
"#;

/// Writes the example into the cluster's directory, unless it exists; returns its path.
pub(super) fn write_example(directory: &Path) -> Result<PathBuf, DevError> {
    let path = directory.join("demo.toml");
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let written = files::write_whole(&path, EXAMPLE.as_bytes(), 0o644);
            written.map_err(DevError::system(format!("write {}", path.display())))?;
        }
        _ => {}
    }
    Ok(path)
}

/// A word quoted for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+[]".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A command, indented, in lines of at most `most` columns, which a shell reads as one; a longer word is not broken.
pub(super) fn command_lines(words: &[String], most: usize) -> String {
    let (mut told, mut line) = (String::new(), " ".to_owned());
    for (at, word) in words.iter().enumerate() {
        // A blank and a backslash follow, except after the last word.
        let after = if at + 1 < words.len() { 2 } else { 0 };
        if at > 0 && line.chars().count() + 1 + word.chars().count() + after > most {
            told += &format!("{line} \\\n");
            line = " ".repeat(5);
        }
        line += &format!(" {word}");
    }
    told + &line
}

/// A command after `lead` if there is room for both, otherwise below it.
pub(super) fn behind(lead: &str, words: &[String], most: usize) -> String {
    let one = format!("{lead} {}", words.join(" "));
    match one.chars().count() <= most {
        true => one,
        false => format!("{lead}\n{}", command_lines(words, most)),
    }
}

/// The name with which to call this program: its file name if the shell finds it, otherwise its path.
fn own_name() -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let own = env::current_exe().ok();
    let on_path = env::split_paths(&path).any(|directory| {
        let found = directory.join("wynectl").canonicalize().ok();
        found.is_some() && found == own.as_ref().and_then(|own| own.canonicalize().ok())
    });
    if on_path {
        return "wynectl".to_owned();
    }
    // As it was typed, if that works from the same directory in another terminal.
    let typed = env::args().next().filter(|typed| typed.contains('/'));
    typed
        .or_else(|| own.map(|own| own.display().to_string()))
        .unwrap_or_else(|| "wynectl".to_owned())
}

/// `wynectl dev ACTION NAME` for this cluster, as words.
pub(super) fn action(args: &DevArgs, action: Action, name: &str) -> Vec<String> {
    let mut words = vec![quoted(&own_name())];
    words.extend(["dev", action.word(), name].map(str::to_owned));
    if args.listen != LISTEN {
        words.extend(["--listen".to_owned(), args.listen.to_string()]);
    }
    words
}

/// Suggested commands for another terminal, in order.
pub(super) fn commands(args: &DevArgs, directory: &Path, example: &Path) -> Vec<Vec<String>> {
    let own = |words: &[&str]| {
        let mut all = vec![quoted(&own_name())];
        if args.listen != LISTEN {
            all.extend(["--address".to_owned(), args.listen.to_string()]);
        }
        all.extend(words.iter().map(|word| quoted(word)));
        all
    };
    let mut commands = Vec::new();
    let credentials = quoted(&secure::admin(directory).display().to_string());
    if args.tls {
        commands.push(vec!["export".to_owned(), format!("WYNEOS_CREDENTIALS={credentials}")]);
    }
    let example = example.display().to_string();
    let some = format!("node-{}", args.agents.min(2));
    commands.extend([
        own(&["nodes"]),
        own(&["apply", "-f", &example]),
        own(&["assignments"]),
        action(args, Action::Kill, &some),
        own(&["why", &some]),
        action(args, Action::Start, &some),
        own(&["mesh"]),
        own(&["telemetry", "node-1"]),
        own(&["events", "--follow"]),
        own(&["snapshot", "verify"]),
    ]);
    for words in [&["list"][..], &["wyneos.v1.ClusterService/ListNodes"]] {
        commands.push(grpcurl(args, words));
    }
    commands
}

fn grpcurl(args: &DevArgs, words: &[&str]) -> Vec<String> {
    let way: &[&str] = match args.tls {
        true => &[
            "-cacert",
            "$WYNEOS_CREDENTIALS/ca.pem",
            "-cert",
            "$WYNEOS_CREDENTIALS/cert.pem",
            "-key",
            "$WYNEOS_CREDENTIALS/key.pem",
        ],
        false => &["-plaintext"],
    };
    let listen = args.listen.to_string();
    let all = ["grpcurl"].iter().chain(way).copied();
    let all = all.chain([listen.as_str()]).chain(words.iter().copied());
    all.map(str::to_owned).collect()
}
