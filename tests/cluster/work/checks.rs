//! Checks whose runners are killed: by a user, or by the kernel's out-of-memory killer.

use std::collections::BTreeSet;

use super::*;

fn with_token(token: &str) -> Vec<i32> {
    let sleeps =
        |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|command| command.starts_with(b"sleep\0"));
    processes_with(token).into_iter().filter(sleeps).collect()
}

#[tokio::test]
async fn a_check_whose_runner_is_killed_leaves_nothing_behind() {
    let site = Site::start(&["one"]).await;
    let token = format!("{}2", 80_000_000 + std::process::id());
    // A check that waits for its child, and one whose descendants have no session, parent or environment in common with
    // it.
    let programs = [
        format!("setsid sleep {token} & wait"),
        format!("env -i setsid -f sh -c 'env -i setsid -f sleep {token}'; sleep 1000"),
    ];
    let checks = programs.map(|program| {
        format!("[[checks]]\nexec = [\"/bin/sh\", \"-c\", {program:?}]\ninterval = \"1s\"\ntimeout = \"20s\"\nfailures = 1000\n")
    });
    site.apply(&format!(
        "name = \"app\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"setsid -f sleep {token}; exec sleep 1000\"]\n[limits]\npids = 16\n{}",
        checks.concat()
    ));
    let rows = site.runs("app", 1).await;
    // Descendants of the program itself are not ended with a check.
    let own = wait_until("the program has started what it starts", async || {
        with_token(&token).into_iter().min()
    })
    .await;
    let runners = || {
        let is_one = |pid: &i32| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(b"check")
        };
        site.processes("one").into_iter().filter(is_one).collect::<Vec<_>>()
    };
    let mut seen = BTreeSet::new();
    wait_until("runners were killed again and again", async || {
        let now = with_token(&token);
        assert!(now.len() <= 3 && now.contains(&own), "{now:?} are left of checks");
        let of_checks: Vec<i32> = now.into_iter().filter(|pid| *pid != own).collect();
        if of_checks.len() == 2 {
            seen.extend(of_checks);
            runners().into_iter().for_each(|pid| kill(pid, Signal::KILL));
        }
        (seen.len() >= 16).then_some(())
    })
    .await;
    wait_until("nothing is left of those that were killed", async || {
        let now = with_token(&token);
        let fresh = now.iter().filter(|pid| **pid != own).count();
        (fresh <= 2 && now.contains(&own)).then_some(())
    })
    .await;
    let after = site.runs("app", 1).await;
    assert_eq!(pids(&rows), pids(&after), "it was replaced: {:?}", status(&after[0]));
    assert!(site.ctl(&["delete", "app"]).status.success());
    wait_until("nothing is left", async || {
        (with_token(&token).is_empty() && site.processes("one").is_empty()).then_some(())
    })
    .await;
    site.ends().await;
}
