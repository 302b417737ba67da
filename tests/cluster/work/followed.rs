//! Logs of a slot across its successive instances.

use std::process::Command;

use super::*;
use crate::harness::binary;

/// A running `wynectl logs -f`, and its output.
struct Reader {
    process: Process,
    directory: PathBuf,
}

impl Reader {
    fn start(site: &Site, name: &str) -> Reader {
        let directory = site.cluster.directory.path().join(format!("reader-{name}"));
        fs::create_dir(&directory).unwrap();
        let mut command = Command::new(binary("wynectl"));
        command.args(["--address", &site.cluster.address, "logs", name, "-f"]);
        command.env("COLUMNS", "200");
        let process = Process::with_output(command, &directory.join("out"), &directory.join("err"));
        Reader { process, directory }
    }

    fn has(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap()
    }

    /// Waits until exactly this was printed.
    async fn says(&self, out: &str) {
        wait_until(&format!("{out:?} is written"), async || {
            let now = self.has("out");
            assert!(out.starts_with(&now), "{now:?} instead of {out:?}");
            (now == out).then_some(())
        })
        .await;
    }

    async fn ends(&mut self) {
        let ended = self.process.ended().await;
        assert!(ended.success(), "{}", self.has("err"));
    }
}

const APP: &str = "name = \"app\"\ncommand = \"/bin/sh\"\n\
    args = [\"-c\", \"echo begin $WYNEOS_ASSIGNMENT; trap 'echo end $WYNEOS_ASSIGNMENT; exit 0' TERM; while true; do sleep 0.05; done\"]\n\
    [update]\nmin_healthy = \"100ms\"\n";

#[tokio::test]
async fn the_log_of_a_slot_goes_on_with_the_next_instance_and_reaches_the_one_before() {
    let mut site = Site::start(&["one", "two"]).await;
    site.apply(APP);
    let first = site.runs("app", 1).await.remove(0);
    let (mut slot, mut instance) = (Reader::start(&site, "app.0"), Reader::start(&site, &id(&first)));
    let mut said = format!("begin {}\n", id(&first));
    slot.says(&said).await;
    instance.says(&said).await;
    let none = site.ctl(&["logs", "app", "--previous"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none).contains("no instance before it"), "{}", text(&none));

    assert!(site.ctl(&["restart", "app", "--wait"]).status.success());
    let second = site.runs("app", 1).await.remove(0);
    said += &format!("end {}\n", id(&first));
    instance.says(&said).await;
    instance.ends().await;
    said += &format!("begin {}\n", id(&second));
    slot.says(&said).await;
    let moved = format!("app.0: continues as {} on {}\n", id(&second), second.node_name);
    assert_eq!(slot.has("err"), moved);

    let (from, to) = match second.node_name.as_str() {
        "one" => ("one", "two"),
        _ => ("two", "one"),
    };
    assert!(site.ctl(&["drain", from]).status.success());
    let third = site.runs("app", 1).await.remove(0);
    assert_eq!(third.node_name, to);
    let of_second = format!("begin {0}\nend {0}\n", id(&second));
    said += &format!("end {}\nbegin {}\n", id(&second), id(&third));
    slot.says(&said).await;
    assert_eq!(
        slot.has("err"),
        format!("{moved}app.0: continues as {} on {to}\n", id(&third))
    );

    // The previous instance, on the other node, and the one before it.
    for (name, before, expected) in [
        ("app.0".to_owned(), &second, of_second),
        (id(&second), &first, format!("begin {0}\nend {0}\n", id(&first))),
    ] {
        let shown = site.ctl(&["logs", &name, "--previous"]);
        assert!(shown.status.success(), "{}", text(&shown));
        assert_eq!(String::from_utf8_lossy(&shown.stdout), expected);
        let told = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert!(told.contains(&id(before)) && told.contains(&before.node_name), "{told}");
    }
    site.kill_agent(from).await;
    let away = wait_until("its node is away", async || {
        let told = site.ctl(&["logs", "app.0", "--previous"]);
        (!told.status.success()).then(|| text(&told))
    })
    .await;
    assert!(away.contains(&id(&second)) && away.contains(from), "{away}");

    assert!(site.ctl(&["delete", "app", "--wait"]).status.success());
    // The last output is removed with the instance.
    slot.ends().await;
    assert!(slot.has("out").starts_with(&said), "{}", slot.has("out"));
    site.ends().await;
}

#[tokio::test]
async fn the_log_of_a_part_of_a_batch_goes_on_until_the_part_is_done() {
    let site = Site::start(&["one"]).await;
    let go = site.cluster.directory.path().join("go");
    site.apply(&format!(
        "name = \"job\"\nkind = \"batch\"\nretries = 1\ncommand = \"/bin/sh\"\n\
         args = [\"-c\", \"echo try; while ! test -e {0}; do sleep 0.05; done; echo fails; exit 1\"]\n",
        go.display()
    ));
    site.runs("job", 1).await;
    let mut reader = Reader::start(&site, "job.0");
    reader.says("try\n").await;
    fs::write(&go, "").unwrap();
    reader.says("try\nfails\ntry\nfails\n").await;
    reader.ends().await;
    site.ends().await;
}
