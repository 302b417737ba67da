//! A simulated host under a directory, and the real one.

use super::facts::machine_id;
use super::paced::Paced;
use super::usage::{Usage, within};
use super::{Sampler, facts, own};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use wyneos_core::telemetry::{Channel, Reading};

#[test]
fn a_paced_value_is_looked_up_again_when_it_has_paid_for_itself() {
    let start = Instant::now();
    let mut paced = Paced::new();
    let dear = || {
        std::thread::sleep(Duration::from_millis(1));
        Some(1)
    };
    assert_eq!(paced.get(start, dear), Some(&1));
    assert_eq!(paced.get(start + Duration::from_millis(1999), || Some(2)), Some(&1));
    assert_eq!(paced.get(start + Duration::from_secs(60), || None), None);
    assert_eq!(
        paced.get(start + Duration::from_secs(120), || Some(3)),
        Some(&3),
        "tried again after a failure"
    );
}

#[test]
fn a_machine_id_is_32_digits() {
    let id = "0123456789abcdef0123456789abcdef";
    assert_eq!(machine_id(&format!("{id}\n")).as_deref(), Some(id));
    for text in ["", "uninitialized\n", "0123", "0123456789ABCDEF0123456789ABCDEF"] {
        assert_eq!(machine_id(text), None, "{text:?}");
    }
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (file, text) in files {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn value(reading: &Reading, channel: Channel) -> Option<f32> {
    reading[channel.column()]
}

#[test]
fn a_host_that_shows_nothing_reads_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut sampler = Sampler::of(root.path(), &root.path().join("block"));
    let now = Instant::now();
    assert_eq!(sampler.read(now), [None; Channel::COUNT]);
    assert_eq!(sampler.read(now + Duration::from_secs(2)), [None; Channel::COUNT]);
}

#[test]
fn two_readings_of_a_made_up_host() {
    let root = tempfile::tempdir().unwrap();
    let (proc, block) = (root.path().join("proc"), root.path().join("block"));
    fs::create_dir_all(block.join("sda/slaves")).unwrap();
    write(
        &proc,
        &[
            ("stat", "cpu  100 0 0 100\ncpu0 1\ncpu1 1\n"),
            ("loadavg", "3.00 1.00 1.00 1/2 3\n"),
            (
                "meminfo",
                "MemTotal: 100 kB\nMemAvailable: 40 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
            ),
            ("diskstats", "8 0 sda 1 0 10 5 1 0 20 5 0 9 9\n"),
            ("net/dev", "eth0: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n"),
            ("sys/fs/file-nr", "77 0 1\n"),
            ("1/stat", ""),
            ("42/stat", ""),
            ("self/mountinfo", "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n"),
            ("pressure/memory", "some avg10=50.00 avg60=0 avg300=0 total=0\n"),
        ],
    );
    let mut sampler = Sampler::of(&proc, &block);
    let start = Instant::now();
    let first = sampler.read(start);
    assert_eq!(value(&first, Channel::CpuUsed), None);
    assert_eq!(value(&first, Channel::DiskRead), None);
    assert_eq!(value(&first, Channel::NetworkIn), None);

    write(
        &proc,
        &[
            ("stat", "cpu  150 0 0 150\ncpu0 1\ncpu1 1\n"),
            ("diskstats", "8 0 sda 1 0 14 5 1 0 28 5 0 9 9\n"),
            ("net/dev", "eth0: 1200 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n"),
        ],
    );
    let second = sampler.read(start + Duration::from_secs(2));
    for (channel, expected) in [
        (Channel::CpuUsed, Some(0.5)),
        (Channel::LoadPerCore, Some(1.5)),
        (Channel::MemoryUsed, Some(0.6)),
        (Channel::SwapUsed, Some(0.0)),
        (Channel::DiskRead, Some(1024.0)),
        (Channel::DiskWrite, Some(2048.0)),
        (Channel::NetworkIn, Some(100.0)),
        (Channel::NetworkOut, None),
        (Channel::FilesOpen, Some(77.0)),
        (Channel::Processes, Some(2.0)),
        (Channel::PressureCpu, None),
        (Channel::PressureMemory, Some(0.5)),
        (Channel::PressureIo, None),
    ] {
        assert_eq!(value(&second, channel), expected, "{channel:?}");
    }
    // Usage of disks is queried in parallel to the readings.
    let mut used = value(&second, Channel::DiskUsed);
    while used.is_none() && start.elapsed() < Duration::from_secs(30) {
        std::thread::yield_now();
        used = value(&sampler.read(start + Duration::from_secs(4)), Channel::DiskUsed);
    }
    assert!(used.is_some());
}

#[test]
fn a_disk_that_does_not_answer_is_not_waited_for() {
    let root = tempfile::tempdir().unwrap();
    let mountinfo = root.path().join("mountinfo");
    // Opening a pipe blocks until its other end is opened.
    rustix::fs::mkfifoat(rustix::fs::CWD, &mountinfo, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let usage = Usage::new(mountinfo.clone());
    assert_eq!(usage.used(), None);
    fs::write(&mountinfo, "27 1 8:1 / / rw - ext4 /dev/sda1 rw\n").unwrap();
    let begun = Instant::now();
    while usage.used().is_none() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::yield_now();
    }
    assert!(usage.used().is_some());
    assert_eq!(within(Duration::from_millis(1), std::thread::park), None);
    assert_eq!(within(Duration::from_secs(30), || 1), Some(1));
}

#[test]
fn this_host_reads_within_range() {
    let mut sampler = Sampler::new();
    sampler.read(Instant::now());
    std::thread::sleep(Duration::from_millis(50));
    let reading = sampler.read(Instant::now());
    for channel in Channel::ALL {
        let Some(value) = value(&reading, channel) else {
            continue;
        };
        assert!(value.is_finite() && value >= 0.0, "{channel:?}: {value}");
        if channel.name().ends_with(".used") || channel.name().starts_with("pressure.") {
            assert!(value <= 1.0, "{channel:?}: {value}");
        }
    }
    for channel in [Channel::LoadPerCore, Channel::MemoryUsed, Channel::Processes] {
        assert!(value(&reading, channel).is_some(), "{channel:?} of every Linux host");
    }
    assert!(value(&reading, Channel::Processes) >= Some(1.0));
}

#[test]
fn the_facts_of_this_host_are_plausible() {
    let facts = facts().unwrap();
    assert_eq!(facts.os, "linux");
    assert!(
        facts.cpus >= 1 && facts.memory_bytes > 1 << 20 && facts.boot_unix_millis > 0,
        "{facts:?}"
    );
    assert!(
        !facts.kernel.is_empty() && !facts.architecture.is_empty() && !facts.hostname.is_empty(),
        "{facts:?}"
    );
}

#[test]
fn this_process_uses_memory_and_time() {
    let before = own().unwrap();
    let started = Instant::now();
    let mut after = before;
    // A busy machine may take long to give this process a tick.
    while after.cpu_seconds <= before.cpu_seconds && started.elapsed() < Duration::from_secs(30) {
        after = own().unwrap();
    }
    assert!(after.rss_bytes > 100_000 && after.rss_bytes < 1 << 40, "{after:?}");
    assert!(after.cpu_seconds > before.cpu_seconds, "{before:?} {after:?}");
}
