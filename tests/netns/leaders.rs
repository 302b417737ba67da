//! Singletons affected by faults, one on each of several machines: declaration, counting and observation.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use wyneos_netns::{Network, PATIENCE};

/// Returns the name of the singleton that starts on a machine.
pub fn name(host: usize) -> String {
    format!("leader-{host}")
}

/// Declares the singleton of a machine, which moves to `spare`. `program` is the program, as keys of a declaration.
pub fn declare(network: &Network, host: usize, spare: usize, program: &str) {
    let text = format!(
        "name = \"{}\"\nsingleton = true\nreschedule_delay = \"0s\"\n{program}\n\
         constraints = [{{ key = \"node.name\", operator = \"in\", values = [\"node-{host}\", \"node-{spare}\"] }}]\n\
         affinity = [{{ key = \"node.name\", operator = \"in\", values = [\"node-{host}\"] }}]\n[stop]\ngrace = \"1s\"\n",
        name(host)
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let path = file.path().display().to_string();
    network.wynectl(&["apply", "-f", &path]).unwrap();
}

/// The singletons of machines 1 to `count`, with the times at which they ended and ran again.
pub struct Leaders<Whose> {
    count: usize,
    /// Returns the machine on which the singleton with a command line started.
    whose: Whose,
    pub ended: BTreeMap<usize, Duration>,
    pub back: BTreeMap<usize, Duration>,
}

impl<Whose: Fn(&[u8]) -> Option<usize>> Leaders<Whose> {
    pub fn new(count: usize, whose: Whose) -> Leaders<Whose> {
        Leaders {
            count,
            whose,
            ended: BTreeMap::new(),
            back: BTreeMap::new(),
        }
    }

    /// Returns the number of processes of each singleton.
    fn running(&self) -> BTreeMap<usize, usize> {
        let mut counts: BTreeMap<usize, usize> = (1..=self.count).map(|host| (host, 0)).collect();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if let Some(host) = (self.whose)(&command) {
                *counts.entry(host).or_default() += 1;
            }
        }
        counts
    }

    /// Observes the singletons until `enough` holds, and asserts that there are never two copies of one.
    pub fn watch(&mut self, began: Instant, mut enough: impl FnMut(&Self) -> bool) {
        while !enough(self) {
            for (host, count) in self.running() {
                let at = began.elapsed();
                assert!(count <= 1, "{}: {count} run {at:?} after its fault", name(host));
                if count == 0 {
                    self.ended.entry(host).or_insert(at);
                } else if self.ended.contains_key(&host) {
                    self.back.entry(host).or_insert(at);
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the times at which a singleton ended and ran again.
    pub fn seen(&self, host: usize) -> (Option<&Duration>, Option<&Duration>) {
        (self.ended.get(&host), self.back.get(&host))
    }

    pub fn each_runs_once(&self, network: &Network) {
        network.until("each runs once", PATIENCE, |_| {
            self.running().values().all(|count| *count == 1).then_some(())
        });
    }

    /// Deletes all singletons, and waits until they are gone.
    pub fn delete(&self, network: &Network) {
        for host in 1..=self.count {
            network.wynectl(&["delete", &name(host)]).unwrap();
        }
        network.until("all are gone", PATIENCE, |_| {
            self.running().values().all(|count| *count == 0).then_some(())
        });
    }
}
