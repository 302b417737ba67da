//! Files of usual and of odd kernels.

use super::*;

const STAT: &str =
    "cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 12 0\nbtime 1700000000\nctxt 9\n";

fn cpu(text: &str) -> CpuTimes {
    CpuTimes::parse(text).unwrap()
}

#[test]
fn cpu_time_leaves_out_idle_waiting_and_guests() {
    assert_eq!(
        cpu(STAT),
        CpuTimes {
            busy: 100 + 20 + 30 + 6 + 7 + 8,
            idle: 450
        }
    );
    assert_eq!(cpu("cpu  1 2 3 4\n"), CpuTimes { busy: 6, idle: 4 });
}

#[test]
fn cpu_time_of_a_damaged_file_is_unknown() {
    for text in [
        "",
        "cpu0 1 2 3 4\n",
        "cpu  1 2 3\n",
        "cpu  1 2 3 x\n",
        "cpu  1 2 3 -4\n",
        "cpu  \n",
    ] {
        assert_eq!(CpuTimes::parse(text), None, "{text:?}");
    }
}

#[test]
fn cpu_share_needs_time_that_passed_forwards() {
    let before = cpu("cpu  100 0 0 100\n");
    assert_eq!(cpu("cpu  125 0 0 175\n").share_since(before), Some(0.25));
    assert_eq!(cpu("cpu  100 0 0 175\n").share_since(before), Some(0.0));
    assert_eq!(cpu("cpu  200 0 0 100\n").share_since(before), Some(1.0));
    assert_eq!(before.share_since(before), None, "no time passed");
    assert_eq!(cpu("cpu  200 0 0 99\n").share_since(before), None, "idle went back");
    assert_eq!(cpu("cpu  99 0 0 200\n").share_since(before), None, "busy went back");
    let most = u64::MAX;
    assert_eq!(
        cpu(&format!("cpu  {most} {most} {most} {most}\n")).share_since(before),
        Some(1.0)
    );
}

#[test]
fn cpus_and_boot_time_come_from_stat() {
    assert_eq!(cpus(STAT), Some(2));
    assert_eq!(cpus("cpu  1 2 3 4\ncpufreq 1\n"), None);
    assert_eq!(boot_seconds(STAT), Some(1_700_000_000));
    assert_eq!(boot_seconds("cpu  1 2 3 4\n"), None);
}

#[test]
fn memory_in_use_is_what_is_not_available() {
    let memory =
        Memory::parse("MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 250 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n");
    assert_eq!(memory.total, Some(1_024_000));
    assert_eq!(memory.used(), Some(0.75));
    assert_eq!(memory.swap_used(), Some(0.0), "no swap");
}

#[test]
fn memory_of_odd_kernels_and_containers() {
    let old = Memory::parse("MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 100 kB\nCached: 300 kB\n");
    assert_eq!(old.used(), Some(0.5), "no MemAvailable");
    assert_eq!(old.swap_used(), None, "no word of swap");
    let zero = Memory::parse("MemTotal: 0 kB\nMemAvailable: 0 kB\n");
    assert_eq!(zero.used(), None);
    let limited = Memory::parse("MemTotal: 100 kB\nMemAvailable: 900 kB\nSwapTotal: 100 kB\nSwapFree: 25 kB\n");
    assert_eq!(
        limited.used(),
        Some(0.0),
        "a container's limit is below what the host has available"
    );
    assert_eq!(limited.swap_used(), Some(0.75));
    let huge = Memory::parse("MemTotal: 18446744073709551615 kB\nMemAvailable\nSwapTotal: x kB\n:\n");
    assert_eq!((huge.total, huge.used(), huge.swap_used()), (None, None, None));
}

#[test]
fn single_values() {
    assert_eq!(load_average("2.63 1.00 1.42 3/4280 2496732\n"), Some(2.63));
    assert_eq!(load_average(""), None);
    assert_eq!(open_files("1216\t0\t9223372036854775807\n"), Some(1216));
    assert_eq!(open_files("\n"), None);
    assert_eq!(ratio(1, 0), None);
}

#[test]
fn pressure_is_some_avg10_as_a_ratio() {
    let text =
        "some avg10=12.50 avg60=0.18 avg300=0.11 total=15677850\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";
    assert_eq!(pressure(text), Some(0.125));
    assert_eq!(
        pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
        Some(0.0),
        "before Linux 5.13"
    );
    assert_eq!(pressure("some avg10=100.01 avg60=0 avg300=0 total=0\n"), Some(1.0));
    for text in [
        "",
        "some",
        "some \n",
        "full avg10=1.00\n",
        "some avg10=x\n",
        "some avg60=1.00\n",
    ] {
        assert_eq!(pressure(text), None, "{text:?}");
    }
}

#[test]
fn interfaces_leave_out_loopback_headers_and_damaged_lines() {
    let text = "Inter-|   Receive                |  Transmit\n face |bytes    packets errs|bytes\n\
        \x20   lo:    3193  29 0 0 0 0 0 0  3193 29 0 0 0 0 0 0\n\
        \x20 eth0: 500 1 0 0 0 0 0 0 600 1 0 0 0 0 0 0\n\
        eth1:7 1 0 0 0 0 0 0 8 1 0 0 0 0 0 0\n\
        eth0:1: 9 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0\n\
        bad0: 1 2 3\n";
    let expected = [("eth0", [500, 600]), ("eth0:1", [9, 10]), ("eth1", [7, 8])];
    assert_eq!(
        interfaces(text),
        Counters::from(expected.map(|(name, bytes)| (name.to_owned(), bytes)))
    );
    assert_eq!(interfaces(""), Counters::new());
}
