//! Singletons that faults meet, one on each of some machines: how they are declared, counted and watched.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use wyneos_netns::{Network, PATIENCE};

/// The name of the singleton that begins on a machine.
pub fn name(host: usize) -> String {
    format!("leader-{host}")
}

/// Declares the singleton of a machine; `spare` takes it over. `program` is what it runs, as keys of a declaration.
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

/// The singletons of the machines 1 to `count`, and when they ended and were back.
pub struct Leaders<Whose> {
    count: usize,
    /// Whose a command line is, by the machine that it began on.
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

    /// How many processes there are of each.
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

    /// Looks until `enough`, and at no time sees two of one.
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

    /// When a singleton ended, and when it was back.
    pub fn seen(&self, host: usize) -> (Option<&Duration>, Option<&Duration>) {
        (self.ended.get(&host), self.back.get(&host))
    }

    pub fn each_runs_once(&self, network: &Network) {
        network.until("each runs once", PATIENCE, |_| {
            self.running().values().all(|count| *count == 1).then_some(())
        });
    }

    /// Deletes them all, and waits until they are gone.
    pub fn delete(&self, network: &Network) {
        for host in 1..=self.count {
            network.wynectl(&["delete", &name(host)]).unwrap();
        }
        network.until("all are gone", PATIENCE, |_| {
            self.running().values().all(|count| *count == 0).then_some(())
        });
    }
}
